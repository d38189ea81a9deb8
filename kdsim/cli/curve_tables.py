"""Tables of the uncertainty of the curves, apart from those of replications and noise."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from kdsim.cli.tables import add_fields, percent, seconds, swept
from kdsim.results.curve_uncertainty import CurveUncertainty


def of(curves: CurveUncertainty | None) -> Iterator[Table]:
    """Yield the tables of what was drawn; none if nothing was."""
    if curves is not None:
        yield interval_table(curves)
        if len(curves.points[0].policies) > 1:
            yield faster_table(curves)


def interval_table(curves: CurveUncertainty) -> Table:
    """Lay the intervals out: one row per point and policy."""
    fields = list(curves.points[0].point)
    table = Table(
        title="uncertainty of the curves: makespan in seconds",
        title_justify="left",
        caption=f"Over {curves.note}. Gap to the optimum of the same draw.",
        caption_justify="left",
    )
    add_fields(table, fields)
    for header in ("median", "95 % of the draws", "gap", "95 % of the draws"):
        table.add_column(header, justify="right", no_wrap=True)
    for point in curves.points:
        table.add_section()
        for number, row in enumerate(point.intervals()):
            table.add_row(
                *("" if number else swept(row[name]) for name in fields),
                row["policy"],
                seconds(row["median"]),
                f"{seconds(row['low'])} .. {seconds(row['high'])}",
                percent(row["gap_median"]),
                f"{percent(row['gap_low'])} .. {percent(row['gap_high'])}",
            )
    return table


def faster_table(curves: CurveUncertainty) -> Table:
    """Lay out in which share of the draws the row's policy is faster than the column's."""
    fields = list(curves.points[0].point)
    names = curves.points[0].policies
    table = Table(
        title="in how many draws is the policy faster than ...",
        title_justify="left",
        caption=f"Share of the {curves.draws} draws; a tie counts half, and = is a tie in all.",
        caption_justify="left",
    )
    add_fields(table, fields)
    for name in names:
        table.add_column(name, justify="right")
    for point in curves.points:
        table.add_section()
        cells = {(row["policy"], row["other"]): (row["faster"], row["ties"])
                 for row in point.pairs()}  # fmt: skip
        cells |= {(b, a): (1.0 - share, ties) for (a, b), (share, ties) in cells.items()}
        for number, name in enumerate(names):
            table.add_row(
                *("" if number else swept(point.point[field]) for field in fields),
                name,
                *("" if name == other else _share(*cells[name, other]) for other in names),
            )
    return table


def _share(faster: float, ties: float) -> str:
    return "=" if ties == 1.0 else f"{100 * faster:.3g} %"
