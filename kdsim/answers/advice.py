"""What to advise for a scenario: how many cores, which link, which policy, how sensitive.

Every question has a study of its own, made from the scenario as it is written (its sweep is left
aside). What is computed here are numbers; ``sentences`` turns them into text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdsim._types import Record, RecordView
from kdsim.answers.cores import core_rows
from kdsim.answers.curve_answers import curve_answers
from kdsim.answers.thresholds import EQUAL, NUDGE
from kdsim.engines.batch import simulate_many
from kdsim.engines.compare import compare
from kdsim.errors import ScenarioError
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.model.bound.stakes import Stakes, stakes
from kdsim.results.intervals import paired_difference
from kdsim.scenario.changes import sweepable_fields, with_fields
from kdsim.scenario.drawn import check_draws
from kdsim.scenario.load import load_scenario
from kdsim.scenario.study import Scenario

#: Called with (studies done, studies in all).
Progress = Callable[[int, int], None]

#: Coefficients of variation of the work under which policies are compared.
NOISE_LEVELS = (0.0, 0.1, 0.2, 0.4)
#: Rates of a link, from so many times slower to so many times faster than the optimum needs.
_LINK_SPAN, _LINK_POINTS = 100.0, 25
#: Least exact first: among equal policies the simpler one is advised.
_SIMPLEST_FIRST = ("static", "comm-priority", "comp-priority", "greedy-full", "greedy")


@dataclass(frozen=True)
class Advice:
    """The answers for one scenario, as numbers.

    Attributes
    ----------
    scenario : Scenario
        Without its sweep.
    makespan : float
        Seconds; least possible (or its lower bound, see `bound_kind`).
    cores : list of dict
        ``cores``, ``makespan`` (least possible, seconds) and ``saved_s``, what the last core saved;
        in the order of the counts.
    link : list of dict
        ``rate`` (data units per second), ``bound``, ``best`` and ``worst`` (makespans of the best
        and of the worst policy, seconds, without noise), ``best_policy``, ``worst_policy``,
        ``starved``.
    policies : list of dict
        ``policy``, ``noise``, ``gap`` (mean), ``gap_low``, ``gap_high`` (95 % interval), ``n``.
    against : dict
        The advised policy, the next one, and their paired difference at the noise where they are
        furthest apart.
    sensitivity : list of dict
        ``field``, ``value``, ``down``, ``up``: relative change of the least makespan when the field
        is 10 % smaller and larger.
    unknown : tuple of str
        What the answers rest on without knowing it.
    curves : dict
        What draws of the curves say of the answers, see `curve_answers`; empty if not asked for.
    """

    scenario: Scenario
    makespan: float
    bound_kind: str
    cores: Sequence[RecordView]
    link: Sequence[RecordView]
    policies: Sequence[RecordView]
    against: RecordView
    sensitivity: Sequence[RecordView]
    stakes: Stakes
    unknown: tuple[str, ...]
    curves: RecordView = field(default_factory=dict)


def advise(
    scenario: Scenario | str | Path,
    *,
    policies: Sequence[str] | None = None,
    noise: Sequence[float] = NOISE_LEVELS,
    replications: int = 200,
    curve_draws: int | None = None,
    progress: Progress | None = None,
) -> Advice:
    """Answer how many cores, which link, which policy, and how sensitive the answers are.

    Parameters
    ----------
    scenario : Scenario, str or Path
        As it is written; its sweep is left aside.
    policies : sequence of str, optional
        Candidates; by default every built-in rule that can be shipped: priorities, every constant
        split, Algorithm 1 in both readings, `state-based` and `optimal`.
    noise : sequence of float
        Coefficients of variation of the work under which the candidates are compared.
    replications : int
        Runs of each candidate under noise; all meet the same noise.
    curve_draws : int, optional
        Also answer in so many bootstrap draws of the device's curves.

    Raises
    ------
    ScenarioError
        If the scenario is not legal, or its curves have fewer than `curve_draws` draws.

    Examples
    --------
    >>> made = advise("measured", noise=(0.0,))
    >>> [row["cores"] for row in made.cores]
    [1, 2]
    """
    base = with_fields(load_scenario(scenario), {})
    base = base.model_copy(update={"sweep": {}, "design": type(base.design)()})
    if curve_draws is not None:
        curve_draws = check_draws(base, curve_draws)
    candidates = list(policies) if policies else shippable(base)
    done = _reporter(progress, 4 if curve_draws is None else 5)
    least = minimal_makespan(base.plan())
    cores = list(core_rows(base))
    done()
    link = list(_link(with_fields(base, {"extensions.noise": 0.0}), candidates))
    done()
    rows, against = _policies(base, candidates, noise, replications)
    done()
    sensitivity = sorted(_sensitivity(base), key=lambda row: -max(abs(row["down"]), abs(row["up"])))
    done()
    curves: RecordView = {}
    if curve_draws is not None:
        pair = against["policy"], against["next"]
        curves = curve_answers(base, candidates, pair, cores, curve_draws)
        done()
    return Advice(
        scenario=base,
        makespan=least.makespan,
        bound_kind=least.kind,
        cores=cores,
        link=link,
        policies=rows,
        against=against,
        sensitivity=sensitivity,
        stakes=stakes(base.plan(), least.makespan),
        unknown=tuple(_unknown(base, drawn=bool(curves))),
        curves=curves,
    )


def shippable(scenario: Scenario) -> list[str]:
    """List the built-in policies that a device can run: all but random allocation."""
    splits = [f"static:{c}" for c in range(1, scenario.device.cores)]
    return [*splits, "comm-priority", "comp-priority", "greedy", "greedy-full", "state-based",
            "optimal"]  # fmt: skip


def _reporter(progress: Progress | None, total: int) -> Callable[[], None]:
    finished = 0

    def done() -> None:
        nonlocal finished
        finished += 1
        if progress is not None:
            progress(finished, total)

    return done


# --- the link -------------------------------------------------------------------------------------


def _link(scenario: Scenario, candidates: Sequence[str]) -> Iterator[Record]:
    """Compare the candidates over link rates around the one that the optimum needs.

    The scenario has no noise: a single run of each would otherwise stand for all.
    """
    data = float(scenario.plan().comm.sum())
    if data == 0:
        return
    free = with_fields(scenario, {"link.rate": None}) if scenario.link.trace is None else scenario
    needed = data / minimal_makespan(free.plan()).makespan
    for k in range(_LINK_POINTS):
        share = 2.0 * k / (_LINK_POINTS - 1) - 1.0
        rate = float(f"{needed * _LINK_SPAN**share:.4g}")
        changed = with_fields(scenario, {"link.rate": rate})
        bound = minimal_makespan(changed.plan()).makespan
        times = {
            name: float(simulate_many(changed, name, replications=1)[0]) for name in candidates
        }
        best, worst = min(times, key=times.__getitem__), max(times, key=times.__getitem__)
        yield {
            "rate": rate, "bound": bound, "best": times[best], "best_policy": best,
            "worst": times[worst], "worst_policy": worst, "starved": changed.link.starved,
        }  # fmt: skip


# --- policies under noise -------------------------------------------------------------------------


def _policies(
    scenario: Scenario, candidates: Sequence[str], noise: Sequence[float], replications: int
) -> tuple[list[Record], Record]:
    rows: list[Record] = []
    makespans: dict[tuple[str, float], Any] = {}
    for level in noise:
        changed = with_fields(scenario, {"extensions.noise": level})
        made = compare(changed, candidates, replications=replications)
        for sample, row in zip(made.samples, made.rows, strict=True):
            makespans[sample.policy, level] = sample.makespans
            rows.append(
                {
                    "policy": sample.policy,
                    "noise": level,
                    "mean": row["mean"],
                    "gap": row["gap_mean"],
                    "gap_low": row["gap_ci_low"],
                    "gap_high": row["gap_ci_high"],
                    "n": row["n"],
                }
            )
    chosen, other = _advised(rows)
    differences = {}
    for level in noise:
        a, b = makespans[other, level], makespans[chosen, level]
        differences[level] = paired_difference(a, b, deterministic=level == 0)
    level = max(differences, key=lambda one: abs(differences[one].mean))
    gap = differences[level]
    against = {
        "policy": chosen, "next": other, "noise": level, "difference_s": gap.mean,
        "low_s": gap.low, "high_s": gap.high, "n": gap.n, "method": gap.method,
    }  # fmt: skip
    return rows, against


def _advised(rows: Sequence[RecordView]) -> tuple[str, str]:
    """Choose the policy with the smallest worst gap, the simplest of equals; and the next one."""
    worst: dict[str, float] = {}
    for row in rows:
        worst[row["policy"]] = max(worst.get(row["policy"], 0.0), row["gap"])
    ranked = sorted(worst, key=lambda name: (worst[name], _complexity(name)))
    best = worst[ranked[0]]
    equal = [name for name in ranked if worst[name] <= best + EQUAL]
    chosen = min(equal, key=lambda name: (_complexity(name), worst[name]))
    others = [name for name in ranked if name != chosen]
    return chosen, others[0] if others else chosen


def _complexity(name: str) -> int:
    kind = name.partition(":")[0]
    return _SIMPLEST_FIRST.index(kind) if kind in _SIMPLEST_FIRST else len(_SIMPLEST_FIRST)


# --- sensitivity ----------------------------------------------------------------------------------


def _sensitivity(scenario: Scenario) -> Iterator[Record]:
    base = minimal_makespan(scenario.plan()).makespan
    for path, value, changes in _nudges(scenario):
        moved = {}
        for side, factor in (("down", 1.0 - NUDGE), ("up", 1.0 + NUDGE)):
            try:
                changed = with_fields(scenario, changes(factor))
            except ScenarioError:
                moved[side] = math.nan  # not legal so far away
                continue
            moved[side] = minimal_makespan(changed.plan()).makespan / base - 1.0
        if not any(math.isnan(change) for change in moved.values()):
            yield {"field": path, "value": value, **moved}


def _nudges(
    scenario: Scenario,
) -> Iterator[tuple[str, float, Callable[[float], Record]]]:
    """Yield each field, its value, and what changes when it is multiplied by a factor."""
    for side in ("compute", "communication"):
        curve = getattr(scenario.device, side)
        for name in type(curve).model_fields:
            value, path = getattr(curve, name), f"device.{side}.{name}"
            if isinstance(value, float) and value and path in sweepable_fields(scenario):
                yield path, value, _times(path, value)
    yield "the amount of communication", 1.0, lambda factor: {"workload.ratio": f"1:{factor}"}
    yield "the amount of computation", 1.0, lambda factor: {"workload.ratio": f"{factor}:1"}
    for path, value in (
        ("link.rate", scenario.link.rate),
        ("extensions.reallocation_cost", scenario.extensions.reallocation_cost),
        ("extensions.release", scenario.extensions.release),
    ):
        if value:
            yield path, value, _times(path, value)


def _times(path: str, value: float) -> Callable[[float], Record]:
    return lambda factor: {path: factor * value}


# --- what is not known ----------------------------------------------------------------------------


def _unknown(scenario: Scenario, *, drawn: bool) -> Iterator[str]:
    yield from scenario.marks()
    if scenario.device.draws is None:
        yield "how far the curves are off: they have no bootstrap draws"
    elif not drawn:
        yield (
            "how far the curves are off: --curve-draws asks the "
            f"{scenario.device.draws.count} bootstrap draws that they have"
        )
    if not scenario.device.measured_ranges():
        yield "the curves are constants typed into the scenario: no measured range is known"
    if scenario.link.rate is None and scenario.link.trace is None:
        yield "no link is given: data are taken to be at hand as fast as the cores can receive them"
    if scenario.extensions.reallocation_cost == 0:
        yield "moving cores is taken to be free (extensions.reallocation_cost is 0)"
