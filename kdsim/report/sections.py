"""One self-contained HTML page of a comparison: the answer, figures, all numbers, how it was made.

The page opens from a file, without network, in light and dark, on paper and with a keyboard. The
same input gives the same bytes. Its frame is in ``page``, what it says first in ``answer``, its
figures in ``drawings``.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdsim._types import RecordView
from kdsim._version import __version__
from kdsim.answers.advice import Advice
from kdsim.errors import PlotError
from kdsim.output_file import check_output, write_output
from kdsim.plots.labels import field_label
from kdsim.report.answer import answer, bound_words, warnings
from kdsim.report.drawings import figures, timelines
from kdsim.report.how_sure import advice_section, curves_section
from kdsim.report.page import Column, Section, escape, facts, page, table
from kdsim.results.comparison import SUMMARY_COLUMNS, Comparison, MissingRun, Sample
from kdsim.results.curve_uncertainty import CURVE_COLUMNS, CurveUncertainty
from kdsim.scenario.study import Scenario

#: Rows of the table; the page has to stay one that a browser sorts at once.
MAX_ROWS = 2000


@dataclass(frozen=True, eq=False)
class ReportData:
    """What a report is made of.

    Attributes
    ----------
    samples : sequence of Sample
        In the order of points, then of policies.
    manifest : mapping
        Facts on how the samples were made, shown as they are: versions, hashes, run times.
    missing : sequence of MissingRun
        Runs that failed or are pending.
    point : mapping, optional
        The point whose runs are drawn; the median point of the design by default.
    curves : CurveUncertainty, optional
        The same points and policies over draws of the device's curves.
    advice : Advice, optional
        What `kdsim.answers.advice.advise` says of the scenario.
    """

    scenario: Scenario
    samples: Sequence[Sample]
    manifest: RecordView = field(default_factory=dict)
    missing: Sequence[MissingRun] = ()
    point: RecordView | None = None
    curves: CurveUncertainty | None = None
    advice: Advice | None = None


def write_report(data: ReportData | Comparison, path: str | Path) -> Path:
    """Write the report of a comparison as one HTML page.

    Parameters
    ----------
    path : str or Path
        Ends in ``.html``; its folder must exist.

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    PlotError
        If there are no samples, or the place cannot be written.
    """
    check_output(path, "page")
    if isinstance(data, Comparison):
        data = ReportData(data.scenario, data.samples, missing=data.missing, curves=data.curves)
    return write_output(path, report_html(data).encode())


def report_html(data: ReportData) -> str:
    """Return the page of `write_report`."""
    if not data.samples:
        raise PlotError("there is nothing to report: no samples")
    made = Comparison(data.scenario, data.samples, data.missing, data.curves)
    sections = [
        answer(made),
        *([advice_section(data.advice)] if data.advice else []),
        *([curves_section(data.curves)] if data.curves else []),
        figures(made),
        *timelines(made, data.point),
        _numbers(made),
        _scenario(data.scenario),
        _method(data, made),
    ]
    name = data.scenario.name
    description = data.scenario.description
    header = "\n".join(
        filter(
            None,
            [
                f"<h1>{escape(name)}: how to share the cores</h1>",
                f"<p>{escape(description)}</p>" if description else "",
                warnings(made),
            ],
        )
    )
    footer = f"<p>Made by kdsim {escape(__version__)}.</p>"
    return page(f"{name} – kdsim report", header, sections, footer)


# --- sections -------------------------------------------------------------------------------------


def _numbers(made: Comparison) -> Section:
    fields = list(made.samples[0].point)
    shown_rows = zip(made.samples[:MAX_ROWS], made.rows[:MAX_ROWS], strict=True)
    rows = [{**row, **made.curve_columns(s), "ci": _range(row)} for s, row in shown_rows]
    columns = [
        *(Column(name, field_label(name), text=True) for name in fields),
        Column("policy", "policy", text=True),
        Column("mean", "mean (s)", 3),
        Column("ci", "95 % CI (s), method", sort_by="ci_low"),
        Column("sd", "sd (s)", 3),
        Column("min", "min (s)", 3),
        Column("max", "max (s)", 3),
        Column("n", "n"),
        Column("gap_mean", "mean gap (%)", 2, percent=True),
        Column("gap_max", "max gap (%)", 2, percent=True),
        Column("bound", f"{bound_words(made)} (s)", 3),
    ]
    left_out = len(made.rows) - len(rows)
    note = f" The first {MAX_ROWS:,} of {len(made.rows):,} rows." if left_out else ""
    caption = f"Makespans, one row per point and policy.{note} A heading sorts by its column."
    content = _csv(fields, rows, drawn=made.curves is not None)
    link = (
        f'<p class="screen"><a download="{escape(made.scenario.name)}.csv" '
        f'href="data:text/csv;base64,{content}">Download this table (CSV)</a></p>'
    )
    shown = table(columns, rows, caption, name="results", filtered=True)
    return Section("numbers", f"All numbers ({len(rows):,} rows)", f"{shown}\n{link}", folded=True)


def _range(row: RecordView) -> str:
    if row["ci_method"] in ("exact", "none"):
        return "exact" if row["ci_method"] == "exact" else "–"
    return f"{row['ci_low']:,.3f} – {row['ci_high']:,.3f} ({row['ci_method']})"


def _csv(fields: Sequence[str], rows: Sequence[RecordView], *, drawn: bool) -> str:
    text = io.StringIO()
    names = [*fields, *SUMMARY_COLUMNS, *(CURVE_COLUMNS if drawn else ())]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return base64.b64encode(text.getvalue().encode()).decode()


def _scenario(scenario: Scenario) -> Section:
    # Curves and profiles read from other files are shown by what was read.
    left_out = {
        "device": {"curves", "draws"},
        "workload": {"profile", "profile_rate"},
        "link": {"trace", "repeat"},
    }
    data = scenario.model_dump(mode="json", exclude=left_out)
    pairs = [(k, v) for k, v in _flat(data) if k not in ("name", "description")]
    text = scenario.model_dump_json(indent=2, exclude=left_out)
    source = (
        "<details><summary>As a scenario file (JSON, which is YAML)</summary>"
        f"<pre>{escape(text)}</pre></details>"
        if len(text) <= 200_000
        else ""
    )
    shown = facts(pairs, "Every field of the scenario", name="scenario")
    return Section("scenario-fields", "Scenario", f"{shown}\n{source}", folded=True)


def _flat(data: RecordView, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value and key != "sweep":
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, Mapping):
            yield prefix + key, "; ".join(f"{k}: {_listed(v)}" for k, v in value.items()) or "none"
        else:
            yield prefix + key, _listed(value)


def _listed(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if (
        isinstance(value, list)
        and len(value) > 24
        and all(isinstance(v, int | float) for v in value)
    ):
        return f"{len(value)} numbers from {min(value):g} to {max(value):g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _method(data: ReportData, made: Comparison) -> Section:
    bound = bound_words(made)
    methods = {row["ci_method"] for row in made.rows}
    words = {
        "t": "Student's t over independent replications, two-sided, 95 %",
        "exact": "none needed: all runs are equal",
        "none": "none can be given from a single replication",
    }
    sizes = sorted({row["n"] for row in made.rows})
    proof = (
        "taut string under the precedence staircase; exact, attained by a schedule"
        if bound == "optimum"
        else "taut string and release times; no schedule is faster, none need attain it"
    )
    pairs: list[tuple[str, Any]] = [
        ("seed", data.scenario.seed),
        ("replications n", ", ".join(f"{n:,}" for n in sizes)),
        *((f"interval “{m}”", words.get(m, m)) for m in sorted(methods)),
        (f"proven {bound}", proof),
        ("randomness", "common: replication r has the same draws and noise under every policy"),
        ("scenario hash", data.scenario.digest()),
        ("kdsim version", __version__),
        *((str(key), _listed(value)) for key, value in data.manifest.items()),
    ]
    shown = facts(pairs, "What determines every number of this page", name="method")
    return Section("method-facts", "How the numbers were made", shown, folded=True)
