"""What runs give back: makespan, gap, segments, timeline; samples and comparisons of many."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kdsim.curves import FloatArray
from kdsim.errors import UnknownPolicyError
from kdsim.faults import did_you_mean
from kdsim.recording import Interval
from kdsim.statistics import mean_interval, paired_difference, replications_needed

if TYPE_CHECKING:
    import pandas as pd

    from kdsim.plan import Plan
    from kdsim.scenario import Scenario

#: The paper's scenario labels of a segment.
WAITED, PARALLEL, COMP_ALONE = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Segment:
    """One of the paper's N + 1 segments; segment i ends when Backward_i starts.

    Attributes
    ----------
    index : int
        1..N+1.
    duration : float
        Seconds.
    scenario : int
        1: computation waited for communication; 2: in parallel; 3: computation alone, after all
        communication had ended.
    comm_cores : float
        Time average of the communication cores.
    """

    index: int
    duration: float
    scenario: int
    comm_cores: float


@dataclass(frozen=True, eq=False)
class Run:
    """One simulated run.

    Attributes
    ----------
    scenario, policy : str
        Names.
    seed, replication : int
        Of the run's randomness.
    makespan : float
        Seconds until the last Backward is done, T_total.
    minimal_makespan : float
        The proven optimum of the run's realised work, or a lower bound where `bound_kind` says so.
    bound_kind : str
        ``"optimum"`` or ``"lower bound"``.
    counters : dict
        ``decisions`` (times the policy was asked), ``reallocations`` (changes of the core split),
        ``wait_s`` (computation waited for logits), ``stall_s`` (lost to reallocation).
    intervals : sequence of Interval
        The whole run in order; see `timeline`.
    """

    scenario: str
    policy: str
    seed: int
    replication: int
    makespan: float
    minimal_makespan: float
    bound_kind: str
    counters: dict[str, float]
    intervals: Sequence[Interval] = field(repr=False)
    backward_starts: Sequence[float] = field(repr=False)
    forward_ends: Sequence[float] = field(repr=False)
    comm_ends: Sequence[float] = field(repr=False)
    plan: Plan = field(repr=False)

    @property
    def gap(self) -> float:
        """``makespan / minimal_makespan - 1``, zero or more up to rounding."""
        return self.makespan / self.minimal_makespan - 1.0

    @functools.cached_property
    def segments(self) -> list[Segment]:
        """The segments t_1 .. t_{N+1}; their durations sum to the makespan."""
        return list(self.iter_segments())

    def iter_segments(self) -> Iterator[Segment]:
        """Yield the segments one by one: those of a long run need not be in memory at once."""
        all_comm, last = self.comm_ends[-1], len(self.backward_starts)
        cores = _mean_cores(self.intervals, itertools.chain(self.backward_starts, [self.makespan]))
        begin = 0.0
        for i, (end, comm_cores) in enumerate(cores):
            if i == last or begin >= all_comm:
                label = COMP_ALONE
            elif self.comm_ends[i] > self.forward_ends[i]:
                label = WAITED
            else:
                label = PARALLEL
            yield Segment(i + 1, end - begin, label, comm_cores)
            begin = end

    @functools.cached_property
    def timeline(self) -> pd.DataFrame:
        """One row per stretch: start, end, comm_cores, comp_cores, comm, comp, stage, stalled.

        `comm` and `comp` are cycle numbers from 1, 0 where that side does not work.
        """
        import pandas as pd

        header, *rows = self.timeline_rows()
        return pd.DataFrame(rows, columns=list(header))

    def timeline_rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the column names of `timeline` and then its rows, one by one."""
        yield "start", "end", "comm_cores", "comp_cores", "comm", "comp", "stage", "stalled"
        for start, end, cores, comm, comp, stage, stalled in self.intervals:
            rest = self.plan.c_total - cores
            yield start, end, cores, rest, comm + 1, comp + 1, stage, stalled

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the timeline; see `kdsim.plots.timeline`."""
        from kdsim import plots

        return plots.timeline(self, ax=ax, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as ``kdsim run --json`` prints it."""
        segments = [asdict(segment) for segment in self.iter_segments()]
        return {**self.summary(), "segments": segments, "counters": self.counters}

    def summary(self) -> dict[str, Any]:
        """Return what `to_dict` returns before the segments."""
        return {
            "scenario": self.scenario,
            "policy": self.policy,
            "seed": self.seed,
            "replication": self.replication,
            "makespan": self.makespan,
            "minimal_makespan": self.minimal_makespan,
            "bound_kind": self.bound_kind,
            "gap": self.gap,
        }


def _mean_cores(
    intervals: Iterable[Interval], ends: Iterable[float]
) -> Iterator[tuple[float, float]]:
    """Yield the end of each of consecutive segments and its mean communication cores."""
    pieces = iter(intervals)
    piece = next(pieces, None)
    begin = 0.0
    for end in ends:
        area, at, last = 0.0, begin, 0
        while piece is not None and at < end:
            last = piece.comm_cores
            stop = min(piece.end, end)
            area += (stop - at) * last
            at = stop
            if piece.end <= end:
                piece = next(pieces, None)
        yield end, area / (end - begin) if end > begin else float(last)
        begin = end


# --- many runs --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The makespans of one policy at one point of a sweep.

    Attributes
    ----------
    point : dict
        The swept fields and their values, in the order of the scenario; empty without a sweep.
    policy : str
        Name of the policy.
    makespans : (n,) float array
        Seconds, replication 0..n-1; one value for a policy without randomness.
    bounds : (n,) or (1,) float array
        The proven optimum (or lower bound) of each replication's realised work; one value where
        all are equal.
    bound_kind : str
        ``"optimum"`` or ``"lower bound"``.
    varies : bool
        Whether replications differ: the policy draws at random, or the work is noisy.
    """

    point: dict[str, Any]
    policy: str
    makespans: FloatArray
    bounds: FloatArray
    bound_kind: str
    varies: bool

    @property
    def gaps(self) -> FloatArray:
        """``makespan / bound - 1`` of each replication: the gap, under noise the regret."""
        return self.makespans / self.bounds - 1.0

    def summary(self, *, level: float = 0.95) -> dict[str, Any]:
        """Return the sample as one flat row of a comparison; see `SUMMARY_COLUMNS`."""
        interval = mean_interval(self.makespans, level=level, deterministic=not self.varies)
        gaps = self.gaps
        # Of the gaps themselves: under noise the makespans vary far more than their gaps do.
        gap = mean_interval(gaps, level=level, deterministic=not self.varies)
        return {
            **self.point,
            "policy": self.policy,
            "mean": interval.mean,
            "ci_low": interval.low,
            "ci_high": interval.high,
            "ci_method": interval.method,
            "sd": interval.sd,
            "min": float(self.makespans.min()),
            "max": float(self.makespans.max()),
            "n": interval.n,
            "gap_mean": float(gaps.mean()),
            "gap_ci_low": gap.low,
            "gap_ci_high": gap.high,
            "gap_max": float(gaps.max()),
            "bound": float(self.bounds.mean()),
            "bound_kind": self.bound_kind,
        }


#: Columns of a comparison after the swept fields: seconds, but for n, gaps and names.
SUMMARY_COLUMNS = (
    "policy", "mean", "ci_low", "ci_high", "ci_method", "sd", "min", "max", "n",
    "gap_mean", "gap_ci_low", "gap_ci_high", "gap_max", "bound", "bound_kind",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparison:
    """Policies side by side, at every point of the scenario's sweep.

    Attributes
    ----------
    scenario : Scenario
        What was asked.
    samples : sequence of Sample
        In the order of points, then of policies.
    """

    scenario: Scenario
    samples: Sequence[Sample]

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One summary a point and policy; see `Sample.summary`."""
        return [sample.summary() for sample in self.samples]

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The rows as a tidy DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def differences(self, reference: str, *, level: float = 0.95) -> list[dict[str, Any]]:
        """Compare every policy with `reference`, replication by replication.

        Parameters
        ----------
        reference : str
            Policy whose makespans are subtracted.
        level : float
            Nominal coverage of the intervals.

        Returns
        -------
        list of dict
            Per point and policy: ``policy, reference, mean, ci_low, ci_high, ci_method, n,
            needed`` (replications at which the difference observed would be told from 0).
            Replications that only one of the two has are left out, and so are points at which
            `reference` has no result.

        Raises
        ------
        UnknownPolicyError
            If `reference` was not compared.
        """
        names = {sample.policy for sample in self.samples}
        if reference not in names:
            raise UnknownPolicyError(
                f"policy {reference!r} was not compared{did_you_mean(reference, names)}"
            )
        against = {_key(s.point): s for s in self.samples if s.policy == reference}
        rows = []
        for sample in self.samples:
            other = against.get(_key(sample.point))
            if sample.policy == reference or other is None:
                continue
            a, b = sample.makespans, other.makespans
            if sample.varies and other.varies:
                # A store may hold more replications of one than of the other; and one replication
                # of a policy that draws at random must not stand for all of them.
                pairs = min(a.size, b.size)
                a, b = a[:pairs], b[:pairs]
            deterministic = not (sample.varies or other.varies)
            interval = paired_difference(a, b, level=level, deterministic=deterministic)
            rows.append(
                {
                    **sample.point,
                    "policy": sample.policy,
                    "reference": reference,
                    "mean": interval.mean,
                    "ci_low": interval.low,
                    "ci_high": interval.high,
                    "ci_method": interval.method,
                    "n": interval.n,
                    "needed": replications_needed(interval),
                }
            )
        return rows

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the comparison; see `kdsim.plots.comparison`."""
        from kdsim import plots

        return plots.comparison(self, ax=ax, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as ``kdsim compare --json`` prints it."""
        return {
            "scenario": self.scenario.name,
            "seed": self.scenario.seed,
            "level": 0.95,
            "rows": self.rows,
        }

    def _repr_html_(self) -> str:
        return str(self.frame.to_html())


def _key(point: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, repr(value)) for name, value in point.items())
