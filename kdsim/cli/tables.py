"""Tables for the terminal: what the commands print for people."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from kdsim._types import RecordView
from kdsim.model.bound.optimum import BOUND_NOTE, Optimum
from kdsim.results.comparison import SUMMARY_COLUMNS, Comparison
from kdsim.results.learning import LearningCurves, Traffic
from kdsim.results.run import WAITED, Run

#: Wide enough for the widest table when the output is a file or a pipe.
_PIPE_WIDTH = 120
#: Relative difference of two makespans that is rounding alone.
_ROUNDING = 1e-12


def console() -> Console:
    """Return a console on standard output that does not cut tables when it is not a terminal.

    Names are printed as they are: square brackets and colons in them are no markup.
    """
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def seconds(value: float) -> str:
    """Write seconds with five significant digits, without exponents where people read them."""
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e7:
        return f"{value:.{max(0, 4 - math.floor(math.log10(abs(value))))}f}"
    return f"{value:.4e}"


def percent(value: float) -> str:
    """Write a gap in percent; what is rounding shows as 0."""
    return f"{0.0 if abs(value) < 5e-7 else 100 * value:.2f} %"


def swept(value: object) -> str:
    """Write the value of a swept field; a sampled one with five digits."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def comparison_table(result: Comparison) -> Table:
    """Lay a comparison out: one row per point and policy, a rule between points."""
    rows = result.rows
    fields = [name for name in rows[0] if name not in SUMMARY_COLUMNS]
    kinds = sorted({str(row["bound_kind"]) for row in rows})
    noisy = result.scenario.extensions.noise > 0
    table = Table(
        title=f"{result.scenario.name}: makespan in seconds, seed {result.scenario.seed}",
        title_justify="left",
        caption=_how(kinds, noisy=noisy, marks=result.marks),
        caption_justify="left",
    )
    add_fields(table, fields)
    for header in ("mean", "95 % CI", "min .. max", "n", " / ".join(kinds)):
        # On a narrow terminal only the columns min and max may be broken over two lines.
        table.add_column(header, justify="right", no_wrap=header != "min .. max")
    table.add_column("regret" if noisy else "gap", justify="right", no_wrap=True)
    last: Any = None
    for row in rows:
        point = [row[name] for name in fields]
        if last is not None and point != last:
            table.add_section()
        table.add_row(
            *([""] * len(fields) if point == last else [swept(value) for value in point]),
            str(row["policy"]),
            seconds(row["mean"]),
            _interval(row),
            f"{seconds(row['min'])} .. {seconds(row['max'])}" if row["n"] > 1 else "",
            str(row["n"]),
            seconds(row["bound"]),
            percent(row["gap_mean"]),
        )
        last = point
    return table


def learning_table(result: LearningCurves, target: float | None = None) -> Table:
    """Lay out when each profile reaches an accuracy under each policy."""
    rows = result.reached(target)
    which = "" if target is not None else ", the most that every profile reaches"
    device = result.scenario
    table = Table(
        title=f"{device.name}, {device.device.cores} cores: seconds until test accuracy "
        f"{100 * rows[0]['target']:.1f} %{which}; seed {device.seed}",
        title_justify="left",
        caption="CI: Student t over replications; exact: all runs equal. Earliest: no schedule can "
        "be there before. Late = mean / earliest - 1. Accuracies are known at the ends of epochs."
        + "".join(f"\n{line}" for line in (*map(_traffic_line, result.traffic), *result.marks)),
        caption_justify="left",
    )
    table.add_column("profile", no_wrap=True)
    table.add_column("policy", no_wrap=True)
    for header in ("cycles", "accuracy", "mean", "95 % CI", "n", "earliest", "late"):
        table.add_column(header, justify="right", no_wrap=True)
    last = None
    for row in rows:
        if last not in (None, row["profile"]):
            table.add_section()
        shown = row["profile"] if row["profile"] != last else ""
        last = row["profile"]
        if row["mean"] is None:
            table.add_row(shown, row["policy"], "not reached", *[""] * 6)
            continue
        table.add_row(
            shown,
            row["policy"],
            str(row["cycle"]),
            f"{100 * row['accuracy']:.1f} %",
            seconds(row["mean"]),
            _interval(row),
            str(row["n"]),
            seconds(row["bound"]),
            percent(row["late"]),
        )
    return table


def _traffic_line(traffic: Traffic) -> str:
    """Say what a recorded run received and sent."""
    received = f"{traffic.profile}: received {traffic.received_mb:.3g} MB"
    if traffic.sent_mb is None:
        return f"{received}; what it sent is not listed separately."
    return f"{received}; the {traffic.sent_mb:.3g} MB that it sent are not simulated."


def add_fields(table: Table, fields: Sequence[str]) -> None:
    """Add a column per swept field, headed by the last word of its path where that is unique."""
    leaves = [name.rpartition(".")[2] for name in fields]
    for name, leaf in zip(fields, leaves, strict=True):
        table.add_column(leaf if leaves.count(leaf) == 1 else name, justify="right", no_wrap=True)
    table.add_column("policy", no_wrap=True)


def _interval(row: RecordView) -> str:
    if row["ci_method"] == "exact":
        return "exact"
    if row["ci_method"] == "none":
        return "one run"
    # Student's interval is symmetric: mean and half width say it all, in half the space.
    half = (row["ci_high"] - row["ci_low"]) / 2.0
    return f"\N{PLUS-MINUS SIGN} {half:.0f}" if half >= 10 else f"\N{PLUS-MINUS SIGN} {half:.2g}"


def _how(kinds: Sequence[str], *, noisy: bool, marks: Sequence[str]) -> str:
    text = "CI: Student t over replications; exact: all runs equal. "
    text += f"{'Regret' if noisy else 'Gap'} = makespan / bound - 1."
    if "lower bound" in kinds:
        text += f" {BOUND_NOTE}"
    return "\n".join([text, *marks])


def difference_table(rows: Sequence[RecordView], reference: str, *, scale: float = 0.0) -> Table:
    """Lay paired differences out; rounding of makespans of `scale` seconds is no difference."""
    rows = [_without_rounding(row, _ROUNDING * scale) for row in rows]
    fields = [n for n in rows[0] if n not in _DIFFERENCE_COLUMNS]
    table = Table(
        title=f"difference to {reference}, replication by replication (seconds)",
        title_justify="left",
    )
    add_fields(table, fields)
    for header in ("mean", "95 % CI", "n", "conclusion"):
        table.add_column(header, justify="right")
    for row in rows:
        conclusive = row["needed"] <= row["n"]
        direction = "slower" if row["mean"] > 0 else "faster"
        if row["ci_method"] == "exact" and row["mean"] == 0:
            direction = "equal"
        needed = "no difference" if row["needed"] >= 2**62 else f"needs n = {row['needed']:,}"
        if row["ci_method"] == "none":
            needed = "one pair is not enough"
        table.add_row(
            *(swept(row[name]) for name in fields),
            str(row["policy"]),
            f"{row['mean']:+.4g}" if row["mean"] else "0",
            _interval(row),
            str(row["n"]),
            direction if conclusive else f"inconclusive, {needed}",
        )
    return table


def _without_rounding(row: RecordView, limit: float) -> RecordView:
    if row["ci_method"] == "exact" and abs(row["mean"]) <= limit:
        return {**row, "mean": 0.0}
    return row


_DIFFERENCE_COLUMNS = (
    "policy", "reference", "mean", "ci_low", "ci_high", "ci_method", "n", "needed", "marks",
)  # fmt: skip


def run_table(run: Run, *, limit: int = 12) -> Table:
    """Lay the segments of a run out, the first and the last of many."""
    labels = {1: "1 waits for logits", 2: "2 parallel", 3: "3 compute alone"}
    table = Table(title=f"segments of {run.scenario} under {run.policy}", title_justify="left")
    starved = run.counters["starved_s"] > 0
    for header in ("segment", "seconds", "scenario", "mean comm cores"):
        table.add_column(header, justify="right")
    if starved:
        table.add_column("Comm waits for data (s)", justify="right")
    count = run.plan.cycles + 1
    ends = 0 if count <= limit else limit - 2
    for segment in run.iter_segments():
        if ends and segment.index == ends + 1:
            table.add_row("...", "...", f"{count - limit + 1} more", "...")
        if not ends or segment.index <= ends or segment.index == count:
            table.add_row(
                f"t{segment.index}",
                seconds(segment.duration),
                labels[segment.scenario],
                f"{segment.comm_cores:.2f}",
                *([seconds(segment.starved)] if starved else []),
            )
    return table


def run_lines(run: Run) -> list[str]:
    """Summarise a run in a few lines."""
    counters = run.counters
    waited = sum(1 for segment in run.iter_segments() if segment.scenario == WAITED)
    link = []
    if run.plan.link is not None:
        link = [
            f"link          Comm waits for data {seconds(counters['starved_s'])} s; at most "
            f"{counters['buffer_peak']:.4g} data units wait for Comm"
        ]
    return [
        f"makespan      {seconds(run.makespan)} s",
        f"{run.bound_kind:<13} {seconds(run.minimal_makespan)} s  (gap {percent(run.gap)})",
        f"waiting       {seconds(counters['wait_s'])} s for logits, in {waited} of "
        f"{run.plan.cycles + 1} segments",
        *link,
        f"policy asked  {counters['decisions']} times; "
        f"the split changed {counters['reallocations']} times",
        *run.marks,
    ]


def schedule_table(optimum: Optimum, *, limit: int = 16) -> Table:
    """Lay the optimal schedule out, the first and the last of many pieces."""
    pieces = optimum.schedule
    table = Table(title="schedule on whole cores", title_justify="left")
    for header in ("start (s)", "duration (s)", "comm cores", "compute cores"):
        table.add_column(header, justify="right")
    shown = pieces if len(pieces) <= limit else [*pieces[: limit - 2], None, pieces[-1]]
    for piece in shown:
        if piece is None:
            table.add_row("...", f"{len(pieces) - limit + 1} more", "...", "...")
            continue
        table.add_row(
            seconds(piece.start),
            seconds(piece.duration),
            str(piece.comm_cores),
            str(piece.comp_cores),
        )
    return table


def devices_table(rows: Sequence[RecordView]) -> Table:
    """Lay the device library out: one row per device."""
    table = Table(
        title=f"{len(rows)} devices of the library",
        title_justify="left",
        caption="Rate: forward passes of an average network per second, on the fewest and the most "
        "cores measured, 95 % CI over networks. Inference proxy: not measured in training.",
        caption_justify="left",
    )
    table.add_column("name", no_wrap=True)
    for header in ("cores measured", "form", "networks", "rate", "speed-up", "communication"):
        table.add_column(header, justify="right", no_wrap=header != "communication")
    for row in rows:
        first, last = row["rate"][0], row["rate"][-1]
        several = len(row["rate"]) > 1
        table.add_row(
            row["name"],
            ", ".join(map(str, row["measured_on"])),
            row["form"],
            str(row["networks"]),
            f"{first:.3g} .. {last:.3g}" if several else f"{first:.3g}",
            f"{last / first:.2f} on {row['measured_on'][-1]}" if several else "-",
            row["communication"] or "none",
        )
    return table


def device_table(name: str, entry: RecordView) -> Table:
    """Lay one device of the library out: rates by cores."""
    facts = entry["provenance"]
    points = facts["points"]
    table = Table(
        title=name,
        title_justify="left",
        caption="Passes per second. Measured: mean over networks; form: the curve that scenarios "
        f"use ({facts['model']}), 95 % CI over networks.",
        caption_justify="left",
    )
    for header in ("cores", "measured", "form", "95 % CI"):
        table.add_column(header, justify="right")
    for cores, measured, rate, low, high in zip(
        *(points[key] for key in ("own_cores", "measured", "rate", "low", "high")), strict=True
    ):
        table.add_row(str(cores), f"{measured:.4g}", f"{rate:.4g}", f"{low:.4g} .. {high:.4g}")
    return table
