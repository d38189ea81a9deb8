"""The figures of a report, each replaced by the reason where it cannot be drawn."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kdsim import plots
from kdsim._types import Record, RecordView
from kdsim.engines.des import simulate
from kdsim.errors import KdsimError, PlotError
from kdsim.plots.labels import axis_positions, field_label, point_label
from kdsim.plots.panels import varying_fields
from kdsim.policies.names import POLICY_NAMES
from kdsim.report.answer import bound_words, points_of
from kdsim.report.page import Section, escape, figure
from kdsim.results.comparison import Comparison, Sample
from kdsim.scenario.changes import with_fields

#: Points whose regret is drawn.
_MAX_REGRETS = 6
#: A run of more cycles is not simulated again for its timeline.
_MAX_CYCLES = 5000


def figures(made: Comparison) -> Section:
    """Return the section of figures: gaps first, then makespans, and what the sweep adds."""
    bound = bound_words(made)
    drawn = [
        _drawn(
            lambda: plots.comparison(made, value="gap"),
            "Gap of each policy to the proven bound",
            f"Time above the proven {bound} of the same replication, in percent.",
            name="gap",
        ),
        _drawn(
            lambda: plots.comparison(made),
            "Makespan of each policy",
            "Means with 95 % confidence intervals; shapes show all replications, thin lines 5 to "
            f"95 % of them. The line across each group is the proven {bound}.",
            name="comparison",
        ),
        *_of_a_sweep(made),
        *_regret(made),
    ]
    return Section("figures", "Figures", "\n".join(drawn))


def _of_a_sweep(made: Comparison) -> Iterator[str]:
    points = [sample.point for sample in made.samples]
    varying = varying_fields(points)
    if not varying:
        return
    numeric = [name for name in varying if axis_positions([p[name] for p in points])[2]]
    if numeric:
        x = "device.cores" if "device.cores" in numeric else numeric[0]
        yield _drawn(
            lambda: plots.marginal(made, x=x),
            f"Seconds saved per extra unit of {field_label(x)}",
            "What the next step saves, with 95 % confidence intervals of the paired differences; "
            "below 0, more is slower.",
            name="marginal",
        )
    if len(varying) >= 2:
        yield _drawn(
            lambda: plots.gap_maps(made),
            "Gap of each policy over two swept fields",
            "All maps are on one scale; a hatched cell has no finished run.",
            name="maps",
        )


def _regret(made: Comparison) -> Iterator[str]:
    noisy = [sample for sample in made.samples if sample.bounds.size > 1]
    keys = list(dict.fromkeys(repr(sample.point) for sample in noisy))[:_MAX_REGRETS]
    shown = [sample for sample in noisy if repr(sample.point) in keys]
    if shown:
        yield "<h3>Regret under noise</h3>\n" + _drawn(
            lambda: plots.regret_distribution(shown, marks=made.marks),
            "Distribution of the gaps over the replications",
            "Share of replications whose gap to the best schedule in hindsight is no larger; bands "
            "are 95 % confidence bands of the whole curve (Dvoretzky, Kiefer, Wolfowitz).",
            name="regret",
        )


# --- one run --------------------------------------------------------------------------------------


def median_point(samples: Sequence[Sample]) -> Record:
    """Return the point in the middle of the design: the median of the points' proven bounds."""
    bounds = {repr(s.point): (float(s.bounds.mean()), s.point) for s in samples}
    middle = statistics.median_low([bound for bound, _ in bounds.values()])
    return next(point for bound, point in bounds.values() if bound == middle)


def timelines(made: Comparison, point: RecordView | None) -> list[Section]:
    """Return the section that shows runs at one point: the optimum and another policy.

    Parameters
    ----------
    point : mapping, optional
        Of the design; `median_point` by default.
    """
    chosen = dict(point) if point is not None else median_point(made.samples)
    scenario = with_fields(made.scenario, chosen)
    if scenario.workload.cycles > _MAX_CYCLES:
        return []
    names = [name for name in POLICY_NAMES if any(s.policy == name for s in made.samples)]
    others = [name for name in ("greedy", "greedy-full", "random", *names) if name in names]
    where = ", ".join(point_label(name, value) for name, value in chosen.items())
    if where and point is None and points_of(made) > 1:
        where = f"the median point of the design ({where}); kdsim report --at chooses another"
    parts = []
    for k, name in enumerate(dict.fromkeys(["optimal", *others[:1]])):
        try:
            run = simulate(scenario, name)
        except KdsimError as error:
            parts.append(_instead(f"Timeline of {name}", error))
            continue
        parts.append(
            _drawn(
                functools.partial(plots.timeline, run),
                f"Timeline of {name}",
                f"Replication 0{' at ' + where if where else ''}: which task holds how many cores.",
                name=f"timeline{k}",
            )
        )
    return [Section("run", "What a run looks like", "\n".join(parts))]


# --- parts ----------------------------------------------------------------------------------------


def _drawn(draw: Callable[[], Any], label: str, caption: str, *, name: str) -> str:
    """Return a figure, or where it cannot be drawn, why."""
    try:
        svg = plots.render(draw(), "svg").decode()
    except PlotError as error:
        return _instead(label, error)
    return figure(svg, label, caption, name=name)


def _instead(label: str, error: KdsimError) -> str:
    return f'<p class="note">{escape(label)}: {escape(error)}</p>'
