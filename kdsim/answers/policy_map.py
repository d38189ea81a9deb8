"""Where the choice of a policy matters: its gap over two fields of a scenario."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsim._types import Record
from kdsim.engines.compare import compare
from kdsim.errors import ScenarioError
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.model.curves import FloatArray
from kdsim.policies.permission import refuse_unnamed
from kdsim.policies.resolve import distinct_policies
from kdsim.scenario.changes import parse_ratio, with_fields
from kdsim.scenario.load import load_scenario
from kdsim.scenario.study import Design, Scenario

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Called with (runs done, runs in all).
Progress = Callable[[int, int], None]
#: Decades on either side, and values per axis, of the axes that are chosen here.
_DECADES, _VALUES = 2.0, 17


@dataclass(frozen=True, slots=True)
class Mark:
    """A named place on a map: a workload, a link.

    Attributes
    ----------
    x, y : float or None
        Where it lies; None where that is not known: then a line is drawn.
    """

    name: str
    x: float | None
    y: float | None


@dataclass(frozen=True, eq=False)
class PolicyMap:
    """Gaps of policies over two fields.

    Attributes
    ----------
    x_field, y_field : str
        Dotted paths.
    x, y : (nx,), (ny,) float array
        Values; of ``workload.ratio`` the multiple of the scenario's data per compute.
    gaps : dict of str to (ny, nx) float array
        Mean ``makespan / bound - 1`` by policy.
    """

    scenario: Scenario
    x_field: str
    y_field: str
    x: FloatArray
    y: FloatArray
    gaps: dict[str, FloatArray]
    bound_kind: str
    marks: tuple[Mark, ...] = ()

    def to_dict(self) -> Record:
        """Return plain data, as ``kdsim map --json`` prints it."""
        return {
            "scenario": self.scenario.name,
            "x_field": self.x_field,
            "y_field": self.y_field,
            "x": self.x.tolist(),
            "y": self.y.tolist(),
            "bound_kind": self.bound_kind,
            "gaps": {name: gaps.tolist() for name, gaps in self.gaps.items()},
            "marks": list(self.scenario.marks()),
        }

    def plot(self, ax: Axes | None = None) -> Axes | list[Axes]:
        """Draw the map; see `kdsim.plots.policy_map`."""
        from kdsim import plots

        return plots.policy_map(self, ax=ax)


def policy_map(
    scenario: Scenario | str | Path,
    policies: Sequence[Any] | None = None,
    *,
    allow_policies: bool = False,
    replications: int | None = None,
    marks: Sequence[Mark] = (),
    progress: Progress | None = None,
) -> PolicyMap:
    """Compute the gap of each policy over two fields.

    Parameters
    ----------
    scenario : Scenario, str or Path
        Its sweep names the two fields. Without a sweep they are the data per compute
        (``workload.ratio``, two decades either side) and the link's rate (two decades either side
        of what the optimum needs).
    policies : sequence, optional
        The scenario's, without `optimal`, by default.
    allow_policies : bool
        Whether policies of one's own may run because the scenario names them.
    replications : int, optional
        Runs of each policy that draws at random.
    marks : sequence of Mark
        Places to show.

    Raises
    ------
    ScenarioError
        If the sweep has other than two fields of numbers in lists.
    UnknownPolicyError
        If a policy of one's own stands only in the scenario and is not allowed.

    Examples
    --------
    >>> import kdsim
    >>> made = policy_map("measured", ["greedy", "comm-priority"], replications=1)
    >>> made.gaps["greedy"].shape
    (17, 17)
    """
    loaded = load_scenario(scenario)
    if not policies:
        refuse_unnamed(loaded.policies, (), f"scenario {loaded.name!r}", allow=allow_policies)
    study = loaded if len(loaded.sweep) == 2 else _default_axes(loaded)
    fields = list(study.sweep)
    chosen = distinct_policies(policies or [n for n in study.policies if n != "optimal"])
    made = compare(study, chosen, replications=replications, progress=progress)
    axes = [_numbers(name, study.sweep[name]) for name in fields]
    shape = (len(axes[0]), len(axes[1]))
    gaps: dict[str, FloatArray] = {}
    for name in dict.fromkeys(sample.policy for sample in made.samples):
        means = [sample.gaps.mean() for sample in made.samples if sample.policy == name]
        gaps[name] = np.array(means).reshape(shape).T  # the last field varies fastest
    kind = made.samples[0].bound_kind
    return PolicyMap(study, fields[0], fields[1], axes[0], axes[1], gaps, kind, tuple(marks))


def _numbers(field: str, values: Any) -> FloatArray:
    if not isinstance(values, list):
        raise ScenarioError("a map needs lists of values, not a sampled range", field=field)
    if field == "workload.ratio":
        pairs = [parse_ratio(value) for value in values]
        return np.array([comm / comp if comp else np.inf for comp, comm in pairs])
    try:
        return np.array([float(value) for value in values])
    except (TypeError, ValueError):
        raise ScenarioError(f"a map needs numbers (got {values})", field=field) from None


def _default_axes(scenario: Scenario) -> Scenario:
    """Sweep the data per compute, and the link's rate around the one that the optimum needs."""
    base = with_fields(scenario, {})
    if base.link.trace is None:
        base = with_fields(base, {"link.rate": None})
    data = float(base.plan().comm.sum())
    if data == 0:
        raise ScenarioError("the scenario has no data to receive", field="workload.comm")
    needed = data / minimal_makespan(base.plan()).makespan
    spread = np.logspace(-_DECADES, _DECADES, _VALUES)
    rates = [float(f"{needed * factor:.4g}") for factor in spread]
    ratios = [f"1:{factor:.6f}" for factor in spread]
    sweep = {"workload.ratio": ratios, "link.rate": rates}
    return base.model_copy(update={"sweep": sweep, "design": Design()})
