"""The pages over the records of `benchmarks/validation.py` and `learning_validation.py`.

    python benchmarks/validation_page.py     # results/validation/README.md, docs/evidence

Every number on them is computed here from the records; what stands in `docs/evidence/validation.md`
between the two marks is made here as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

RESULTS = Path(__file__).resolve().parent / "results" / "validation"
EVIDENCE = Path(__file__).resolve().parents[1] / "docs" / "evidence" / "validation.md"
MARKS = "<!-- made by benchmarks/validation_page.py -->", "<!-- end of what is made -->"


def read_records(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Read each device's table, summary, drill and epochs."""
    found = {}
    for device in sorted(path.parent for path in folder.glob("*/summary.json")):
        record: dict[str, Any] = {"name": device.name}
        for name in ("summary", "manifest", "drill-summary", "learning/summary",
                     "learning/manifest"):  # fmt: skip
            path = device / f"{name}.json"
            record[name] = json.loads(path.read_text()) if path.exists() else None
        for name in ("table", "drill-table", "learning/epochs"):
            path = device / f"{name}.csv"
            record[name] = pd.read_csv(path) if path.exists() else None
        found[device.name] = record
    return found


def percent(share: float, digits: int = 1) -> str:
    """Show a share."""
    return f"{100 * share:.{digits}f} %"


def signed(share: float) -> str:
    """Show a signed share."""
    return f"{100 * share:+.1f} %"


def headline(record: dict[str, Any]) -> str:
    """Say what the table shows, in sentences."""
    table, summary = record["table"], record["summary"]
    runs, disturbed = int(table["runs"].sum()), int(table["disturbed"].sum())
    conditions = table["condition"].nunique()
    verdict = summary["verdict"]
    return (
        f"`{record['name']}`: {conditions} conditions x {table['policy'].nunique()} policies, "
        f"{runs} undisturbed live runs ({disturbed} more were disturbed and set aside). Absolute "
        f"error of the makespan: median **{percent(summary['median_absolute_error'])}**, 95th "
        f"percentile **{percent(summary['p95_absolute_error'])}**, worst "
        f"{percent(summary['worst_absolute_error'])} (targets: 5 % and 10 %). "
        f"The predictions are {sum(summary['distinct_predictions'].values())} distinct ones, "
        f"{min(summary['distinct_predictions'].values())} to "
        f"{max(summary['distinct_predictions'].values())} per condition. Of "
        f"{summary['pairs']} pairs of distinct predictions {summary['pairs_separated']} have "
        f"measured intervals that separate, and {summary['pairs_in_order']} of those are in the "
        f"order predicted. The verdict of `validate`: {verdict['word']}."
    )


def cells(table: pd.DataFrame) -> str:
    """Return the table of all cells."""
    lines = [
        "| condition | policy | measured (s) | predicted (s) | error | runs (set aside) |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in table.to_dict("records"):
        measured = "-" if pd.isna(row["measured"]) else f"{row['measured']:.3f}"
        if not pd.isna(row["measured_low"]):
            measured += f" [{row['measured_low']:.3f}, {row['measured_high']:.3f}]"
        predicted = f"{row['predicted']:.3f}"
        if not pd.isna(row["predicted_low"]):
            predicted += f" [{row['predicted_low']:.3f}, {row['predicted_high']:.3f}]"
        error = "-" if pd.isna(row["error"]) else signed(row["error"])
        condition = row["condition"].replace("scenarios/links/", "")
        lines.append(
            f"| {condition} | {row['policy']} | {measured} | {predicted} | {error} | "
            f"{row['runs']} ({row['disturbed']}) |"
        )
    return "\n".join(lines)


def by_condition(record: dict[str, Any]) -> str:
    """Return one row per condition: errors, distinct predictions, ranking."""
    summary, table = record["summary"], record["table"]
    lines = [
        "| condition | median error | worst error | distinct predictions | Kendall's tau |",
        "|---|---:|---:|---:|---:|",
    ]
    for condition, rows in table.groupby("condition", sort=False):
        errors = rows["error"].abs()
        tau = summary["kendall_tau"].get(str(condition))
        shown = "-" if tau is None or pd.isna(tau) else f"{tau:+.2f}"
        name = str(condition).replace("scenarios/links/", "")
        lines.append(
            f"| {name} | {percent(errors.median())} | {percent(errors.max())} | "
            f"{summary['distinct_predictions'].get(str(condition), 0)} | {shown} |"
        )
    return "\n".join(lines)


def drill(record: dict[str, Any]) -> str:
    """Say what the validation did beside a process that comes and goes."""
    summary, table, quiet = record["drill-summary"], record["drill-table"], record["table"]
    if summary is None:
        return "Not made."
    pairs = table.merge(quiet, on=["condition", "policy"], suffixes=("", "_quiet"))
    worst, worst_quiet = pairs["error"].abs().max(), pairs["error_quiet"].abs().max()
    median, median_quiet = pairs["error"].abs().median(), pairs["error_quiet"].abs().median()
    word = summary["verdict"]["word"]
    return (
        f"{len(table)} cells beside a busy process that starts and stops at random: "
        f"{int(table['disturbed'].sum())} of {int((table['disturbed'] + table['runs']).sum())} "
        f"runs were seen to be disturbed and set aside. Verdict: **{word}** "
        f"({summary['verdict']['reason']}). Over the undisturbed runs the absolute error is "
        f"{percent(median)} in the median and {percent(worst)} at worst; the same cells in quiet: "
        f"{percent(median_quiet)} and {percent(worst_quiet)}."
    )


def learning(record: dict[str, Any]) -> str:
    """Say how well the moments of epochs' ends are predicted."""
    summary, manifest = record["learning/summary"], record["learning/manifest"]
    if summary is None:
        return "Not made."
    links = " and ".join(f"{rate:g} MB/s" for rate in manifest["links"].values())
    lines = [
        f"Edge KD on digits ({manifest['method']}s of the teacher, links of {links}), "
        f"{summary['runs'] - summary['disturbed']} undisturbed live runs of "
        f"{manifest['config']['epochs']} epochs ({summary['disturbed']} more set aside), each "
        "predicted from the cost profile of a run under another policy and without a link: "
        f"**{percent(summary['within_10_percent'])}** of {summary['epochs']} epochs end within "
        f"10 % of the predicted moment (target: 90 %); absolute error: median "
        f"{percent(summary['median_absolute_error'])}, 95th percentile "
        f"{percent(summary['p95_absolute_error'])}, worst "
        f"{percent(summary['worst_absolute_error'])}. The accuracies differ from those recorded "
        f"in {summary['accuracies_that_differ']} of {summary['epochs']} epochs.",
        "",
        "| link | policy | median error | worst error |",
        "|---|---|---:|---:|",
    ]
    lines += [
        f"| {row['link']} | {row['policy']} | {percent(row['median'])} | {percent(row['max'])} |"
        for row in summary["by_cell"]
    ]
    return "\n".join(lines)


def summary_block(records: dict[str, dict[str, Any]]) -> str:
    """Return what the evidence page says."""
    parts = [MARKS[0]]
    for record in records.values():
        parts += [headline(record), by_condition(record), f"Drill. {drill(record)}",
                  f"Accuracy over time. {learning(record)}"]  # fmt: skip
    return "\n\n".join([*parts, MARKS[1]])


def page(records: dict[str, dict[str, Any]]) -> str:
    """Return the README of the results."""
    parts = [HEAD]
    for record in records.values():
        parts += [f"## {record['name']}", headline(record), by_condition(record),
                  "### Every cell", CELLS, cells(record["table"]), "### Beside a busy process",
                  drill(record), "### Accuracy over time", learning(record)]  # fmt: skip
    return "\n\n".join(parts) + "\n"


HEAD = """# Predictions against the live loop, where they could fail

**Left out.** Two cores of one shared server processor: no machine with more cores was at hand, so
`random`, every constant split and Algorithm 1 (`greedy`) are the same thing here (with more
cores: `python benchmarks/many_cores.py`). The link is played by the sender, which holds each
chunk back until a link would have delivered it, and the data then cross the loopback interface:
no `tc`, no network card, no losses. One student, one kind of teacher's logits.

    python benchmarks/validation.py            # all of it; call again until "done"
    python benchmarks/learning_validation.py   # accuracy over time

`--drill` makes the runs beside a busy process; `--judge` makes the tables and figures again from
the recorded runs alone; `python benchmarks/validation_page.py` writes this page. A folder holds
the trace (which has seen neither a link nor a policy), the predictions (written before the first
run), every live run (`runs.jsonl`, disturbed ones included), the table, the summary, the manifest
and the figures."""

CELLS = """Measured: median of the undisturbed runs with the 95 % interval of order statistics.
Predicted: the interval is that of the curves' bootstrap. Error: predicted / measured
- 1, median over runs."""


def main() -> None:
    """Write both pages."""
    records = read_records()
    (RESULTS / "README.md").write_text(page(records), encoding="utf-8")
    text = EVIDENCE.read_text(encoding="utf-8")
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    EVIDENCE.write_text(before + summary_block(records) + after, encoding="utf-8")


if __name__ == "__main__":
    main()
