"""The commands that simulate: compare, run, optimum, curves."""

from __future__ import annotations

import csv
from pathlib import Path

import click

from kdsim.cli.options import (
    OUTPUT_FILE,
    allow_policies_option,
    check_allowed,
    check_outputs,
    complete_policies,
    curve_draws_option,
    figure_option,
    json_option,
    load,
    output_option,
    outputs_option,
    policies_option,
    print_json,
    replications_option,
    save_figure,
    scenario_argument,
    seed_option,
    sweep_option,
)
from kdsim.errors import KdsimError, UnknownPolicyError
from kdsim.messages import did_you_mean
from kdsim.output_file import SUFFIXES, check_output, whole_file
from kdsim.results.comparison import Comparison

# --- compare ------------------------------------------------------------------------------------


@click.command()
@scenario_argument
@sweep_option
@policies_option("Policy to compare")
@allow_policies_option
@replications_option("Runs of a random policy [the scenario's].")
@seed_option
@curve_draws_option
@click.option("--against", metavar="NAME", help="Also give paired differences to this policy.")
@outputs_option(
    "Write a figure (.png, .svg, .pdf), table (.csv, .parquet, .tex, .md) or page (.html)"
)
@json_option
def compare(
    scenario: str,
    changes: tuple[str, ...],
    swept: tuple[str, ...],
    policies: tuple[str, ...],
    allow_policies: bool,
    replications: int | None,
    seed: int | None,
    curve_draws: int | None,
    against: str | None,
    outputs: tuple[Path, ...],
    as_json: bool,
) -> None:
    r"""Compare policies on SCENARIO (a file, or the name of one that ships).

    Every point of the scenario's sweep is simulated; each policy's makespan stands beside the
    proven optimum.

    \b
    Examples:
      kdsim compare measured
      kdsim compare paper-1to1 -p greedy -p optimal -p mine:MyPolicy -o fig.png
      kdsim compare paper-1to1 -o table.tex -o table.md -o page.html
      kdsim compare my.yaml --set device.cores=4 --against greedy --json
      kdsim compare my.yaml --sweep device.cores=2,4,8 --sweep workload.comm=log:0.1:10:5
      kdsim compare measured --curve-draws 200
    """
    from kdsim.cli.progress import ProgressBar
    from kdsim.engines import batch
    from kdsim.engines.compare import compare as compare_policies
    from kdsim.policies.resolve import make_policy
    from kdsim.results.stakes import stakes_lines

    for output in outputs:
        check_output(output, "figure", "page", "table")
    loaded = load(scenario, changes, keep_sweep=True, swept=swept)
    chosen = list(dict.fromkeys(policies or loaded.policies))
    check_allowed(chosen, policies, scenario, allow=allow_policies)
    for name in chosen:
        make_policy(name)  # report a wrong name before simulating the others
    if against and against not in chosen:
        raise UnknownPolicyError(
            f"--against {against!r} is not among the policies compared"
            f"{did_you_mean(against, chosen)}; compared: {', '.join(chosen)}"
        )
    if against and len(chosen) == 1:
        raise UnknownPolicyError(f"--against needs a second policy beside {against!r}")
    plain = [p for p in chosen if not batch.is_compiled(p)]
    if plain and not as_json:
        click.echo(f"{', '.join(plain)}: your own code, simulated run by run in SimPy", err=True)
    advice = "`kdsim sweep --store FILE` keeps each result as it completes and can be interrupted"
    with ProgressBar("runs", enabled=not as_json, advice=advice) as progress:
        result = compare_policies(
            loaded, chosen, replications=replications, seed=seed, curve_draws=curve_draws,
            progress=progress,
        )  # fmt: skip
    differences = result.differences(against) if against else []
    if as_json:
        print_json({**result.to_dict(), **({"differences": differences} if against else {})})
    else:
        from kdsim.cli import curve_tables, tables

        out = tables.console()
        out.print(tables.comparison_table(result))
        for table in curve_tables.of(result.curves):
            out.print(table)
        if against:
            scale = max(row["mean"] for row in result.rows)
            out.print(tables.difference_table(differences, against, scale=scale))
        for line in stakes_lines(result.stakes):
            out.print(line)
    for output in outputs:
        _write(result, output)


def _write(result: Comparison, output: Path) -> None:
    suffix = output.suffix.lower()
    if suffix in SUFFIXES["figure"]:
        save_figure(result.plot(), output)
        return
    if suffix in SUFFIXES["page"]:
        from kdsim.report.sections import write_report

        write_report(result, output)
        click.echo(f"page written to {output}", err=True)
        return
    if suffix in (".tex", ".md"):
        result.write(output)
    else:
        with whole_file(output, failure=KdsimError) as scratch:
            if suffix == ".parquet":
                result.frame.to_parquet(scratch, index=False)
            else:
                result.frame.to_csv(scratch, index=False, lineterminator="\n")
    click.echo(f"table written to {output}", err=True)


# --- run ----------------------------------------------------------------------------------------


@click.command()
@scenario_argument
@click.option(
    "-p", "--policy", default="optimal", show_default=True, metavar="NAME",
    shell_complete=complete_policies, help="A built-in name, static:c or module:Class.",
)  # fmt: skip
@seed_option
@click.option(
    "--replication", type=click.IntRange(0, 2**53), default=0, show_default=True,
    help="Number of the replication: it selects the random draws and the noise.",
)  # fmt: skip
@output_option
@click.option("--trace-out", type=OUTPUT_FILE, help="Write a Chrome trace that Perfetto opens.")
@click.option("--timeline-out", type=OUTPUT_FILE, help="Write the timeline as CSV.")
@json_option
def run(
    scenario: str,
    changes: tuple[str, ...],
    policy: str,
    seed: int | None,
    replication: int,
    output: Path | None,
    trace_out: Path | None,
    timeline_out: Path | None,
    as_json: bool,
) -> None:
    r"""Simulate one run of SCENARIO: makespan, segments, timeline.

    Takes the scenario's own values and ignores its sweep; --set changes values.

    \b
    Examples:
      kdsim run measured --policy greedy
      kdsim run paper-1to1 -p random --replication 7 -o timeline.png
      kdsim run paper-1to1 -p optimal --trace-out run.json
    """
    from kdsim.engines.des import simulate

    check_outputs(output, trace_out, timeline_out)
    loaded = load(scenario, changes, keep_sweep=False)
    result = simulate(loaded, policy, seed=seed, replication=replication)
    if as_json:
        tail = {"segments": result.segment_data(), "counters": result.counters}
        print_json({**result.summary(), **tail})
    else:
        from kdsim.cli import tables

        out = tables.console()
        out.print(tables.run_table(result))
        for line in tables.run_lines(result):
            out.print(line)
    if trace_out:
        from kdsim.report import chrome_trace

        chrome_trace.write(result, trace_out)
        click.echo(f"trace written to {trace_out}", err=True)
    if timeline_out:
        with (
            whole_file(timeline_out, failure=KdsimError) as scratch,
            scratch.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file, lineterminator="\n").writerows(result.timeline_rows())
        click.echo(f"timeline written to {timeline_out}", err=True)
    if output:
        save_figure(result.plot(), output)


# --- optimum --------------------------------------------------------------------------------------


@click.command()
@scenario_argument
@json_option
def optimum(scenario: str, changes: tuple[str, ...], as_json: bool) -> None:
    r"""Compute the minimal makespan of SCENARIO, the path and the schedule that attain it.

    No schedule can be faster; the built-in policy "optimal" attains it. Takes the scenario's own
    values and ignores its sweep; --set changes values.

    \b
    Example:
      kdsim optimum paper-1to1 --set device.cores=12
    """
    from kdsim.model.bound.optimum import BOUND_NOTE, minimal_makespan

    loaded = load(scenario, changes, keep_sweep=False)
    result = minimal_makespan(loaded.plan())
    if as_json:
        print_json({**result.to_dict(), "marks": list(loaded.marks())})
        return
    from kdsim.cli import tables

    out = tables.console()
    kind = "minimal makespan" if result.exact else "lower bound of the makespan"
    out.print(f"{loaded.name}: {kind} {tables.seconds(result.makespan)} s")
    out.print(
        f"fastest path: {len(result.path)} vertices, from no work to "
        f"{result.path[-1, 0]:g} data units and {result.path[-1, 1]:g} compute units"
    )
    out.print(tables.schedule_table(result))
    for mark in loaded.marks():
        out.print(mark)
    if not result.exact:
        out.print(BOUND_NOTE)


# --- curves ---------------------------------------------------------------------------------------


@click.command()
@scenario_argument
@click.option(
    "--cores", multiple=True, type=click.IntRange(1), metavar="N",
    help="Core count to draw (repeatable) [the sweep's; else 6, 8, 10, 12 and the device's].",
)  # fmt: skip
@figure_option
def curves(scenario: str, changes: tuple[str, ...], cores: tuple[int, ...], output: Path) -> None:
    r"""Draw f and g of SCENARIO over the allocations, for one or several core counts.

    \b
    Example:
      kdsim curves paper-1to1 -o fig4.png
    """
    check_outputs(output)
    loaded = load(scenario, changes, keep_sweep=True)
    from kdsim import plots

    save_figure(plots.curves(loaded, core_counts=list(cores) or None), output)
