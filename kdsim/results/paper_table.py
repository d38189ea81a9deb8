"""A comparison as a table for a paper or a README: LaTeX (booktabs) and Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kdsim._types import RecordView
from kdsim._version import __version__

if TYPE_CHECKING:
    from kdsim.results.comparison import Comparison

_SPECIAL = re.compile(r"[\\{}$&#%_^~]")
_ESCAPES = {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
}  # fmt: skip


def cells_of(result: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells: swept fields, policy, mean with its interval, n, bound, gap.

    Where curves were drawn, their intervals stand last. A run without a result is a row as well;
    its cells say why there are no numbers.
    """
    fields = list(result.samples[0].point) if result.samples else []
    bound = "optimum" if {s.bound_kind for s in result.samples} == {"optimum"} else "lower bound"
    names = [name.rpartition(".")[2] for name in fields]
    headings = [*names, "policy", "mean (s)", "95 % CI", "n", f"{bound} (s)", "gap (%)"]
    if result.curves:
        headings += ["95 % of the draws (s)", "gap in the draws (%)"]
    rows = [
        [
            *(_value(row[name]) for name in fields),
            str(row["policy"]),
            f"{row['mean']:.4g}",
            _interval(row),
            f"{row['n']}",
            f"{row['bound']:.4g}",
            f"{100.0 * row['gap_mean']:.2f}",
            *_draws(result.curve_columns(sample)),
        ]
        for sample, row in zip(result.samples, result.rows, strict=True)
    ]
    for run in result.missing:
        place = [_value(run.point[name]) for name in fields]
        cells = [*place, run.policy, run.status, "", "0"]
        rows.append([*cells, *[""] * (len(headings) - len(cells))])
    return headings, rows


def _draws(ends: RecordView) -> list[str]:
    """Write the intervals over draws of the curves; a dash for a run that was not drawn."""
    if not ends:
        return []
    if ends["curve_draws"] is None:
        return ["–", "–"]
    low, high = 100.0 * ends["curve_gap_low"], 100.0 * ends["curve_gap_high"]
    seconds = f"{ends['curve_low']:.4g} to {ends['curve_high']:.4g}"
    return [seconds, f"{low + 0.0:.2f} to {high + 0.0:.2f}"]


def _notes(result: Comparison) -> list[str]:
    """Return what has to be said below a table."""
    drawn = [f"Draws: {result.curves.note}."] if result.curves else []
    return [*result.marks, *drawn]


def _text_columns(result: Comparison) -> int:
    """Count the columns of text, which stand first: the swept fields and the policy."""
    return 1 + (len(result.samples[0].point) if result.samples else 0)


def _value(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _interval(row: RecordView) -> str:
    if row["ci_method"] == "t":
        return f"± {(row['ci_high'] - row['ci_low']) / 2.0:.2g}"
    return "exact" if row["ci_method"] == "exact" else "one run"


def _source(result: Comparison) -> str:
    return f"{result.scenario.name}, seed {result.scenario.seed}, kdsim {__version__}"


def markdown(result: Comparison) -> str:
    """Write a comparison as a Markdown table, with what has to be said below it."""
    headings, rows = cells_of(result)
    left = _text_columns(result)
    ruler = ["---"] * left + ["---:"] * (len(headings) - left)

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    notes = [_source(result), *_notes(result)]
    return "\n".join([line(headings), line(ruler), *map(line, rows), "", *notes, ""])


def latex(result: Comparison) -> str:
    """Write a comparison as a LaTeX ``tabular`` with the rules of the package booktabs."""
    headings, rows = cells_of(result)
    left = _text_columns(result)
    columns = "l" * left + "r" * (len(headings) - left)

    def line(cells: list[str]) -> str:
        return " & ".join(map(_escaped, cells)) + r" \\"

    notes = [
        rf"\multicolumn{{{len(headings)}}}{{l}}{{\footnotesize {_escaped(mark)}}} \\"
        for mark in _notes(result)
    ]
    lines = [
        f"% {' '.join(_source(result).split())}; needs \\usepackage{{booktabs}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        line(headings),
        r"\midrule",
        *map(line, rows),
        r"\bottomrule",
        *notes,
        r"\end{tabular}",
    ]
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    safe = _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], "\\" + found[0]), text)
    return safe.replace("±", r"$\pm$").replace("–", "--")
