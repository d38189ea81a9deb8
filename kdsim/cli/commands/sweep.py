"""The command that fills a store: sweep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdsim._types import Record
from kdsim.cli.commands.figures import finished, write_page
from kdsim.cli.commands.store import point_text
from kdsim.cli.options import (
    allow_policies_option,
    check_allowed,
    curve_draws_option,
    json_option,
    load,
    outputs_option,
    policies_option,
    print_json,
    replications_option,
    save_figure,
    scenario_argument,
    sweep_option,
)
from kdsim.errors import SweepError
from kdsim.output_file import SUFFIXES, check_output
from kdsim.scenario.changes import with_run_counts
from kdsim.scenario.drawn import check_draws
from kdsim.scenario.study import Scenario
from kdsim.sweeps.driver import sweep as run_sweep
from kdsim.sweeps.workers.executors import TASK_TIMEOUT_S

if TYPE_CHECKING:
    from kdsim.results.curve_uncertainty import CurveUncertainty
    from kdsim.sweeps.ledger.store import Store

#: Rows up to which `kdsim sweep` prints the whole table.
_MAX_PRINTED = 60
#: Failed runs that are listed; all of them stand in the store.
_MAX_FAILURES = 10


# --- sweep ----------------------------------------------------------------------------------------


@click.command()
@scenario_argument
@sweep_option
@click.option(
    "-s", "--store", type=click.Path(path_type=Path),
    help="Ledger that keeps every result as it completes; one that exists is continued "
    "[in memory].",
)  # fmt: skip
@click.option(
    "-w", "--workers", type=click.IntRange(0), default=0,
    help="Run in this many processes [0: in this one, on all cores].",
)  # fmt: skip
@click.option("--cluster", metavar="ADDRESS", help="Run on a dask cluster (address or file).")
@policies_option("Policy to run")
@allow_policies_option
@replications_option("Runs of a random policy [the scenario's].")
@curve_draws_option
@click.option("--retry", is_flag=True, help="Also run again what failed before.")
@click.option(
    "--task-timeout", type=click.FloatRange(0, min_open=True), default=TASK_TIMEOUT_S,
    show_default=True, metavar="SECONDS", help="Give a task up after this long (with workers).",
)  # fmt: skip
@outputs_option(
    "Also write a figure (.png, .svg, .pdf), page (.html) or table (.csv, .parquet, .tex, .md)"
)
@json_option
def sweep(
    scenario: str,
    changes: tuple[str, ...],
    swept: tuple[str, ...],
    store: Path | None,
    workers: int,
    cluster: str | None,
    policies: tuple[str, ...],
    allow_policies: bool,
    replications: int | None,
    curve_draws: int | None,
    retry: bool,
    task_timeout: float,
    outputs: tuple[Path, ...],
    as_json: bool,
) -> None:
    r"""Run every policy at every point of SCENARIO, or what STORE still lacks of it.

    Interrupt it at any time: the same command continues where it was. A store takes more points,
    policies and replications of its scenario at any time. A policy of your own is identified by the
    code that its class needs, imported modules of yours included: when that changes, its results go
    into another store.

    \b
    Examples:
      kdsim sweep paper-1to1 --store fig5.sqlite -o fig5.png
      kdsim sweep my.yaml -s my.sqlite --sweep device.cores=2,4,8 --sweep workload.ratio=1:1,2:1
      kdsim sweep measured -s my.sqlite --curve-draws 200
      kdsim sweep my.yaml -s my.sqlite --workers 8 -p greedy -p mine:MyPolicy
      kdsim sweep my.yaml -s my.sqlite --cluster tcp://10.0.0.1:8786

    \b
    On a SLURM cluster:
      srun -n 1 dask scheduler --scheduler-file /shared/s.json &
      srun -n 32 dask worker --scheduler-file /shared/s.json --nthreads 1 &
      kdsim sweep my.yaml -s my.sqlite --cluster /shared/s.json
    """
    from kdsim.cli import curve_tables, tables
    from kdsim.cli.progress import ProgressBar
    from kdsim.sweeps.ledger.store import Store

    for output in outputs:
        check_output(output, "figure", "page", "table")
    loaded = load(scenario, changes, keep_sweep=True, swept=swept)
    check_allowed(policies or loaded.policies, policies, scenario, allow=allow_policies)
    if curve_draws is not None:
        check_draws(loaded, curve_draws)
    with Store.open(store or ":memory:", "w") as ledger:
        # What earlier sweeps left pending runs as well.
        check_allowed(list(ledger.pending_units()), policies, str(store), allow=allow_policies)
        advice = "" if store else "with --store FILE each result is kept as it completes"
        with (
            _saying_what_is_saved(ledger, store),
            ProgressBar("runs", enabled=not as_json, advice=advice) as progress,
        ):
            table = run_sweep(
                loaded,
                ledger,
                workers=workers,
                cluster=cluster,
                policies=policies or None,
                replications=replications,
                retry=retry,
                task_timeout_s=task_timeout,
                progress=progress,
            )
        curves = _drawn(loaded, policies, curve_draws, replications, quiet=as_json)
        if as_json:
            asked = {"curve_draws": curves.to_dict()} if curves else {}
            print_json({**_as_json(ledger, str(store) if store else None), **asked})
        else:
            _print_result(ledger, len(table), store)
            for made in curve_tables.of(curves):
                tables.console().print(made)
        done = ledger.state().done > 0  # else there is nothing to draw, and the failures say why
        for output in outputs:
            if done or output.suffix.lower() in SUFFIXES["table"]:
                _write_output(ledger, output, curves)
        _raise_failures(ledger)


def _as_json(ledger: Store, path: str | None) -> Record:
    state, scenario = ledger.state(), ledger.scenario()
    return {
        "scenario": scenario.name,
        "seed": scenario.seed,
        "store": path,
        "done": state.done,
        "failed": state.failed,
        "pending": state.pending,
        "rows": list(ledger.rows()),
    }


def _print_result(ledger: Store, rows: int, store: Path | None) -> None:
    from kdsim.cli import tables

    result = ledger.comparison() if rows <= _MAX_PRINTED else None
    if result is not None and result.samples:
        tables.console().print(tables.comparison_table(result))
    state = ledger.state()
    counts = f"{state}, {state.replications_done:,} makespans"
    if store:
        counts += f", in {store}"
        if result is None:
            counts += f" (kdsim export {store} for the table)"
    click.echo(counts, err=True)


@contextmanager
def _saying_what_is_saved(ledger: Store, store: Path | None) -> Iterator[None]:
    """On Ctrl-C, say what is in the store and how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        state = ledger.state()
        if store is None:
            text = "nothing is saved; with --store FILE every result is kept as it completes"
        else:
            text = (
                f"saved {state.done} of {state.total} runs in {store}; the same command continues"
            )
        click.echo(f"kdsim: {text}", err=True)
        raise


def _raise_failures(ledger: Store) -> None:
    failures = ledger.failed()
    if not failures:
        return
    lines = [f"{len(failures)} of the runs failed, the others are not affected:"]
    for failure in failures[:_MAX_FAILURES]:
        lines.append(f"  {failure.policy}{point_text(failure.point)}: {failure.error}")
    if len(failures) > _MAX_FAILURES:
        lines.append(f"  and {len(failures) - _MAX_FAILURES} more")
    raise SweepError("\n".join(lines))


def _drawn(
    scenario: Scenario,
    policies: tuple[str, ...],
    draws: int | None,
    replications: int | None,
    *,
    quiet: bool,
) -> CurveUncertainty | None:
    """Play the points and policies of this command in draws of the curves; the store has none."""
    from kdsim.cli.progress import ProgressBar
    from kdsim.engines.curve_uncertainty import over_curve_draws

    if draws is None:
        return None
    asked = with_run_counts(scenario, None, replications)
    with ProgressBar("draws", enabled=not quiet) as progress:
        return over_curve_draws(
            asked, list(policies or scenario.policies), draws, progress=progress
        )


def _write_output(ledger: Store, output: Path, curves: CurveUncertainty | None) -> None:
    suffix = output.suffix.lower()
    if suffix in SUFFIXES["table"]:
        ledger.export(output, curves=curves)
        click.echo(f"table written to {output}", err=True)
    elif suffix in SUFFIXES["page"]:
        write_page(ledger, output, curves=curves)
    else:
        from kdsim import plots

        save_figure(plots.comparison(replace(finished(ledger), curves=curves)), output)
