"""The commands that fill a store and draw it: sweep, plot, report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from kdsim.cli.options import (
    check_allowed,
    json_option,
    load,
    outputs_option,
    policies_option,
    print_json,
    save_figure,
    scenario_argument,
)
from kdsim.cli.store import point_text, store_argument
from kdsim.errors import PlotError, ScenarioError, SweepError
from kdsim.messages import did_you_mean
from kdsim.output_file import SUFFIXES, check_output
from kdsim.results.comparison import Comparison
from kdsim.sweeps.driver import TASK_TIMEOUT_S
from kdsim.sweeps.driver import sweep as run_sweep

#: Rows up to which `kdsim sweep` prints the whole table.
_MAX_PRINTED = 60
#: Failed runs that are listed; all of them stand in the store.
_MAX_FAILURES = 10


# --- sweep ----------------------------------------------------------------------------------------


@click.command()
@scenario_argument
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
@click.option(
    "-n", "--replications", type=click.IntRange(1), help="Runs of a random policy [the scenario's]."
)
@click.option("--retry", is_flag=True, help="Also run again what failed before.")
@click.option(
    "--task-timeout", type=click.FloatRange(0, min_open=True), default=TASK_TIMEOUT_S,
    show_default=True, metavar="SECONDS", help="Give a task up after this long (with workers).",
)  # fmt: skip
@outputs_option("Also write a figure (.png, .svg, .pdf), page (.html) or table (.csv, .parquet)")
@json_option
def sweep(
    scenario: str,
    changes: tuple[str, ...],
    store: Path | None,
    workers: int,
    cluster: str | None,
    policies: tuple[str, ...],
    allow_policies: bool,
    replications: int | None,
    retry: bool,
    task_timeout: float,
    outputs: tuple[Path, ...],
    as_json: bool,
) -> None:
    r"""Run every policy at every point of SCENARIO, or what STORE still lacks of it.

    Interrupt it at any time: the same command continues where it was. A store takes more points,
    policies and replications of its scenario at any time.

    \b
    Examples:
      kdsim sweep paper-1to1 --store fig5.sqlite -o fig5.png
      kdsim sweep my.yaml -s my.sqlite --workers 8 -p greedy -p mine:MyPolicy
      kdsim sweep my.yaml -s my.sqlite --cluster tcp://10.0.0.1:8786

    \b
    On a SLURM cluster:
      srun -n 1 dask scheduler --scheduler-file /shared/s.json &
      srun -n 32 dask worker --scheduler-file /shared/s.json --nthreads 1 &
      kdsim sweep my.yaml -s my.sqlite --cluster /shared/s.json
    """
    from kdsim.cli.progress import ProgressBar
    from kdsim.sweeps.store import Store

    for output in outputs:
        check_output(output, "figure", "page", "table")
    loaded = load(scenario, changes, keep_sweep=True)
    check_allowed(policies or loaded.policies, policies, scenario, allow=allow_policies)
    with Store.open(store or ":memory:", "w") as ledger:
        # What earlier sweeps left pending runs as well.
        check_allowed(list(ledger.pending_units()), policies, str(store), allow=allow_policies)
        with (
            _saying_what_is_saved(ledger, store),
            ProgressBar("runs", enabled=not as_json) as progress,
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
        if as_json:
            print_json(_as_json(ledger, str(store) if store else None))
        else:
            _print_result(ledger, len(table), store)
        done = ledger.state().done > 0  # else there is nothing to draw, and the failures say why
        for output in outputs:
            if done or output.suffix.lower() in SUFFIXES["table"]:
                _write_output(ledger, output)
        _raise_failures(ledger)


def _as_json(ledger: Any, path: str | None) -> dict[str, Any]:
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


def _print_result(ledger: Any, rows: int, store: Path | None) -> None:
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
def _saying_what_is_saved(ledger: Any, store: Path | None) -> Iterator[None]:
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


def _raise_failures(ledger: Any) -> None:
    failures = ledger.failed()
    if not failures:
        return
    lines = [f"{len(failures)} of the runs failed, the others are not affected:"]
    for failure in failures[:_MAX_FAILURES]:
        lines.append(f"  {failure.policy}{point_text(failure.point)}: {failure.error}")
    if len(failures) > _MAX_FAILURES:
        lines.append(f"  and {len(failures) - _MAX_FAILURES} more")
    raise SweepError("\n".join(lines))


def _write_output(ledger: Any, output: Path) -> None:
    suffix = output.suffix.lower()
    if suffix in SUFFIXES["table"]:
        ledger.export(output)
        click.echo(f"table written to {output}", err=True)
    elif suffix in SUFFIXES["page"]:
        _write_report(ledger, output)
    else:
        from kdsim import plots

        save_figure(plots.comparison(_samples(ledger)), output)


def _samples(ledger: Any) -> Comparison:
    result: Comparison = ledger.comparison()
    if not result.samples:
        raise PlotError(f"{ledger.path}: there is nothing to draw: no run is done")
    return result


# --- pictures -------------------------------------------------------------------------------------


@click.command()
@store_argument
@click.option(
    "--kind", type=click.Choice(["comparison", "lines", "heatmap", "regret"]),
    default="comparison", show_default=True,
    help="Policies side by side; against one swept field; gaps over two; their distribution.",
)  # fmt: skip
@click.option("-x", "x", metavar="FIELD", help="Swept field on the x axis [the first].")
@click.option("-y", "y", metavar="FIELD", help="Swept field on the y axis [the second].")
@click.option(
    "-p", "--policy", "policies", multiple=True, metavar="NAME",
    help="Policies to draw (repeatable); one for a heat map [all].",
)  # fmt: skip
@click.option(
    "--at", "fixed", multiple=True, metavar="FIELD=VALUE",
    help="Only the points with this value (repeatable).",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True,
    help="Where to save the figure (.png, .svg or .pdf).",
)  # fmt: skip
def plot(
    store: Path,
    kind: str,
    x: str | None,
    y: str | None,
    policies: tuple[str, ...],
    fixed: tuple[str, ...],
    output: Path,
) -> None:
    r"""Draw a figure of STORE.

    \b
    Examples:
      kdsim plot my.sqlite -o fig5.png
      kdsim plot my.sqlite --kind lines -x device.cores --at workload.ratio=2:1 -o lines.svg
      kdsim plot my.sqlite --kind heatmap -x device.cores -y workload.ratio -p greedy -o gaps.png
      kdsim plot my.sqlite --kind regret -o regret.pdf
    """
    from kdsim import plots
    from kdsim.sweeps.store import Store

    with Store.open(store) as ledger:
        result = _selected(_samples(ledger), policies, fixed)
    swept = list(result.scenario.sweep)
    if kind == "comparison":
        drawn = plots.comparison(result)
    elif kind == "regret":
        drawn = plots.regret_distribution(result.samples)
    elif kind == "lines":
        axis = _axis(x, swept, 0, kind)
        _check_fixed(result, axis)
        drawn = plots.sweep_lines(result.frame, axis)
    else:
        names = list(dict.fromkeys(sample.policy for sample in result.samples))
        if len(names) > 1:
            raise PlotError(f"a heat map shows one policy: give -p (one of {', '.join(names)})")
        axes = _axis(x, swept, 0, kind), _axis(y, swept, 1, kind)
        _check_fixed(result, *axes)
        drawn = plots.gap_heatmap(result.frame, *axes, names[0])
    save_figure(drawn, output)


def _axis(name: str | None, swept: list[str], default: int, kind: str) -> str:
    if name is None:
        if len(swept) <= default:
            raise PlotError(f"a {kind} figure needs {default + 1} swept fields (got {len(swept)})")
        return swept[default]
    if name not in swept:
        raise PlotError(f"{name} was not swept; swept are: {', '.join(swept) or 'no fields'}")
    return name


def _check_fixed(result: Comparison, *axes: str) -> None:
    """Ask for --at where the axes leave a swept field open."""
    for name in result.scenario.sweep:
        values = dict.fromkeys(str(sample.point[name]) for sample in result.samples)
        if name not in axes and len(values) > 1:
            some = ", ".join(list(values)[:8])
            raise PlotError(f"{name} has several values: choose one with --at {name}=.. ({some})")


def _selected(result: Comparison, policies: tuple[str, ...], fixed: tuple[str, ...]) -> Comparison:
    wanted = dict(_parse_fixed(text, result) for text in fixed)
    names = dict.fromkeys(sample.policy for sample in result.samples)
    for name in policies:
        if name not in names:
            raise PlotError(
                f"no finished run of the store is of policy {name!r}"
                f"{did_you_mean(name, names)}; there are {', '.join(names)}"
            )
    samples = [
        sample
        for sample in result.samples
        if (not policies or sample.policy in policies)
        and all(str(sample.point[name]) in values for name, values in wanted.items())
    ]
    if not samples:
        raise PlotError(f"no finished run of the store is at {', '.join(fixed)}")
    return Comparison(result.scenario, samples)


def _parse_fixed(text: str, result: Comparison) -> tuple[str, set[str]]:
    name, equals, value = text.partition("=")
    if not equals or name not in result.scenario.sweep:
        swept = ", ".join(result.scenario.sweep) or "no fields"
        raise ScenarioError(f"--at takes FIELD=VALUE of a swept field; swept: {swept} (got {text})")
    texts = {value}
    try:  # 1 and 1.0 are the same value
        number = json.loads(value)
        texts |= {str(float(number))} | (
            {str(int(number))} if float(number).is_integer() else set()
        )
    except (ValueError, TypeError):
        pass
    return name, texts


@click.command()
@store_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True,
    help="Where to write the page (.html).",
)  # fmt: skip
def report(store: Path, output: Path) -> None:
    r"""Write STORE as one self-contained HTML page: figures, sortable table, how it was made.

    \b
    Example:
      kdsim report my.sqlite -o my.html
    """
    from kdsim.sweeps.store import Store

    with Store.open(store) as ledger:
        _write_report(ledger, output)


def _write_report(ledger: Any, output: Path) -> None:
    from kdsim.report.sections import ReportData, write_report

    result = _samples(ledger)
    manifest = {k: v for k, v in ledger.manifest.items() if k not in ("scenario", "request")}
    write_report(ReportData(result.scenario, result.samples, manifest), output)
    click.echo(f"page written to {output}", err=True)
