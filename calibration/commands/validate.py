"""``kdsim calibrate validate``: the real loop against the simulation, and a verdict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdsim._types import Record
from kdsim.cli.options import json_option
from kdsim.cli.progress import ProgressBar

if TYPE_CHECKING:
    from calibration.fit import Fit
    from calibration.validation.predict import ValidationSettings
    from calibration.validation.validate import Validation

# Heavy imports are inside the command: `kdsim calibrate --help` must not wait for torch.

_HELD = "holds"


@click.command()
@click.argument("trace")
@click.option(
    "--policies", help="Comma-separated: built-in names, static:c or module:Class [all built in]."
)
@click.option(
    "--time-ratios", default="1:1,2:1", show_default=True,
    help="Comma-separated ratios of the time of computing to that of receiving, each with every "
    "core.",
)  # fmt: skip
@click.option(
    "--condition", "conditions", multiple=True, metavar="TEXT",
    help="Instead: a ratio of times and what the loop runs under, e.g. '2:1 link=0.2x "
    "starved=shared prefetch=1 release=0.5x' (x: times what the device does; link in MB/s and "
    "release in seconds without it). May be repeated.",
)  # fmt: skip
@click.option("--cycles", type=click.IntRange(1, 1000), default=8, show_default=True)
@click.option("--batches", type=click.IntRange(1, 1000), default=6, show_default=True,
              help="Batches of a cycle.")  # fmt: skip
@click.option("--runs", type=click.IntRange(6, 30), default=6, show_default=True,
              help="At least so many undisturbed real runs of each policy and condition; more "
              "until the error is known to 3 %.")  # fmt: skip
@click.option("--budget", type=click.FloatRange(1), default=600.0, show_default=True,
              help="Seconds after which no further run begins.")  # fmt: skip
@click.option(
    "--guard", type=click.FloatRange(0), default=None,
    help="CPU seconds per second that other processes or the host may take; a run with more is "
    "repeated.  [default: 0.05]",
)  # fmt: skip
@click.option("--include-noisy", is_flag=True, help="Fit to points marked noisy too.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("-o", "--output", help="CSV of the table.")
@click.option("--plot", help="Measured against predicted (png, svg or pdf).")
@click.option("--timelines", help="Timelines above each other (png, svg or pdf).")
@json_option
def validate(
    trace: str, include_noisy: bool, output: str | None, plot: str | None, timelines: str | None,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    r"""Run the real loop under each policy and compare it with the simulation.

    The curves come from the trace alone, so no run made here was used to fit them. Runs that other
    processes disturb are repeated while the budget lasts. The verdict is "holds", "does not hold"
    or "too disturbed to say"; the exit status is 0 for the first and 1 for the others.

    \b
    Example:
        kdsim calibrate validate mine.csv --plot validation.png
    """
    from calibration.commands.shared import check_places
    from calibration.fit import fit_trace
    from calibration.trace import read_trace
    from calibration.validation.validate import validate as run

    read = read_trace(trace)
    check_places(trace, plot, output)
    check_places(trace, timelines)
    settings = _settings(**options)
    fitted = fit_trace(read, include_noisy=include_noisy)
    try:
        with ProgressBar("running") as progress:
            result = run(fitted, settings, progress=progress)
    except KeyboardInterrupt:
        click.echo("\nstopped before every cell had a run; nothing can be said", err=True)
        raise click.exceptions.Exit(130) from None
    _write(result, output, plot, timelines)
    if as_json:
        from kdsim.cli.options import print_json

        print_json(_as_json(fitted, result))
    else:
        _print(result)
        for path in filter(None, (output, plot, timelines)):
            click.echo(f"wrote {path}")
    if result.stopped:
        click.echo("stopped; judged is what had been measured", err=True)
        raise click.exceptions.Exit(130)
    if result.verdict.word != _HELD:
        raise click.exceptions.Exit(1)


def _settings(
    policies: str | None, time_ratios: str, conditions: tuple[str, ...], cycles: int, batches: int,
    runs: int, budget: float, guard: float | None, seed: int,
) -> ValidationSettings:  # fmt: skip
    from calibration.machine.disturbance import GUARD
    from calibration.machine.sampling import Precision
    from calibration.validation.conditions import parse_condition
    from calibration.validation.predict import ValidationSettings

    texts = conditions or tuple(time_ratios.split(","))
    given: Record = {}
    if policies:
        given["policies"] = tuple(name.strip() for name in policies.split(","))
    guard = GUARD if guard is None else guard
    return ValidationSettings(
        conditions=tuple(parse_condition(t, cycles=cycles, batches=batches) for t in texts),
        precision=Precision(least=runs, guard=guard, budget_s=budget),
        seed=seed,
        **given,
    )


def _write(result: Validation, output: str | None, plot: str | None, timelines: str | None) -> None:
    if output:
        from kdsim.output_file import write_output

        write_output(output, result.table.to_csv(index=False, float_format="%.6g").encode())
    for path, draw in ((plot, "validation_figure"), (timelines, "timeline_figure")):
        if path:
            from calibration.validation import plots
            from kdsim.plots.saving import save

            save(getattr(plots, draw)(result), path, dpi=150)


def _as_json(fitted: Fit, result: Validation) -> Record:
    from dataclasses import asdict

    return {
        "verdict": asdict(result.verdict),
        "rows": json.loads(result.table.to_json(orient="records")),
        "summary": result.summary,
        "runs": [
            {
                "condition": one.condition,
                "policy": one.run.policy,
                "replication": one.run.replication,
                "makespan": one.run.makespan,
                "predicted": one.predicted_s,
                **asdict(one.taken),
                "disturbed": one.taken.disturbs(result.settings.precision.guard),
            }
            for one in result.runs
        ],
        "manifest": manifest(fitted, result.settings),
    }


def manifest(fitted: Fit, settings: ValidationSettings) -> Record:
    """Describe everything that a validation depends on; JSON values only."""
    from dataclasses import asdict

    from calibration.machine.host import fingerprint

    return {
        "trace": Path(str(fitted.trace.path)).name,
        "trace_sha256": fitted.trace.sha256,
        "models": {"compute": fitted.compute.model, "communication": fitted.communication.model},
        "settings": asdict(settings),
        "estimate": "median with the 95 % interval of order statistics, over undisturbed runs",
        "host": fingerprint(),
    }


def _print(result: Validation) -> None:
    from rich.table import Table

    from calibration.validation.judge import cell_rows
    from kdsim.cli.tables import console as make_console

    console = make_console()
    table = Table(title="measured and predicted makespan (s)", title_justify="left")
    table.add_column("condition")
    table.add_column("policy")
    for heading in ("measured", "95 % CI", "predicted", "95 % CI", "error", "95 % CI", "runs"):
        table.add_column(heading, justify="right")
    for row in cell_rows(result.table):
        aside = f" (+{row.disturbed})" if row.disturbed else ""
        table.add_row(
            row.condition, row.policy,
            *_estimate(row.measured, row.measured_low, row.measured_high, ".3f"),
            *_estimate(row.predicted, row.predicted_low, row.predicted_high, ".3f"),
            *_estimate(row.error, row.error_low, row.error_high, "+.1%"), f"{row.runs}{aside}",
        )  # fmt: skip
    console.print(table)
    console.print(
        "measured and error: median of the undisturbed runs with the 95 % interval of order "
        "statistics; in brackets the runs that others disturbed"
    )
    for sentence in sentences(result):
        console.print(sentence, highlight=False)


def _estimate(value: float, low: float, high: float, shown: str) -> tuple[str, str]:
    """Return the cells of a value and of its interval; a dash where there is none."""
    return (
        "-" if math.isnan(value) else format(value, shown),
        "-" if math.isnan(low) else f"{low:{shown}} .. {high:{shown}}",
    )


def sentences(result: Validation) -> list[str]:
    """Describe what a validation found: errors, rankings, disturbance, verdict."""
    s = result.summary
    found = ["absolute error: unknown, no cell has an undisturbed run"]
    if not math.isnan(s["median_absolute_error"]):
        found = [
            f"absolute error: median {s['median_absolute_error']:.1%}, 95th percentile "
            f"{s['p95_absolute_error']:.1%}, worst {s['worst_absolute_error']:.1%}"
        ]
    for condition, distinct in s["distinct_predictions"].items():
        tau = s["kendall_tau"][condition]
        ranked = "no ranking to test" if distinct < 2 else f"Kendall tau between them {tau:+.2f}"
        found.append(f"{condition}: {distinct} distinct predictions; {ranked}")
    found.append(
        f"of {s['pairs']} pairs of distinct predictions {s['pairs_separated']} have measured "
        f"intervals that separate, {s['pairs_in_order']} of those in the order predicted; "
        f"{s['alike_but_apart']} pairs predicted alike were measured apart"
    )
    guard = result.settings.precision.guard
    spoilt = [one.taken for one in result.runs if one.taken.disturbs(guard)]
    if spoilt:
        foreign = sum(t.foreign_s for t in spoilt) / sum(t.elapsed_s for t in spoilt)
        stolen = sum(t.stolen_s for t in spoilt) / sum(t.elapsed_s for t in spoilt)
        found.append(
            f"{len(spoilt)} of {len(result.runs)} runs were disturbed: in them other processes "
            f"took {foreign:.2f} and the host {stolen:.2f} CPU seconds per second"
        )
    if not all(one.taken.known for one in result.runs):
        found.append(
            "this system does not account for CPU time: disturbance cannot be seen here, except "
            "as spread between runs"
        )
    found += [drift.sentence for drift in result.drifts]
    if between := s.get("between"):
        found.append(
            "predicted with curves measured between the runs instead of the trace's: median "
            f"{between['median_absolute_error']:.1%}, 95th percentile "
            f"{between['p95_absolute_error']:.1%}, worst {between['worst_absolute_error']:.1%}"
        )
    return [*found, f"verdict: {result.verdict.word} ({result.verdict.reason})"]
