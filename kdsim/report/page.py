"""The frame of a report: styles, the script that sorts tables, small makers of HTML.

The page needs nothing but itself: no network, no font, no library; its content security policy
forbids them. What goes into it is in ``report``.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdsim.plots.style import GRID, INK, MUTED, PAPER, STAGE_COLORS

STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1b; --muted: #5c5b56; --line: #e4e3de;
  --page: #f6f6f3; --card: #fefefe; --accent: #0060a8; --stripe: #f3f3ef;
  --comm: #004488; }
@media (prefers-color-scheme: dark) { :root { --ink: #ecebe6; --muted: #a9a8a2; --line: #3b3b38;
  --page: #161615; --card: #20201e; --accent: #7cc0f4; --stripe: #272725;
  --comm: #3f86cf; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; } footer { padding-bottom: 3rem; color: var(--muted); }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .6rem; } h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { max-width: 46rem; margin: .5rem 0; } .muted { color: var(--muted); }
a { color: var(--accent); }
figure { margin: 1rem 0; padding: 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
figure > div { overflow-x: auto; }
figure svg { display: block; max-width: 100%; min-width: 26rem; height: auto; margin: 0 auto; }
figcaption { margin-top: .75rem; color: var(--muted); font-size: .9rem; max-width: 46rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr));
  gap: 0 1rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
.scroll:focus-visible, button:focus-visible, summary:focus-visible, a:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap;
  border-top: 1px solid var(--line); }
table > :first-child > tr:first-child > * { border-top: 0; }
thead th { vertical-align: bottom; white-space: normal; }
th { font-weight: 600; } tbody th { font-weight: 500; }
th.text, td.text { text-align: left; } td.wrap { white-space: normal; overflow-wrap: anywhere; }
tbody tr:nth-child(even) { background: var(--stripe); }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  cursor: pointer; text-align: inherit; }
th button::after { content: "\\2195"; opacity: .4; margin-left: .35em; }
th[aria-sort=ascending] button::after { content: "\\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: "\\2193"; opacity: 1; }
details { margin: .75rem 0; } summary { cursor: pointer; }
pre { overflow: auto; max-height: 30rem; padding: 1rem; font-size: .85rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; }
.note { border-left: 3px solid var(--accent); padding-left: .75rem; }
@media print {
  :root { --ink: #1d1d1b; --muted: #5c5b56; --line: #d4d3ce; --page: #fff; --card: #fff;
    --accent: #1d1d1b; --stripe: #f6f6f3; --comm: #004488; }
  body { font-size: 10pt; } main, header, footer { max-width: none; padding: 0; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; } th button::after { content: ""; } .screen { display: none; } }
"""

# Sorting is stable, so that sorting by one column and then another groups as one expects; empty
# values (an interval that cannot be given) come last either way.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map(row => [row.cells[column].dataset.value, row]);
    const numeric = keyed.every(([key]) => key === "" || Number.isFinite(Number(key)));
    const order = (a, b) => numeric ? a - b : a.localeCompare(b, "en", {numeric: true});
    keyed.sort(([a], [b]) => a === "" || b === "" ? (a === "") - (b === "")
      : down ? order(b, a) : order(a, b));
    body.append(...keyed.map(([, row]) => row));
  }));
}
"""

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'"
)


def escape(text: Any) -> str:
    """Make any text safe to stand in the page."""
    return html.escape(str(text), quote=True)


def page(title: str, header: str, sections: Iterable[str], footer: str) -> str:
    """Return the whole page."""
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
{header}
</header>
<main>
{body}
</main>
<footer>
{footer}
</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""


# --- tables ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its key in the rows, its heading, how its values are written.

    `digits` None is for text and whole numbers, shown as they are; `percent` multiplies by 100;
    `sort_by` is the key whose values a column sorts by, its own by default.
    """

    key: str
    heading: str
    digits: int | None = None
    percent: bool = False
    text: bool = False
    sort_by: str = ""

    def shown(self, value: Any) -> str:
        """Write one value; what is not a finite number is a dash."""
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return "–"
        if self.digits is None or isinstance(value, str):
            return f"{value:g}" if isinstance(value, float) else str(value)
        rounded = round(100.0 * value if self.percent else value, self.digits)
        return f"{rounded + 0.0:,.{self.digits}f}"  # no minus before a zero


def table(
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    caption: str,
    *,
    name: str,
    sortable: bool = True,
) -> str:
    """Return a table that scrolls on its own; `name` is its id and the key of its row headings."""
    heads = "".join(_heading(column, sortable=sortable) for column in columns)
    lines = "\n".join(
        "<tr>" + "".join(_cell(column, row) for column in columns) + "</tr>" for row in rows
    )
    kind = ' class="sortable"' if sortable else ""
    return f"""<p class="muted" id="{escape(name)}-caption">{escape(caption)}</p>
<div class="scroll" role="region" aria-labelledby="{escape(name)}-caption" tabindex="0">
<table id="{escape(name)}" aria-labelledby="{escape(name)}-caption"{kind}>
<thead><tr>{heads}</tr></thead>
<tbody>
{lines}
</tbody>
</table>
</div>"""


def _heading(column: Column, *, sortable: bool) -> str:
    kind = ' class="text"' if column.text else ""
    words = escape(column.heading)
    if not sortable:
        return f'<th scope="col"{kind}>{words}</th>'
    return f'<th scope="col"{kind} aria-sort="none"><button type="button">{words}</button></th>'


def _cell(column: Column, row: Mapping[str, Any]) -> str:
    shown = escape(column.shown(row.get(column.key)))
    sort = "" if shown == "–" else escape(row.get(column.sort_by or column.key))
    kind = ' class="text"' if column.text else ""
    if column.key == "policy":
        return f'<th scope="row"{kind} data-value="{sort}">{shown}</th>'
    return f'<td{kind} data-value="{sort}">{shown}</td>'


def facts(pairs: Iterable[tuple[str, Any]], caption: str, *, name: str) -> str:
    """Return a table of names and values."""
    lines = "\n".join(
        f'<tr><th scope="row" class="text">{escape(key)}</th>'
        f'<td class="text wrap">{escape(value)}</td></tr>'
        for key, value in pairs
    )
    return (
        f'<p class="muted" id="{escape(name)}-caption">{escape(caption)}</p>\n'
        f'<div class="scroll"><table id="{escape(name)}" aria-labelledby="{escape(name)}-caption">'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


# --- figures --------------------------------------------------------------------------------------

_THEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)", PAPER: "var(--card)"}
_THEME[STAGE_COLORS["comm"]] = "var(--comm)"  # too dark for a dark page
_DROPPED = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", re.DOTALL)
_IDENTIFIER = re.compile(r'(\bid="|href="#|url\(#)')


def figure(svg: str, label: str, caption: str, *, name: str) -> str:
    """Return a figure with its SVG inline, in the colours of the page.

    Parameters
    ----------
    svg : str
        As matplotlib writes it.
    label : str
        What the figure shows, for those who cannot see it.
    caption : str
        Shown below it; none if empty.
    name : str
        Makes the identifiers inside the SVG unique in the page.
    """
    drawing = _DROPPED.sub("", svg).strip()
    drawing = _IDENTIFIER.sub(rf"\g<1>{name}-", drawing)
    for color, variable in _THEME.items():
        drawing = drawing.replace(color, variable)
    drawing = drawing.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
    words = f"<figcaption>{escape(caption)}</figcaption>\n" if caption else ""
    return f"<figure>\n<div>{drawing}</div>\n{words}</figure>"
