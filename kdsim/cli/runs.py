"""The commands that simulate: compare, run, optimum, curves; and what commands share."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from kdsim.errors import KdsimError, ScenarioError, UnknownPolicyError
from kdsim.messages import did_you_mean
from kdsim.scenario.load import load_scenario
from kdsim.scenario.study import Scenario, multiply_sweep, parse_ratio, with_fields

_Function = Callable[..., Any]

_FIGURES = (".png", ".svg", ".pdf")


def print_json(data: Any) -> None:
    """Print plain data as JSON: fixed order, full precision, no NaN.

    An iterator in it is printed as a list, entry by entry, so that a long one takes no memory.
    """
    encoder = json.JSONEncoder(indent=2, allow_nan=False)
    parts = encoder.iterencode(_finite(data))
    while block := "".join(itertools.islice(parts, 10_000)):
        click.echo(block, nl=False)
    click.echo()


class _Streamed(list[Any]):
    """What the encoder takes for a list and reads from an iterator."""

    def __init__(self, entries: Iterator[Any]) -> None:
        super().__init__(itertools.islice(entries, 1))  # decides whether the list is empty
        self._rest = entries

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain(super().__iter__(), self._rest)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, Iterator):
        return _Streamed(map(_finite, data))
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

    A changed field leaves the sweep; a ratio multiplies swept amounts too. Without `keep_sweep` the
    scenario's own values count alone.
    """
    scenario = load_scenario(source)
    parsed = dict(_parse_change(change) for change in changes)
    changed = with_fields(scenario, parsed)
    if not keep_sweep:
        return changed
    sweep = {name: values for name, values in scenario.sweep.items() if name not in parsed}
    if "workload.ratio" in parsed:
        sweep = multiply_sweep(sweep, parse_ratio(parsed["workload.ratio"]))
    design = scenario.design if sweep else type(scenario.design)()
    return changed.model_copy(update={"sweep": sweep, "design": design})


def _parse_change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ScenarioError(f"--set takes FIELD=VALUE, e.g. device.cores=6 (got {text!r})")
    if ":" in value or name == "link.starved":
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


def check_outputs(figure: Path | None, *others: Path | None) -> None:
    """Refuse places that cannot be written before any work is done for them."""
    if figure is not None and figure.suffix.lower() not in _FIGURES:
        raise KdsimError(f"{figure}: figures are written as {', '.join(_FIGURES)}")
    for path in (figure, *others):
        if path is not None and not path.parent.is_dir():
            raise KdsimError(f"{path}: cannot be written: there is no folder {path.parent}")


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
    from kdsim.cli.progress import ProgressBar
    from kdsim.engines import batch
    from kdsim.engines.compare import compare as compare_policies
    from kdsim.policies.resolve import make_policy

    check_outputs(output)
    loaded = load(scenario, changes, keep_sweep=True)
    chosen = list(dict.fromkeys(policies or loaded.policies))
    for name in chosen:
        make_policy(name)  # a wrong name is told before the others have been simulated
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
    with ProgressBar("runs", enabled=not as_json) as progress:
        result = compare_policies(
            loaded, chosen, replications=replications, seed=seed, progress=progress
        )
    differences = result.differences(against) if against else []
    if as_json:
        print_json({**result.to_dict(), **({"differences": differences} if against else {})})
    else:
        from kdsim.cli import tables

        out = tables.console()
        out.print(tables.comparison_table(result))
        if against:
            scale = max(row["mean"] for row in result.rows)
            out.print(tables.difference_table(differences, against, scale=scale))
    if output:
        save_figure(result.plot(), output)


# --- run ----------------------------------------------------------------------------------------


@click.command()
@scenario_argument
@click.option(
    "-p", "--policy", default="optimal", show_default=True, metavar="NAME",
    help="A built-in name, static:c or module:Class.",
)  # fmt: skip
@seed_option
@click.option(
    "--replication", type=click.IntRange(0, 2**53), default=0, show_default=True,
    help="Number of the run: which draws and which noise it meets.",
)  # fmt: skip
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

    The scenario's own values count, not its sweep; --set changes them.

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
        from kdsim.output_file import whole_file

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

    No schedule whatever can be faster; the built-in policy "optimal" attains it. The scenario's
    own values count, not its sweep; --set changes them.

    \b
    Example:
      kdsim optimum paper-1to1 --set device.cores=12
    """
    from kdsim.model.optimum import minimal_makespan

    loaded = load(scenario, changes, keep_sweep=False)
    result = minimal_makespan(loaded)
    if as_json:
        print_json(result.to_dict())
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
    if not result.exact:
        out.print("A lower bound: release or reallocation_cost may keep any schedule above it.")


# --- curves ---------------------------------------------------------------------------------------


@click.command()
@scenario_argument
@click.option(
    "--cores", multiple=True, type=click.IntRange(1), metavar="N",
    help="Core count to draw (repeatable) [the sweep's; else 6, 8, 10, 12 and the device's].",
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
    check_outputs(output)
    loaded = load(scenario, changes, keep_sweep=True)
    from kdsim import plots

    save_figure(plots.curves(loaded, core_counts=list(cores) or None), output)
