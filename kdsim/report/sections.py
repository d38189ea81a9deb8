"""One self-contained HTML page of a comparison: figures, sortable table, how it was made.

The page opens from a file, without network, in light and dark, on paper and with a keyboard. The
same input gives the same bytes. Its frame is in ``report_page``, its figures in ``plots``.
"""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdsim import plots
from kdsim._version import __version__
from kdsim.engines.des import simulate
from kdsim.errors import PlotError
from kdsim.output_file import write_output
from kdsim.plots.labels import field_label, percent, point_label
from kdsim.policies.names import POLICY_NAMES
from kdsim.report.page import Column, escape, facts, figure, page, table
from kdsim.results.comparison import SUMMARY_COLUMNS, Comparison, Sample
from kdsim.results.gaps import NO_GAP
from kdsim.scenario.study import Scenario, with_fields

#: Rows of the table; the page has to stay one that a browser sorts at once.
MAX_ROWS = 2000
#: Figures of one kind: lines for each fixed field, heat maps for each policy, points of regret.
_MAX_FIGURES = 6
#: A run of more cycles is not simulated again for its timeline.
_MAX_CYCLES = 5000


@dataclass(frozen=True, eq=False)
class ReportData:
    """What a report is made of.

    Attributes
    ----------
    scenario : Scenario
    samples : sequence of Sample
        In the order of points, then of policies.
    manifest : mapping
        Facts on how the samples were made, shown as they are: versions, hashes, run times.
    """

    scenario: Scenario
    samples: Sequence[Sample]
    manifest: Mapping[str, Any] = field(default_factory=dict)


def write_report(data: ReportData | Comparison, path: str | Path) -> Path:
    """Write the report of a comparison as one HTML page.

    Parameters
    ----------
    data : ReportData or Comparison
    path : str or Path
        Its folder must exist.

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    PlotError
        If there are no samples, or the place cannot be written.
    """
    if isinstance(data, Comparison):
        data = ReportData(data.scenario, data.samples)
    return write_output(path, report_html(data).encode())


def report_html(data: ReportData) -> str:
    """Return the page of `write_report`."""
    if not data.samples:
        raise PlotError("there is nothing to report: no samples")
    made = Comparison(data.scenario, data.samples)
    sections = [
        _result(made),
        _table(made),
        _sweep(made),
        _regret(made),
        _timelines(made),
        _scenario(data.scenario),
        _method(data, made),
    ]
    name = data.scenario.name
    header = f"<h1>{escape(name)}: how to share the cores</h1>\n" + (
        f"<p>{escape(data.scenario.description)}</p>" if data.scenario.description else ""
    )
    header += "".join(f'\n<p class="note">{escape(mark)}</p>' for mark in made.marks)
    footer = f"<p>Made by kdsim {escape(__version__)}.</p>"
    return page(f"{name} – kdsim report", header, filter(None, sections), footer)


# --- sections -------------------------------------------------------------------------------------


def _result(made: Comparison) -> str:
    names = list(dict.fromkeys(sample.policy for sample in made.samples))
    rows = []
    for name in names:
        gaps = [row["gap_mean"] for row in made.rows if row["policy"] == name]
        rows.append({"policy": name, "least": min(gaps), "most": max(gaps)})
    points = len({_key(sample) for sample in made.samples})
    over = "" if points == 1 else f", over {points} points of the sweep"
    bound = _bound_words(made.samples)
    columns = [
        Column("policy", "policy", text=True),
        Column("least", "smallest mean gap (%)", 2, percent=True),
        Column("most", "largest mean gap (%)", 2, percent=True),
    ]
    caption = f"Time lost against the proven {bound}{over}; 0 is as fast as any schedule can be."
    if bound != "optimum":
        caption = f"Time above the proven {bound}{over}; no schedule can be below 0."
    return "\n".join(
        [
            "<h2>Result</h2>",
            f"<p>{escape(_verdict(rows, bound))}</p>",
            table(columns, rows, caption, name="gaps"),
            _drawn(
                lambda: plots.comparison(made),
                "Makespan of each policy",
                "Means with 95 % confidence intervals; shapes show all replications, thin lines "
                f"5 to 95 % of them. The line across each group is the proven {bound}.",
                name="comparison",
            ),
            _drawn(
                lambda: plots.comparison(made, value="gap"),
                "Gap of each policy to the proven bound",
                f"The same as a gap to the {bound} of the same replication.",
                name="gap",
            ),
        ]
    )


def _verdict(rows: Sequence[Mapping[str, Any]], bound: str) -> str:
    on_bound = [row["policy"] for row in rows if row["most"] <= NO_GAP]
    closest = min(rows, key=lambda row: row["most"])
    slowest = max(rows, key=lambda row: row["most"])
    parts = []
    if on_bound:
        are = "is" if len(on_bound) == 1 else "are"
        parts.append(f"{' and '.join(on_bound)} {are} on the proven {bound} everywhere.")
    elif len(rows) > 1:
        parts.append(
            f"Closest to the proven {bound} is {closest['policy']}, with a mean gap of at most "
            f"{percent(closest['most'])}."
        )
    if slowest["most"] > NO_GAP:
        equals = [row["policy"] for row in rows if abs(row["most"] - slowest["most"]) <= NO_GAP]
        parts.append(
            f"The largest mean gap is {percent(slowest['most'])} ({' and '.join(equals)})."
        )
    return " ".join(parts)


def _table(made: Comparison) -> str:
    fields = list(made.samples[0].point)
    rows = [{**row, "ci": _range(row)} for row in made.rows[:MAX_ROWS]]
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
        Column("bound", f"{_bound_words(made.samples)} (s)", 3),
    ]
    left_out = len(made.rows) - len(rows)
    note = f" The first {MAX_ROWS:,} of {len(made.rows):,} rows." if left_out else ""
    caption = f"Makespans, one row a point and policy.{note} A heading sorts by its column."
    return "\n".join(
        [
            "<h2>All numbers</h2>",
            table(columns, rows, caption, name="results"),
            f'<p class="screen"><a download="{escape(made.scenario.name)}.csv" '
            f'href="data:text/csv;base64,{_csv(fields, rows)}">Download this table (CSV)</a></p>',
        ]
    )


def _range(row: Mapping[str, Any]) -> str:
    if row["ci_method"] in ("exact", "none"):
        return "exact" if row["ci_method"] == "exact" else "–"
    return f"{row['ci_low']:,.3f} – {row['ci_high']:,.3f} ({row['ci_method']})"


def _csv(fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [*fields, *SUMMARY_COLUMNS], extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return base64.b64encode(text.getvalue().encode()).decode()


def _sweep(made: Comparison) -> str:
    fields = list(made.samples[0].point)
    swept = [f for f in fields if len({repr(s.point[f]) for s in made.samples}) > 1]
    points = len({_key(sample) for sample in made.samples})
    if not swept or points != math.prod(len({s.point[f] for s in made.samples}) for f in fields):
        return ""  # of a sampled design no two points share all fields but one
    x = "device.cores" if "device.cores" in swept else swept[0]
    figures = [*_line_figures(made, x, [f for f in fields if f != x])]
    if len(swept) == 2:
        figures.append(_maps(made, x, next(f for f in swept if f != x)))
    return "\n".join(["<h2>The sweep</h2>", *figures])


def _maps(made: Comparison, x: str, y: str) -> str:
    """Draw a heat map for each policy that leaves the bound, all on one scale."""
    gaps: dict[str, float] = {}
    for row in made.rows:
        gaps[row["policy"]] = max(row["gap_mean"], gaps.get(row["policy"], 0.0))
    names = [name for name, most in gaps.items() if most > NO_GAP][:_MAX_FIGURES]
    maps = [
        _drawn(
            lambda name=name: plots.gap_heatmap(made.frame, x, y, name, top=max(gaps.values())),  # type: ignore[misc]
            f"Gap of {name} over two swept fields",
            "",
            name=f"map{k}",
        )
        for k, name in enumerate(names)
    ]
    return f'<h3>Gap over both fields</h3>\n<div class="pair">{"".join(maps)}</div>' if maps else ""


def _line_figures(made: Comparison, x: str, rest: Sequence[str]) -> Iterator[str]:
    frame = made.frame
    fixed = list(dict.fromkeys(tuple(s.point[f] for f in rest) for s in made.samples))
    if len(fixed) > _MAX_FIGURES:
        yield f'<p class="note">Lines are drawn for the first {_MAX_FIGURES} of {len(fixed)}.</p>'
    for k, values in enumerate(fixed[:_MAX_FIGURES]):
        part = frame
        for name, value in zip(rest, values, strict=True):
            part = part[part[name] == value]
        where = ", ".join(point_label(f, v) for f, v in zip(rest, values, strict=True))
        yield _drawn(
            lambda part=part: plots.sweep_lines(part, x),  # type: ignore[misc]
            f"Makespan against {field_label(x)} {where}",
            f"{where + ': m' if where else 'M'}ean makespan against {field_label(x)}; the broad "
            "line is the proven bound.",
            name=f"lines{k}",
        )


def _regret(made: Comparison) -> str:
    noisy = [sample for sample in made.samples if sample.bounds.size > 1]
    if not noisy:
        return ""
    keys = list(dict.fromkeys(_key(sample) for sample in noisy))[:_MAX_FIGURES]
    shown = [sample for sample in noisy if _key(sample) in keys]
    return "<h2>Regret under noise</h2>\n" + _drawn(
        lambda: plots.regret_distribution(shown),
        "Distribution of the gaps over the replications",
        "Share of replications whose gap to the best schedule in hindsight is no larger; bands "
        "are 95 % confidence bands of the whole curve (Dvoretzky, Kiefer, Wolfowitz).",
        name="regret",
    )


def _timelines(made: Comparison) -> str:
    names = [name for name in POLICY_NAMES if any(s.policy == name for s in made.samples)]
    others = [name for name in ("greedy", "greedy-full", "random", *names) if name in names]
    chosen = [name for name in ("optimal", *others[:1]) if name in names or name == "optimal"]
    point = made.samples[0].point
    scenario = with_fields(made.scenario, point)
    if scenario.workload.cycles > _MAX_CYCLES:
        return ""
    where = ", ".join(point_label(f, v) for f, v in point.items())
    figures = []
    for k, name in enumerate(dict.fromkeys(chosen)):
        run = simulate(scenario, name)
        figures.append(
            _drawn(
                lambda run=run: plots.timeline(run),  # type: ignore[misc]
                f"Timeline of {name}",
                f"Replication 0{' at ' + where if where else ''}: which task holds how many cores.",
                name=f"timeline{k}",
            )
        )
    return "\n".join(["<h2>What a run looks like</h2>", *figures])


def _scenario(scenario: Scenario) -> str:
    # Curves and profiles read from other files are shown by what was read.
    left_out = {"device": {"curves"}, "workload": {"profile", "profile_rate"}}
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
    return f"<h2>Scenario</h2>\n{shown}\n{source}"


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value and key != "sweep":
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, Mapping):
            yield prefix + key, "; ".join(f"{k}: {_listed(v)}" for k, v in value.items()) or "none"
        else:
            yield prefix + key, _listed(value)


def _listed(value: Any) -> str:
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


def _method(data: ReportData, made: Comparison) -> str:
    bound = _bound_words(made.samples)
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
    return f"<h2>How the numbers were made</h2>\n{shown}"


# --- parts ----------------------------------------------------------------------------------------


def _drawn(draw: Callable[[], Any], label: str, caption: str, *, name: str) -> str:
    """Return a figure, or where it cannot be drawn (too many panels), why."""
    try:
        svg = plots.render(draw(), "svg").decode()
    except PlotError as error:
        return f'<p class="note">{escape(label)}: {escape(error)}</p>'
    return figure(svg, label, caption, name=name)


def _bound_words(samples: Sequence[Sample]) -> str:
    exact = all(sample.bound_kind == "optimum" for sample in samples)
    return "optimum" if exact else "lower bound"


def _key(sample: Sample) -> tuple[tuple[str, str], ...]:
    return tuple((name, repr(value)) for name, value in sample.point.items())
