"""The numbers that engines, policies and the optimum read of a scenario."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from kdsim.model.curves import FloatArray, unit_times
from kdsim.model.link import Link
from kdsim.model.rate_region import RateRegion, rate_region


@dataclass(frozen=True, eq=False)
class Plan:
    """The planned work and the rates of one scenario.

    Attributes
    ----------
    comm, forward, backward : (N,) or (..., N) float array
        Work of each task, data units and compute units; leading dimensions are replications.
    comm_rates, comp_rates : (c_total + 1,) float array
        r(c) and q(c), work per second, indexed by communication cores.
    prefetch : int
        Logit batches the device can hold; 0 means no limit.
    release, reallocation_cost : float
        Seconds; see `Extensions`.
    link : Link, optional
        How the data reach the device; None if they are all there from the beginning.
    """

    comm: FloatArray
    forward: FloatArray
    backward: FloatArray
    comm_rates: FloatArray
    comp_rates: FloatArray
    prefetch: int = 0
    release: float = 0.0
    reallocation_cost: float = 0.0
    link: Link | None = None

    @property
    def cycles(self) -> int:
        """Number of cycles, N."""
        return int(self.comm.shape[-1])

    @property
    def c_total(self) -> int:
        """Number of cores."""
        return self.comm_rates.size - 1

    @functools.cached_property
    def comm_unit_times(self) -> FloatArray:
        """g(1, c): seconds a data unit, by communication cores; infinite without a core."""
        return unit_times(self.comm_rates)

    @functools.cached_property
    def comp_unit_times(self) -> FloatArray:
        """f(1, c): seconds a compute unit, by communication cores; infinite without a core."""
        return unit_times(self.comp_rates)

    @functools.cached_property
    def region(self) -> RateRegion:
        """The rate region of the two curves."""
        return rate_region(self.comm_rates, self.comp_rates)

    def read_only(self) -> Plan:
        """Return the same plan for a policy's eyes: whoever writes to its arrays gets an error."""
        names = ("comm", "forward", "backward", "comm_rates", "comp_rates")
        views = {name: getattr(self, name).view() for name in names}
        for view in views.values():
            view.flags.writeable = False
        return replace(self, **views)

    def with_work(self, comm: FloatArray, forward: FloatArray, backward: FloatArray) -> Plan:
        """Return the same device under other work, e.g. the realised work of one replication."""
        return Plan(
            comm, forward, backward, self.comm_rates, self.comp_rates,
            self.prefetch, self.release, self.reallocation_cost, self.link,
        )  # fmt: skip
