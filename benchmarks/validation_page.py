"""The pages over the records of `benchmarks/validation.py` and `learning_validation.py`.

    python benchmarks/validation_page.py     # results/validation/README.md, docs/evidence

Every number on them is computed here from the records; what stands in `docs/evidence/validation.md`
between the two marks is made here as well.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from calibration.machine.sampling import Precision
from calibration.trace import read_trace
from calibration.trace.trials import POINT, trial_times
from calibration.validation.drift import Drift
from calibration.validation.measure import Measured
from kdsim.scenario.parts.profile import read_profile

RESULTS = Path(__file__).resolve().parent / "results" / "validation"
KINETO = Path(__file__).resolve().parent / "results" / "calibration" / "kineto_import.json"
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
        record["noise"] = noise(device, record["manifest"])
        record["cycle_ms"] = {
            path.stem.removeprefix("profile-"): 1e3
            * float((read.forward_s + read.backward_s).mean())
            for path in sorted(device.glob("learning/profile-*.csv"))
            for read in [read_profile(path)]
        }
        found[device.name] = record
    return found


def noise(device: Path, manifest: dict[str, Any]) -> dict[str, float]:
    """Return how well the machine repeats itself: its live runs, and the points between them."""
    precision = Precision(**manifest["settings"]["precision"])
    runs = map(Measured.from_json, read_lines(device / "runs.jsonl"))
    clean = pd.DataFrame(
        [(*one.cell, one.ratio) for one in runs if not one.taken.disturbs(precision.guard)],
        columns=["condition", "policy", "ratio"],
    )
    by_cell = [rows["ratio"].to_numpy() for _, rows in clean.groupby(["condition", "policy"])]
    # The first and every second run after it against the others: one half predicts the other.
    halves = [abs(np.median(x[::2]) / np.median(x[1::2]) - 1) for x in by_cell if len(x) > 3]
    times = trial_times(read_trace(device / "between.csv").rows)
    points = times.groupby(POINT)["seconds_per_work"]
    return {
        "run_cv": float(np.median([x.std(ddof=1) / x.mean() for x in by_cell if len(x) > 1])),
        "point_cv": float((points.std() / points.mean()).median()),
        "half_median": float(np.median(halves)),
        "half_p95": float(np.quantile(halves, 0.95)),
    }


def read_lines(path: Path) -> list[Any]:
    """Read a file of one JSON value per line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def cause(record: dict[str, Any]) -> str:
    """Say whether the targets are met, and what the machine's own unsteadiness makes of that."""
    seen, summary = record["noise"], record["summary"]
    between = summary["between"]
    drifts = "; ".join(Drift(**one).sentence for one in summary["drifts"])
    return (
        f"Of the two targets {targets_met(summary)}. In turns with the runs the points of the "
        f"trace were measured again (`between.csv`): {drifts}. Predicted with curves of these "
        "points instead of the trace's, and with everything else as it was, the error is "
        f"{percent(between['median_absolute_error'])} in the median, "
        f"{percent(between['p95_absolute_error'])} at the 95th percentile and "
        f"{percent(between['worst_absolute_error'])} at worst; {targets_met(between)}.\n\n"
        f"The machine itself repeats a run to {percent(seen['run_cv'])} (coefficient of variation "
        f"of undisturbed runs of one cell, median over cells) and a point of the trace to "
        f"{percent(seen['point_cv'])} from round to round: one half of a cell's runs predicts the "
        f"other half with an error of {percent(seen['half_median'])} in the median and "
        f"{percent(seen['half_p95'])} at the 95th percentile (two halves differ about twice as "
        "much as the median of all runs is uncertain). In all these runs others took less of the "
        "CPU than the guard allows: accounting inside a virtual machine sees neither its clock nor "
        "who shares its physical cores and caches. How much of the error is the model's cannot be "
        "separated from that here. Nothing was tuned on these runs."
    )


def targets_met(errors: dict[str, Any]) -> str:
    """Say which of the two targets some errors meet."""
    median, p95 = errors["median_absolute_error"] <= 0.05, errors["p95_absolute_error"] <= 0.10
    words = {True: "is met", False: "is missed"}
    if median == p95:
        return "both are met" if median else "none is met"
    return f"that for the median {words[median]}, that for the 95th percentile {words[p95]}"


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
        "| condition | policy | measured (s) | predicted (s) | error | of the same minutes | "
        "runs (set aside) |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in table.to_dict("records"):
        measured = "-" if pd.isna(row["measured"]) else f"{row['measured']:.3f}"
        if not pd.isna(row["measured_low"]):
            measured += f" [{row['measured_low']:.3f}, {row['measured_high']:.3f}]"
        predicted = f"{row['predicted']:.3f}"
        if not pd.isna(row["predicted_low"]):
            predicted += f" [{row['predicted_low']:.3f}, {row['predicted_high']:.3f}]"
        error = "-" if pd.isna(row["error"]) else signed(row["error"])
        again = "-" if pd.isna(row["error_between"]) else signed(row["error_between"])
        condition = row["condition"].replace("scenarios/links/", "")
        lines.append(
            f"| {condition} | {row['policy']} | {measured} | {predicted} | {error} | {again} | "
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
        f"{percent(median_quiet)} and {percent(worst_quiet)}. "
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
        f"beyond rounding in {summary['accuracies_that_differ']} of {summary['epochs']} "
        f"epochs.{profiles(record)}",
        "",
        "| link | policy | median error | worst error |",
        "|---|---|---:|---:|",
    ]
    lines += [
        f"| {row['link']} | {row['policy']} | {percent(row['median'])} | {percent(row['max'])} |"
        for row in summary["by_cell"]
    ]
    return "\n".join(lines)


def kineto() -> str:
    """Set predictions from imported profiler files beside those from the harness's trace."""
    record = json.loads(KINETO.read_text())
    steps = ", ".join(
        f"{row['quotient']:.3f} of the plain time on {row['cores']} core(s)"
        for row in record["steps"]
    )
    lines = [
        "The student's step, recorded by the PyTorch profiler on one and on two cores and imported "
        f"(`kdsim calibrate import`; imported steps took {steps}), against our own harness, in one "
        "run of `python benchmarks/kineto_import.py`. Communication is the harness's in both.",
        "",
        "| condition | policy | measured (s) | error, harness | error, profiler | runs (aside) |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {cell['condition']} | {cell['policy']} | {cell['measured']:.3f} | "
        f"{signed(cell['error_harness'])} | {signed(cell['error_kineto'])} | "
        f"{cell['runs']} ({cell['disturbed']}) |"
        for cell in record["live"]["cells"]
    ]
    return "\n".join(lines)


def profiles(record: dict[str, Any]) -> str:
    """Say why epochs are missed, where the target is: what computing a cycle took by profile."""
    if record["learning/summary"]["within_10_percent"] >= 0.9:
        return ""
    cycles = ", ".join(f"{name} {ms:.1f} ms" for name, ms in record["cycle_ms"].items())
    return (
        " The target is missed over the fast link alone, where computing sets the pace: the same "
        f"cycle of the same student took {cycles} in the recorded profiles, each the median of "
        "three runs, and a prediction carries the speed of the machine in the minutes of its "
        "profile. Over the slow link, where the link sets the pace, no epoch is missed."
    )


def summary_block(records: dict[str, dict[str, Any]]) -> str:
    """Return what the evidence page says."""
    parts = [MARKS[0]]
    for record in records.values():
        parts += [headline(record), cause(record), by_condition(record), f"Drill. {drill(record)}",
                  f"Accuracy over time. {learning(record)}"]  # fmt: skip
    return "\n\n".join([*parts, MARKS[1]])


def page(records: dict[str, dict[str, Any]]) -> str:
    """Return the README of the results."""
    parts = [HEAD]
    for record in records.values():
        parts += [f"## {record['name']}", headline(record), cause(record), by_condition(record),
                  "### Every cell", CELLS, cells(record["table"]), "### Beside a busy process",
                  drill(record), "### Accuracy over time", learning(record)]  # fmt: skip
    return "\n\n".join([*parts, "## Profiled steps instead of our harness", kineto()]) + "\n"


HEAD = """# Predictions against the live loop, where they could fail

**Left out.** Two cores of one shared server processor: no machine with more cores was at hand, so
`random`, every constant split and Algorithm 1 (`greedy`) are the same thing here (with more
cores: `python benchmarks/many_cores.py`). The link is played by the sender, which holds each
chunk back until a link would have delivered it, and the data then cross the loopback interface:
no `tc`, no network card, no losses. One student, one kind of teacher's logits. An earlier table,
made before faults of the harness were mended (pages of memory that were first touched during a run;
a Comm that began under the previous split), is in the history of this folder. The table was made
in two sittings an hour apart, the second short and beside a type checker, so that most of its runs
were set aside; the last runs of the epochs were made an hour after their profiles, too.

    python benchmarks/validation.py            # all of it; call again until "done"
    python benchmarks/learning_validation.py   # accuracy over time

`--drill` makes the runs beside a busy process; `--judge` makes the tables and figures again from
the recorded runs alone; `python benchmarks/validation_page.py` writes this page. A folder holds
the trace (which has seen neither a link nor a policy), the predictions (written before the first
run), every live run (`runs.jsonl`, disturbed ones included), the points of the trace that were
measured again between the runs, the table, the summary, the manifest and the figures."""

CELLS = """Measured: median of the undisturbed runs with the 95 % interval of order statistics.
Predicted: the interval is that of the curves' bootstrap. Error: predicted / measured
- 1, median over runs; of the same minutes: with the curves measured between the runs."""


def main() -> None:
    """Write both pages."""
    records = read_records()
    (RESULTS / "README.md").write_text(page(records), encoding="utf-8")
    text = EVIDENCE.read_text(encoding="utf-8")
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    EVIDENCE.write_text(before + summary_block(records) + after, encoding="utf-8")


if __name__ == "__main__":
    main()
