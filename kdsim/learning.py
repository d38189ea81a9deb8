"""Learning curves: the accuracy of a real run against simulated time on a device.

Training a student gives the same weights on every device; what differs is when. A cost profile
tells what each cycle of a real run cost and the accuracy at the ends of its epochs. Replayed on a
device's curves, each policy says at which moment the device would have reached it; the proven
optimum of the cycles up to there says how early that could have been at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsim import batch
from kdsim.curves import FloatArray
from kdsim.engine import realised, simulate
from kdsim.errors import ScenarioError
from kdsim.loading import load_scenario
from kdsim.optimum import is_exact, minimal_makespan
from kdsim.policies import Policy
from kdsim.profiles import Profile, read_profile
from kdsim.registry import make_policy, policy_name
from kdsim.results import Run
from kdsim.scenario import Scenario, scenario_from_data
from kdsim.statistics import Interval, mean_interval

if TYPE_CHECKING:
    import pandas as pd

    from kdsim.plan import Plan

#: Most replications of a policy that draws at random: every run is played in full by SimPy.
MOST_REPLICATIONS = 100


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """One profile under one policy.

    Attributes
    ----------
    profile, policy : str
        Names.
    cycles : (E,) int array
        Cycles done when the accuracy was measured.
    accuracies : (E,) float array
        In [0, 1].
    seconds : (n, E) float array
        When replication 0..n-1 had done those cycles.
    bounds : (n, E) or (1, E) float array
        The earliest moment at which any schedule can have done them.
    varies : bool
        Whether replications differ.
    """

    profile: str
    policy: str
    cycles: Any
    accuracies: FloatArray
    seconds: FloatArray
    bounds: FloatArray
    varies: bool

    def at(self, mark: int) -> Interval:
        """Return the seconds until accuracy number `mark`, with their interval."""
        return mean_interval(self.seconds[:, mark], deterministic=not self.varies)

    def first(self, target: float) -> int | None:
        """Return the number of the first accuracy of at least `target`, None if there is none."""
        found = np.flatnonzero(self.accuracies >= target)
        return int(found[0]) if found.size else None


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """Accuracy against simulated time: profiles under policies on one device.

    Attributes
    ----------
    scenario : Scenario
        Of the device.
    curves : list of LearningCurve
        Profile by profile, policies in the order asked for.
    bound_kind : str
        ``"optimum"`` or ``"lower bound"``.
    """

    scenario: Scenario
    curves: list[LearningCurve]
    bound_kind: str

    @property
    def common_accuracy(self) -> float:
        """The highest accuracy that every profile reaches."""
        return float(min(curve.accuracies.max() for curve in self.curves))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row a profile, policy and measured accuracy; seconds with their 95 % interval."""
        return [_row(curve, mark) for curve in self.curves for mark in range(curve.accuracies.size)]

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def reached(self, target: float | None = None) -> list[dict[str, Any]]:
        """Tell when each profile under each policy first has an accuracy of at least `target`.

        Accuracies are known at the ends of epochs only; nothing is interpolated between them.

        Parameters
        ----------
        target : float, optional
            In [0, 1]; `common_accuracy` by default.

        Returns
        -------
        list of dict
            As `rows`, one a curve, and ``late``: mean over bound, less one. Where the target is
            not reached the cycle, the accuracy and all times are None.
        """
        target = self.common_accuracy if target is None else target
        found = []
        for curve in self.curves:
            mark = curve.first(target)
            if mark is None:
                empty = dict.fromkeys(_row(curve, 0))
                row = {**empty, "profile": curve.profile, "policy": curve.policy, "late": None}
            else:
                row = _row(curve, mark)
                row["late"] = row["mean"] / row["bound"] - 1.0 if row["bound"] > 0 else 0.0
            found.append({**row, "target": target})
        return found

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the curves; see `kdsim.plots.learning`."""
        from kdsim import plots

        return plots.learning(self, ax=ax, **kwargs)

    def to_dict(self, target: float | None = None) -> dict[str, Any]:
        """Return plain data, as ``kdsim learning --json`` prints it."""
        return {
            "scenario": self.scenario.name,
            "seed": self.scenario.seed,
            "bound_kind": self.bound_kind,
            "rows": self.rows,
            "reached": self.reached(target),
        }


def _row(curve: LearningCurve, mark: int) -> dict[str, Any]:
    interval = curve.at(mark)
    return {
        "profile": curve.profile,
        "policy": curve.policy,
        "cycle": int(curve.cycles[mark]),
        "accuracy": float(curve.accuracies[mark]),
        "mean": interval.mean,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "ci_method": interval.method,
        "n": interval.n,
        "bound": float(curve.bounds[:, mark].mean()),
    }


def learning_curves(
    scenario: Scenario | str | Path,
    profiles: Sequence[str | Path],
    policies: Sequence[str | type[Policy]] | None = None,
    *,
    replications: int | None = None,
    seed: int | None = None,
    profile_rate: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LearningCurves:
    """Replay real runs on a device and tell when it reaches which accuracy under which policy.

    Parameters
    ----------
    scenario : Scenario, str or Path
        The device and its extensions; the scenario's own workload and sweep are left aside.
    profiles : sequence of str or Path
        Cost profiles with accuracies, as the workloads write them.
    policies : sequence of str or Policy classes, optional
        The scenario's own by default.
    replications : int, optional
        Runs of a policy that draws at random, or of every policy under noise; the scenario's by
        default, but 100 at most.
    seed : int, optional
        Root of all randomness; the scenario's by default.
    profile_rate : float, optional
        Compute units a second of the host that recorded the profiles; by default the device's own
        curve at their core counts, that is, the host is taken for the device.
    progress : callable, optional
        Called with (runs done, runs in all).

    Returns
    -------
    LearningCurves

    Raises
    ------
    ScenarioError
        If a profile is not legal or has no accuracy.
    PolicyError
        If a policy fails in a run.
    """
    device = load_scenario(scenario)
    if not profiles:
        raise ScenarioError("at least one cost profile is needed")
    if seed is not None:
        device = device.model_copy(update={"seed": seed})
    read = [read_profile(path) for path in profiles]
    for profile in read:
        if not profile.marks.size:
            raise ScenarioError(f"{profile.path}: no cycle has an accuracy in this cost profile")
    chosen = list(policies) if policies else list(device.policies)
    most = min(device.replications, MOST_REPLICATIONS) if replications is None else replications
    if most < 1:
        raise ScenarioError(f"must be at least 1 (got {most})", field="replications")
    for policy in chosen:
        make_policy(policy)  # a wrong name is told before the others have been simulated
    counts = [most if batch.varies(device, policy) else 1 for policy in chosen]
    total, done, curves = sum(counts) * len(read), 0, []
    for profile, name in zip(read, _names(read), strict=True):
        played = _with_work(device, profile, profile_rate)
        bounds = _bounds(played, profile, most if device.extensions.noise > 0 else 1)
        for policy, count in zip(chosen, counts, strict=True):
            seconds = np.empty((count, profile.marks.size))
            for replication in range(count):
                run = simulate(played, policy, replication=replication)
                seconds[replication] = _ends(run, profile.marks)
                done += 1
                if progress is not None:
                    progress(done, total)
            curves.append(
                LearningCurve(
                    profile=name,
                    policy=policy_name(policy),
                    cycles=profile.marks,
                    accuracies=profile.accuracies,
                    seconds=seconds,
                    bounds=bounds[:count],
                    varies=batch.varies(device, policy),
                )
            )
    kind = "optimum" if is_exact(device.plan()) else "lower bound"
    return LearningCurves(device, curves, kind)


def _names(profiles: Sequence[Profile]) -> list[str]:
    """Name profiles by what tells them apart: method, method and seed, file, or path."""
    keys: list[Callable[[Profile], str]] = [
        lambda p: p.header.get("method", p.path.stem),
        lambda p: f"{p.header.get('method', p.path.stem)}, seed {p.header.get('seed', '?')}",
        lambda p: p.path.stem,
    ]
    for key in keys:
        names = [key(profile) for profile in profiles]
        if len(set(names)) == len(names):
            return names
    return [str(profile.path) for profile in profiles]


def _with_work(device: Scenario, profile: Profile, rate: float | None) -> Scenario:
    """Return the device's scenario with the work of a profile and without a sweep."""
    data = {name: getattr(device, name) for name in Scenario.model_fields}
    for name in ("sweep", "design"):
        del data[name]
    return scenario_from_data({**data, "workload": profile.work(device.device, rate)})


def _bounds(scenario: Scenario, profile: Profile, replications: int) -> FloatArray:
    """Return the least makespans of the cycles up to each mark, (replications, E)."""
    plan, noise = scenario.plan(), scenario.extensions.noise
    rows = []
    for replication in range(replications):
        real = realised(plan, noise, scenario.seed, replication)
        rows.append([_least(real, int(mark)) for mark in profile.marks])
    return np.array(rows)


def _least(plan: Plan, cycles: int) -> float:
    """Return the least makespan of a plan's first cycles."""
    part = [work[:cycles] for work in (plan.comm, plan.forward, plan.backward)]
    if not any(work.any() for work in part):
        return 0.0
    return minimal_makespan(plan.with_work(*part)).makespan


def _ends(run: Run, marks: Any) -> FloatArray:
    """Return when the Backward of each marked cycle was done."""
    ends = np.array(run.backward_starts, dtype=float)  # where a Backward has no work
    for piece in run.intervals:
        if piece.stage == "backward":
            ends[piece.comp] = piece.end
    return np.asarray(ends[marks - 1])
