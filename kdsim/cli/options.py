"""What commands share: arguments and options, --set, JSON, output files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from kdsim.errors import KdsimError, ScenarioError
from kdsim.output_file import SUFFIXES, check_output
from kdsim.policies.names import POLICY_NAMES
from kdsim.policies.permission import refuse_unnamed
from kdsim.scenario.changes import (
    SWITCHES,
    TEXT_FIELDS,
    multiply_sweep,
    parse_ratio,
    sweepable_fields,
    with_fields,
)
from kdsim.scenario.drawn import LEAST_DRAWS
from kdsim.scenario.load import bundled_scenarios, load_scenario
from kdsim.scenario.parts.curve_draws import MAX_DRAWS
from kdsim.scenario.study import Scenario
from kdsim.scenario.swept_values import with_sweep

_Function = Callable[..., Any]


# --- JSON -----------------------------------------------------------------------------------------


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


# --- arguments and options ------------------------------------------------------------------------


def complete_scenarios(
    _: click.Context, __: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a bundled scenario, or of a file."""
    names = [name for name in bundled_scenarios() if name.startswith(incomplete)]
    return [*map(CompletionItem, names), CompletionItem(incomplete, type="file")]


def complete_policies(
    _: click.Context, __: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a built-in policy."""
    return [CompletionItem(name) for name in POLICY_NAMES if name.startswith(incomplete)]


def complete_fields(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the dotted path of a field of the scenario that stands before it."""
    try:
        scenario = load_scenario(context.params.get("scenario") or "paper-1to1")
    except KdsimError:
        return []  # its faults are reported when the command runs
    known = [f"{name}=" for name in (*sweepable_fields(scenario), *SWITCHES)]
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def scenario_argument(function: _Function) -> _Function:
    """Add the SCENARIO argument and --set, which changes fields of it."""
    function = click.option(
        "--set",
        "changes",
        multiple=True,
        metavar="FIELD=VALUE",
        shell_complete=complete_fields,
        help="Change a field by its dotted path, e.g. --set device.cores=6 (repeatable).",
    )(function)
    return click.argument("scenario", type=str, shell_complete=complete_scenarios)(function)


def sweep_option(function: _Function) -> _Function:
    """Add --sweep, which varies fields of the scenario."""
    return click.option(
        "--sweep",
        "swept",
        multiple=True,
        metavar="FIELD=VALUES",
        shell_complete=complete_fields,
        help="Vary a field: 2,4,8 or ratios 1:1,2:1, or lin:LOW:HIGH:COUNT, log:LOW:HIGH:COUNT "
        "(repeatable; all combinations).",
    )(function)


def policies_option(
    words: str, default: str = "the scenario's"
) -> Callable[[_Function], _Function]:
    """Make -p, which names policies; `default` says which ones run without it."""
    return click.option(
        "-p",
        "--policy",
        "policies",
        multiple=True,
        metavar="NAME",
        shell_complete=complete_policies,
        help=f"{words}: a built-in name, static:c or module:Class (repeatable) [{default}].",
    )


allow_policies_option = click.option(
    "--allow-policies",
    is_flag=True,
    help="Run policies of your own that -p does not name, because the file names them.",
)


def check_allowed(
    in_file: Iterable[str], named: Sequence[str], source: str, *, allow: bool
) -> None:
    """Refuse to run code that only a file asks for; see `refuse_unnamed`."""
    remedy = "name it on the command line (-p {name}), or add --allow-policies"
    refuse_unnamed(in_file, named, source, allow=allow, remedy=remedy)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of all random numbers [the scenario's]."
)
curve_draws_option = click.option(
    "--curve-draws", type=click.IntRange(LEAST_DRAWS, MAX_DRAWS), metavar="K",
    help="Repeat with the first K bootstrap draws of the fitted curves, to show how much the "
    "error of the measurement matters [off].",
)  # fmt: skip
#: The type of an option that names a file to write.
OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)
output_option = click.option(
    "-o", "--output", type=OUTPUT_FILE, help="Save the figure (.png, .svg or .pdf)."
)
figure_option = click.option(
    "-o", "--output", type=OUTPUT_FILE, required=True,
    help="Where to save the figure (.png, .svg or .pdf).",
)  # fmt: skip


def replications_option(
    words: str, *, least: int = 1, most: int | None = None, default: int | None = None
) -> Callable[[_Function], _Function]:
    """Make -n, the number of runs of a policy that draws at random."""
    return click.option(
        "-n", "--replications", type=click.IntRange(least, most), default=default,
        show_default=default is not None, help=words,
    )  # fmt: skip


def outputs_option(what: str) -> Callable[[_Function], _Function]:
    """Make -o for several outputs of several kinds."""
    kinds = "; ".join(f"{kind}: {', '.join(suffixes)}" for kind, suffixes in SUFFIXES.items())
    return click.option(
        "-o",
        "--output",
        "outputs",
        multiple=True,
        type=OUTPUT_FILE,
        help=f"{what} by its suffix ({kinds}; repeatable).",
    )


# --- scenarios ------------------------------------------------------------------------------------


def load(
    source: str, changes: tuple[str, ...], *, keep_sweep: bool, swept: tuple[str, ...] = ()
) -> Scenario:
    """Load a scenario and apply --set and --sweep to it.

    A changed field leaves the sweep; a ratio multiplies swept amounts too. Without `keep_sweep` the
    scenario's own values count alone.
    """
    both = {text.partition("=")[0] for text in changes} & {text.partition("=")[0] for text in swept}
    if both:
        raise ScenarioError("is given to --set and to --sweep; use one of them", field=min(both))
    return with_sweep(_changed(load_scenario(source), changes, keep_sweep=keep_sweep), swept)


def _changed(scenario: Scenario, changes: tuple[str, ...], *, keep_sweep: bool) -> Scenario:
    parsed = dict(_parse_change(change) for change in changes)
    changed = with_fields(scenario, parsed)
    if not keep_sweep:
        return changed
    dropped = set(parsed)
    if "device.library" in dropped:  # values swept for one device do not apply to another
        dropped |= {name for name in scenario.sweep if name.startswith("device.")}
    sweep = {name: values for name, values in scenario.sweep.items() if name not in dropped}
    if "workload.ratio" in parsed:
        sweep = multiply_sweep(sweep, parse_ratio(parsed["workload.ratio"]))
    design = scenario.design if sweep else type(scenario.design)()
    return changed.model_copy(update={"sweep": sweep, "design": design})


def _parse_change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ScenarioError(f"--set takes FIELD=VALUE, e.g. device.cores=6 (got {text!r})")
    if ":" in value or name in TEXT_FIELDS:
        return name, value
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    if name in SWITCHES:
        raise ScenarioError(f"must be true or false (got {value!r})", field=name)
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


# --- outputs --------------------------------------------------------------------------------------


def save_figure(axes: object, path: Path) -> None:
    """Save a figure and say where it went."""
    from kdsim import plots

    plots.save(axes, path)
    click.echo(f"figure written to {path}", err=True)


def check_outputs(figure: Path | None, *others: Path | None) -> None:
    """Refuse places that cannot be written before any work is done for them."""
    if figure is not None:
        check_output(figure, "figure")
    for path in others:
        if path is not None:
            check_output(path)
