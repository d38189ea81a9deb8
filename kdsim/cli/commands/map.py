"""The command that draws where the choice of a policy matters: map."""

from __future__ import annotations

from pathlib import Path

import click

from kdsim.cli.options import (
    allow_policies_option,
    check_allowed,
    check_outputs,
    json_option,
    load,
    output_option,
    policies_option,
    print_json,
    replications_option,
    save_figure,
    scenario_argument,
)
from kdsim.errors import ScenarioError


@click.command()
@scenario_argument
@policies_option("Policies to draw", default="the scenario's, without optimal")
@allow_policies_option
@click.option(
    "--sweep", "swept", multiple=True, metavar="FIELD=VALUES",
    help="An axis, e.g. --sweep device.cores=2,4,8 --sweep link.rate=log:0.1:100:20 (two of them) "
    "[data per compute and link rate].",
)  # fmt: skip
@click.option(
    "--mark", "marks", multiple=True, metavar="NAME=X,Y",
    help="A named place; leave X or Y empty for a line (repeatable).",
)  # fmt: skip
@replications_option("Runs of each random policy.")
@output_option
@json_option
def policy_map(
    scenario: str,
    changes: tuple[str, ...],
    policies: tuple[str, ...],
    allow_policies: bool,
    swept: tuple[str, ...],
    marks: tuple[str, ...],
    replications: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    r"""Draw where the choice of a policy matters in SCENARIO: its gap over two fields.

    \b
    Examples:
      kdsim map measured -o map.png
      kdsim map paper-1to1 --sweep device.cores=2,4,8,16 --sweep workload.comm=log:0.1:10:9 -o m.png
    """
    from kdsim.answers.policy_map import Mark
    from kdsim.answers.policy_map import policy_map as compute
    from kdsim.cli.progress import ProgressBar
    from kdsim.scenario.swept_values import parse_sweep

    check_outputs(output)
    loaded = load(scenario, changes, keep_sweep=False)
    if swept:
        axes = dict(parse_sweep(text) for text in swept)
        if len(axes) != 2:
            raise ScenarioError(f"a map has two axes: give --sweep twice (got {len(axes)})")
        loaded = loaded.model_copy(update={"sweep": axes})
    check_allowed(policies or loaded.policies, policies, scenario, allow=allow_policies)
    places = [Mark(*_place(text)) for text in marks]
    with ProgressBar("runs", enabled=not as_json) as progress:
        made = compute(
            loaded, list(policies) or None, allow_policies=True, replications=replications,
            marks=places, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(made.to_dict())
    else:
        click.echo(f"{loaded.name}: gap to the {made.bound_kind} over {made.x.size * made.y.size}"
                   f" points of {made.x_field} and {made.y_field}")  # fmt: skip
        for name, gaps in made.gaps.items():
            over = float((gaps > 0.05).mean())
            largest = f"largest {100 * gaps.max():5.1f} %"
            click.echo(f"  {name:15s} {largest}   above 5 % at {100 * over:.0f} % of them")
    if output:
        save_figure(made.plot(), output)


def _place(text: str) -> tuple[str, float | None, float | None]:
    name, _, where = text.partition("=")
    numbers = where.split(",")
    try:
        x, y = (float(part) if part.strip() else None for part in numbers)
    except ValueError:
        raise ScenarioError(
            f"--mark takes NAME=X,Y, e.g. --mark mine=2.5,10 (got {text})"
        ) from None
    return name, x, y
