"""What a report says beyond its runs: advice in sentences, and what draws of the curves say."""

from __future__ import annotations

from kdsim import plots
from kdsim.answers.advice import Advice
from kdsim.answers.sentences import by_topic
from kdsim.plots.labels import field_label
from kdsim.report.page import Column, Section, escape, figure, table
from kdsim.results.curve_uncertainty import CurveUncertainty


def advice_section(made: Advice) -> Section:
    """Return the answers of ``kdsim advise`` by topic, with their figure."""
    parts = [
        '<p class="muted">Answers from studies of their own on the scenario as written; its sweep '
        "and the policies of this report are left aside.</p>"
    ]
    for heading, found in by_topic(made):
        items = "".join(f"<li>{escape(sentence.text)}</li>" for sentence in found)
        parts.append(f"<h3>{escape(heading)}</h3>\n<ul>{items}</ul>")
    svg = plots.render(plots.advice(made), "svg").decode()
    label = "Makespan over cores, over link rates, gaps under noise, sensitivity"
    parts.append(figure(svg, label, "", name="advice-figure"))
    return Section("advice", "Advice", "\n".join(parts))


def curves_section(curves: CurveUncertainty) -> Section:
    """Return the tables over draws of the curves: intervals, and which policy is faster."""
    fields = [Column(name, field_label(name), text=True) for name in curves.points[0].point]
    intervals = [
        *fields,
        Column("policy", "policy", text=True),
        Column("median", "median (s)", 3),
        Column("low", "95 % of the draws, from (s)", 3),
        Column("high", "to (s)", 3),
        Column("gap_median", "median gap (%)", 2, percent=True),
        Column("gap_low", "95 % of the draws, from (%)", 2, percent=True),
        Column("gap_high", "to (%)", 2, percent=True),
    ]
    pairs = [
        *fields,
        Column("policy", "policy", text=True),
        Column("other", "compared with", text=True),
        Column("faster", "faster in (% of the draws)", 1, percent=True),
        Column("ties", "equal in (%)", 1, percent=True),
        Column("difference", "median difference (s)", 3),
        Column("difference_low", "95 % of the draws, from (s)", 3),
        Column("difference_high", "to (s)", 3),
    ]
    caption = f"Over {curves.note}. Gap to the optimum of the same draw."
    parts = [table(intervals, curves.intervals, caption, name="curve-intervals")]
    if curves.faster:
        caption = "Pairs of policies in the same draws; a tie counts half."
        parts.append(table(pairs, curves.faster, caption, name="curve-pairs"))
    return Section("curves", "How sure, given the fitted curves", "\n".join(parts))
