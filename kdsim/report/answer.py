"""What a report says first: which policy, how far from the bound, what a core is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kdsim._types import RecordView
from kdsim.plots.figures.marginal import savings
from kdsim.plots.labels import percent, value_label
from kdsim.plots.panels import panels_of
from kdsim.report.page import Column, Section, banner, escape, table
from kdsim.results.comparison import Comparison
from kdsim.results.gaps import NO_GAP
from kdsim.results.stakes import stakes_lines

#: Kinds of failures that the banner lists.
_MAX_REASONS = 8


def bound_words(made: Comparison) -> str:
    """Name the bound: an optimum only where every one of them is exact."""
    exact = all(sample.bound_kind == "optimum" for sample in made.samples)
    return "optimum" if exact else "lower bound"


def points_of(made: Comparison) -> int:
    """Count the points of the design, those without any result included."""
    finished = {repr(sample.point) for sample in made.samples}
    return len(finished | {repr(run.point) for run in made.missing})


def warnings(made: Comparison) -> str:
    """Return the boxes that stand above everything: what is missing, what is extrapolated."""
    marks = [banner(mark) for mark in made.marks if not mark.startswith("Incomplete")]
    if not made.missing:
        return "\n".join(marks)
    heading = f"{made.incomplete}: everything below is of the finished runs alone."
    return "\n".join([banner(f"Incomplete. {heading}", _reasons(made)), *marks])


def _reasons(made: Comparison) -> list[str]:
    """Say per policy what failed and why, a policy without any result first."""
    finished = {sample.policy for sample in made.samples}
    failed = Counter(
        (run.policy, run.error.partition(" (state:")[0])  # the states differ from run to run
        for run in made.missing
        if run.status == "failed"
    )
    lines = []
    for (policy, error), runs in sorted(
        failed.items(), key=lambda item: (item[0][0] in finished, -item[1])
    ):
        everywhere = "" if policy in finished else " and no run of it finished"
        words = "1 run" if runs == 1 else f"{runs:,} runs"
        lines.append(f"{policy}: {words} failed{everywhere}: {error}")
    more = len(lines) - _MAX_REASONS
    return [*lines[:_MAX_REASONS], *([f"and {more} other reasons"] if more > 0 else [])]


def answer(made: Comparison) -> Section:
    """Return the first section: the conclusion in words, and the gap of each policy."""
    bound = bound_words(made)
    rows = []
    for name in made.policies:  # one that failed everywhere has a row without numbers
        gaps = [row["gap_mean"] for row in made.rows if row["policy"] == name]
        ends = {"least": min(gaps), "most": max(gaps)} if gaps else {}
        rows.append({"policy": name, **ends, "n": len(gaps)})
    points = points_of(made)
    over = "" if points == 1 else f", over {points:,} points of the sweep"
    caption = f"Time lost against the proven {bound}{over}; 0 is as fast as any schedule can be."
    if bound != "optimum":
        caption = f"Time above the proven {bound}{over}; no schedule can be below 0."
    columns = [
        Column("policy", "policy", text=True),
        Column("least", "smallest mean gap (%)", 2, percent=True),
        Column("most", "largest mean gap (%)", 2, percent=True),
        *([Column("n", f"points finished of {points:,}")] if made.missing else []),
    ]
    finished = [row for row in rows if row["n"]]
    where = "at every finished point" if made.missing else "everywhere"
    sentences = [*_conclusion(finished, bound, where), *_cores(made), *stakes_lines(made.stakes)]
    words = "".join(f'<p class="answer">{escape(sentence)}</p>\n' for sentence in sentences)
    return Section("answer", "Answer", words + table(columns, rows, caption, name="gaps"))


def _conclusion(rows: Sequence[RecordView], bound: str, where: str) -> list[str]:
    on_bound = [row["policy"] for row in rows if row["most"] <= NO_GAP]
    closest = min(rows, key=lambda row: row["most"])
    slowest = max(rows, key=lambda row: row["most"])
    parts = []
    if on_bound:
        are = "is" if len(on_bound) == 1 else "are"
        parts.append(f"{_listed(on_bound)} {are} on the proven {bound} {where}.")
    elif len(rows) > 1:
        parts.append(
            f"Closest to the proven {bound} is {closest['policy']}, with a mean gap of at most "
            f"{percent(closest['most'])}."
        )
    if slowest["most"] > NO_GAP:
        equals = [row["policy"] for row in rows if abs(row["most"] - slowest["most"]) <= NO_GAP]
        parts.append(f"The largest mean gap is {percent(slowest['most'])} ({_listed(equals)}).")
    return parts


def _cores(made: Comparison) -> list[str]:
    """Say what an extra core saves, at the first and at the last step of the sweep."""
    fields = list(made.samples[0].point)
    if "device.cores" not in fields:
        return []
    panel = panels_of(made, "device.cores")[0]
    steps = [] if panel.scattered else [s for s in savings(panel) if s.policy == "bound"]
    if not steps:
        return []
    where = f" ({panel.title})" if panel.title else ""
    kind = bound_words(made)
    words = [
        f"from {value_label(step.low)} to {value_label(step.high)} cores "
        f"{step.saved.mean:.3g} s per extra core"
        for step in dict.fromkeys((steps[0], steps[-1]))
    ]
    return [f"An extra core takes off the {kind}: {', '.join(words)}{where}."]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
