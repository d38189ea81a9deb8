"""The commands that simulate: compare, run, optimum, check, curves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kdsim.errors import KdsimError, ScenarioError
from kdsim.loading import load_scenario
from kdsim.scenario import Scenario, with_fields

_Function = Callable[..., Any]


def print_json(data: Any) -> None:
    """Print plain data as JSON: fixed order, full precision, no NaN."""
    click.echo(json.dumps(_finite(data), indent=2, allow_nan=False))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, float) and data not in (float("inf"), float("-inf")) and data == data:
        return data
    return None if isinstance(data, float) else data


def scenario_argument(function: _Function) -> _Function:
    """Add the SCENARIO argument and --set, which changes fields of it."""
    function = click.option(
        "--set",
        "changes",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Change a field by its dotted path, e.g. --set device.cores=6 (repeatable).",
    )(function)
    return click.argument("scenario", type=str)(function)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), help="Root of all randomness [the scenario's]."
)


def load(source: str, changes: tuple[str, ...], *, keep_sweep: bool) -> Scenario:
    """Load a scenario and apply --set to it.

    A changed field leaves the sweep. Without `keep_sweep` the scenario's own values count alone.
    """
    scenario = load_scenario(source)
    parsed = dict(_parse_change(change) for change in changes)
    changed = with_fields(scenario, parsed)
    if not keep_sweep:
        return changed
    sweep = {name: values for name, values in scenario.sweep.items() if name not in parsed}
    design = scenario.design if sweep else type(scenario.design)()
    return changed.model_copy(update={"sweep": sweep, "design": design})


def _parse_change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ScenarioError(f"--set takes FIELD=VALUE, e.g. device.cores=6 (got {text!r})")
    if ":" in value:
        return name, value
    if value.lower() in ("null", "none", ""):
        return name, None
    try:
        return name, int(value)
    except ValueError:
        pass
    try:
        return name, float(value)
    except ValueError:
        raise ScenarioError(f"must be a number (got {value!r})", field=name) from None


def save_figure(axes: Any, path: Path) -> None:
    """Save a figure and say where it went."""
    from kdsim import plots

    plots.save(axes, path)
    click.echo(f"figure written to {path}", err=True)


output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Save the figure (.png, .svg or .pdf).",
)


# --- compare ------------------------------------------------------------------------------------


@click.command()
@scenario_argument
@click.option(
    "-p", "--policy", "policies", multiple=True, metavar="NAME",
    help="Policy to compare: a built-in name, static:c or module:Class (repeatable) "
    "[the scenario's].",
)  # fmt: skip
@click.option(
    "-n", "--replications", type=click.IntRange(1), help="Runs of a random policy [the scenario's]."
)
@seed_option
@click.option("--against", metavar="NAME", help="Also give paired differences to this policy.")
@output_option
@json_option
def compare(
    scenario: str,
    changes: tuple[str, ...],
    policies: tuple[str, ...],
    replications: int | None,
    seed: int | None,
    against: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    r"""Compare policies on SCENARIO (a file, or the name of one that ships).

    Every point of the scenario's sweep is simulated; each policy's makespan stands beside the
    proven optimum.

    \b
    Examples:
      kdsim compare measured
      kdsim compare paper-1to1 -p greedy -p optimal -p mine:MyPolicy -o fig.png
      kdsim compare my.yaml --set device.cores=4 --against greedy --json
    """
    from kdsim import batch
    from kdsim.compare import compare as compare_policies
    from kdsim.progress import ProgressBar

    loaded = load(scenario, changes, keep_sweep=True)
    plain = [p for p in policies or loaded.policies if not batch.is_compiled(p)]
    if plain and not as_json:
        click.echo(f"{', '.join(plain)}: your own code, simulated run by run in SimPy", err=True)
    with ProgressBar("runs", enabled=not as_json) as progress:
        result = compare_policies(
            loaded, policies, replications=replications, seed=seed, progress=progress
        )
    differences = result.differences(against) if against else []
    if as_json:
        print_json({**result.to_dict(), **({"differences": differences} if against else {})})
    else:
        from kdsim import tables

        out = tables.console()
        out.print(tables.comparison_table(result))
        if against:
            out.print(tables.difference_table(differences, against))
    if output:
        save_figure(result.plot(), output)


# --- run ----------------------------------------------------------------------------------------


@click.command()
@scenario_argument
@click.option("-p", "--policy", default="optimal", show_default=True, metavar="NAME")
@seed_option
@click.option("--replication", type=click.IntRange(0), default=0, show_default=True)
@output_option
@click.option(
    "--trace-out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a Chrome trace that Perfetto opens.",
)
@click.option(
    "--timeline-out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the timeline as CSV.",
)
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

    \b
    Examples:
      kdsim run measured --policy greedy
      kdsim run paper-1to1 -p random --replication 7 -o timeline.png
      kdsim run paper-1to1 -p optimal --trace-out run.json
    """
    from kdsim.engine import simulate

    loaded = load(scenario, changes, keep_sweep=False)
    result = simulate(loaded, policy, seed=seed, replication=replication)
    if as_json:
        print_json(result.to_dict())
    else:
        from kdsim import tables

        out = tables.console()
        out.print(tables.run_table(result))
        for line in tables.run_lines(result):
            out.print(line)
    if trace_out:
        from kdsim import chrome_trace

        chrome_trace.write(result, trace_out)
        click.echo(f"trace written to {trace_out}", err=True)
    if timeline_out:
        _write(timeline_out, result.timeline.to_csv(index=False))
        click.echo(f"timeline written to {timeline_out}", err=True)
    if output:
        save_figure(result.plot(), output)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise KdsimError(f"{path}: cannot be written: {error.strerror or error}") from None


# --- optimum --------------------------------------------------------------------------------------


@click.command()
@scenario_argument
@json_option
def optimum(scenario: str, changes: tuple[str, ...], as_json: bool) -> None:
    r"""Compute the minimal makespan of SCENARIO, the path and the schedule that attain it.

    No schedule whatever can be faster; the built-in policy "optimal" attains it.

    \b
    Example:
      kdsim optimum paper-1to1 --set device.cores=12
    """
    from kdsim.optimum import minimal_makespan

    loaded = load(scenario, changes, keep_sweep=False)
    result = minimal_makespan(loaded)
    if as_json:
        print_json(result.to_dict())
        return
    from kdsim import tables

    out = tables.console()
    out.print(f"{loaded.name}: {result.kind} of the makespan {tables.seconds(result.makespan)} s")
    out.print(
        f"fastest path: {len(result.path)} vertices, from no work to "
        f"{result.path[-1, 0]:g} data units and {result.path[-1, 1]:g} compute units"
    )
    out.print(tables.schedule_table(result))
    if not result.exact:
        out.print("A lower bound: release or reallocation_cost may keep any schedule above it.")


# --- check ----------------------------------------------------------------------------------------


@click.command()
@click.argument("scenarios", nargs=-1, type=str, metavar="[SCENARIO]...")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of scenario files and stop.")
@click.option(
    "-p", "--policy", "policies", multiple=True, metavar="MODULE:CLASS",
    help="Also exercise a policy of your own (repeatable).",
)  # fmt: skip
@json_option
def check(
    scenarios: tuple[str, ...], schema: bool, policies: tuple[str, ...], as_json: bool
) -> None:
    r"""Validate scenarios, and policies of your own, without running a study.

    Every fault of a file is listed as FILE:LINE:COLUMN: FIELD: REASON.

    \b
    Examples:
      kdsim check my.yaml other.yaml
      kdsim check my.yaml --policy mine:MyPolicy
      kdsim check --schema > scenario.schema.json
    """
    if schema:
        print_json(Scenario.model_json_schema())
        return
    if not scenarios and not policies:
        raise click.UsageError("give a scenario, --policy or --schema")
    from kdsim.checking import check_policy

    findings, problems, loaded = [], [], None
    for source in scenarios:
        try:
            loaded = load_scenario(source)
        except ScenarioError as error:
            problems.append(str(error))
            findings.append({"scenario": source, "ok": False, "faults": str(error).splitlines()})
            continue
        findings.append({"scenario": source, "ok": True, "faults": []})
        if not as_json:
            click.echo(f"{source}: ok ({_describe(loaded)})")
    for name in policies:
        report = check_policy(name, loaded)
        findings.append({"policy": name, "ok": report.ok, "problems": report.problems})
        if not report.ok:
            problems.append(str(report))
        elif not as_json:
            click.echo(str(report))
    if as_json:
        print_json({"ok": not problems, "findings": findings})
    if problems:
        raise ScenarioError("\n".join(problems))


def _describe(scenario: Scenario) -> str:
    from kdsim.design import points

    count = len(points(scenario))
    return (
        f"{scenario.device.cores} cores, {scenario.workload.cycles} cycles, "
        f"{len(scenario.policies)} policies, {count} point{'s' if count > 1 else ''}"
    )


# --- curves ---------------------------------------------------------------------------------------


@click.command()
@scenario_argument
@click.option(
    "--cores", multiple=True, type=click.IntRange(1), metavar="N",
    help="Core count to draw (repeatable) [the sweep's, or the device's].",
)  # fmt: skip
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False),
    help="Where to save the figure (.png, .svg or .pdf).",
)  # fmt: skip
def curves(scenario: str, changes: tuple[str, ...], cores: tuple[int, ...], output: Path) -> None:
    r"""Draw f and g of SCENARIO over the allocations, for one or several core counts.

    \b
    Example:
      kdsim curves paper-1to1 -o fig4.png
    """
    from kdsim import plots

    loaded = load(scenario, changes, keep_sweep=True)
    save_figure(plots.curves(loaded, core_counts=list(cores) or None), output)
