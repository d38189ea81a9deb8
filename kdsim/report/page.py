"""The frame of a report: the page around its sections, and small makers of HTML.

The page needs nothing but itself: no network, no font, no library; its content security policy
forbids them. Its style and script stand beside this module (``page.css``, ``page.js``), what goes
into it is in ``sections``.
"""

from __future__ import annotations

import html
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from kdsim._types import RecordView
from kdsim.plots.style import GRID, INK, MUTED, PAPER, STAGE_COLORS, WARNING

_RATIO = re.compile(r"\s*(\d+(?:\.\d+)?)\s*:\s*(\d+(?:\.\d+)?)\s*", re.ASCII)
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'"
)


def escape(text: object) -> str:
    """Make any text safe to stand in the page."""
    return html.escape(str(text), quote=True)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    name : str
        Its identifier, to which the list of contents links.
    body : str
        HTML.
    folded : bool
        Whether it is shown only on request.
    """

    name: str
    heading: str
    body: str
    folded: bool = False

    def __str__(self) -> str:
        heading = f"<h2>{escape(self.heading)}</h2>"
        inside = f"{heading}\n{self.body}"
        if self.folded:
            inside = f"<details><summary>{heading}</summary>\n{self.body}\n</details>"
        return f'<section id="{escape(self.name)}">\n{inside}\n</section>'


def page(title: str, header: str, sections: Sequence[Section], footer: str) -> str:
    """Return the whole page, with a list of its contents."""
    body = "\n".join(map(str, sections))
    contents = "\n".join(
        f'<li><a href="#{escape(part.name)}">{escape(part.heading)}</a></li>' for part in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_resource("page.css")}</style>
</head>
<body>
<header>
{header}
</header>
<nav aria-label="Contents">
<ul>
{contents}
</ul>
</nav>
<main>
{body}
</main>
<footer>
{footer}
</footer>
<script>
{_resource("page.js")}</script>
</body>
</html>
"""


def _resource(name: str) -> str:
    return resources.files("kdsim.report").joinpath(name).read_text(encoding="utf-8")


def banner(heading: str, points: Sequence[str] = ()) -> str:
    """Return a box that nobody overlooks."""
    items = "".join(f"<li>{escape(point)}</li>" for point in points)
    more = f"<ul>{items}</ul>" if items else ""
    return f'<div class="banner" role="note"><strong>{escape(heading)}</strong>{more}</div>'


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
    rows: Sequence[RecordView],
    caption: str,
    *,
    name: str,
    sortable: bool = True,
    filtered: bool = False,
) -> str:
    """Return a table that scrolls on its own; `name` is its id.

    Without a script it is complete; with one its headings sort it and, if `filtered`, a box above
    it selects rows.
    """
    heads = "".join(_heading(column, sortable=sortable) for column in columns)
    lines = "\n".join(
        "<tr>" + "".join(_cell(column, row) for column in columns) + "</tr>" for row in rows
    )
    kind = ' class="sortable"' if sortable else ""
    box = (
        f'<p class="filter screen" hidden><label>Rows with <input type="search" '
        f'data-table="{escape(name)}" placeholder="e.g. greedy 8"></label> <output></output></p>\n'
        if filtered
        else ""
    )
    return f"""{box}<p class="muted" id="{escape(name)}-caption">{escape(caption)}</p>
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


def _cell(column: Column, row: RecordView) -> str:
    shown = escape(column.shown(row.get(column.key)))
    sort = "" if shown == "–" else escape(_sort_key(row.get(column.sort_by or column.key)))
    kind = ' class="text"' if column.text else ""
    if column.key == "policy":
        return f'<th scope="row"{kind} data-value="{sort}">{shown}</th>'
    return f'<td{kind} data-value="{sort}">{shown}</td>'


def _sort_key(value: object) -> Any:
    """Return what a value is sorted by: of a ratio such as ``10:1`` the number that it is."""
    ratio = _RATIO.fullmatch(value) if isinstance(value, str) else None
    if ratio is None:
        return value
    comp, comm = map(float, ratio.groups())
    return comp / comm if comm else sys.float_info.max


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
_THEME[WARNING] = "var(--warning)"
_THEME[STAGE_COLORS["comm"]] = "var(--comm)"  # too dark for a dark page
_DROPPED = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", re.DOTALL)
_WIDTH = re.compile(r'<svg [^>]*?width="([0-9.]+)pt"')
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
    width = _WIDTH.search(drawing)
    # On a narrow screen a figure shrinks as far as it can be read, and then it scrolls.
    least = f"min-width: {0.62 * float(width[1]):.0f}pt" if width else ""
    opening = f'<svg role="img" aria-label="{escape(label)}" style="{least}" '
    drawing = drawing.replace("<svg ", opening, 1)
    words = f"<figcaption>{escape(caption)}</figcaption>\n" if caption else ""
    return f"<figure>\n<div>{drawing}</div>\n{words}</figure>"
