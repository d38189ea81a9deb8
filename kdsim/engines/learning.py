"""Learning curves: the accuracy of a real run against simulated time on a device.

Training a student gives the same weights on every device; what differs is when. A cost profile
records what each cycle of a real run cost and the accuracy at the ends of its epochs. Replayed on a
device's curves, each policy says at which moment the device would have reached it; the proven
optimum of the cycles up to there says how early that could have been at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsim.engines import batch
from kdsim.engines.des import simulate
from kdsim.engines.realised import realised
from kdsim.errors import ScenarioError
from kdsim.model.bound.optimum import bound_kind, minimal_makespan
from kdsim.model.curves import FloatArray
from kdsim.policies.base import Policy
from kdsim.policies.resolve import distinct_policies, make_policy, policy_name
from kdsim.results.learning import LearningCurve, LearningCurves, Traffic
from kdsim.results.run import Run
from kdsim.scenario.changes import with_run_counts
from kdsim.scenario.parts.profile import Profile, read_profile
from kdsim.scenario.study import Scenario
from kdsim.scenario.validate import scenario_from_data

if TYPE_CHECKING:
    from kdsim.model.plan import Plan

#: Most replications of a policy that draws at random: every run is played in full by SimPy.
MOST_REPLICATIONS = 100


def learning_curves(
    scenario: Scenario,
    profiles: Sequence[str | Path],
    policies: Sequence[str | type[Policy]] | None = None,
    *,
    replications: int | None = None,
    seed: int | None = None,
    profile_rate: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LearningCurves:
    """Replay real runs on a device: when it reaches which accuracy under which policy.

    See `kdsim.api.learning_curves`.
    """
    device = with_run_counts(scenario, seed, replications)
    if isinstance(profiles, str) or not profiles:
        raise ScenarioError(f"must be a list of cost profiles (got {profiles!r})", field="profiles")
    if profile_rate is not None and not 0 < profile_rate < math.inf:
        reason = f"must be positive and finite (got {profile_rate})"
        raise ScenarioError(reason, field="profile_rate")
    read = [read_profile(path) for path in profiles]
    for profile in read:
        if not profile.marks.size:
            raise ScenarioError(f"{profile.path}: no cycle has an accuracy in this cost profile")
    chosen = distinct_policies(policies or device.policies)
    most = device.replications
    if replications is None:
        most = min(most, MOST_REPLICATIONS)
    for policy in chosen:
        make_policy(policy)  # report a wrong name before simulating the others
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
    kind = bound_kind(device.plan(), noisy=device.extensions.noise > 0)
    traffic = [_traffic(profile, name) for profile, name in zip(read, _names(read), strict=True)]
    return LearningCurves(device, curves, kind, traffic)


def _traffic(profile: Profile, name: str) -> Traffic:
    sent = None if profile.uplink_bytes is None else float(profile.uplink_bytes.sum()) / 1e6
    return Traffic(name, float(profile.downlink_bytes.sum()) / 1e6, sent)


def _names(profiles: Sequence[Profile]) -> list[str]:
    """Name profiles by what differs between them: method, method and seed, file, or path."""
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
