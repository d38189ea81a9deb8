"""The command that answers an analyst's questions: advise."""

from __future__ import annotations

from pathlib import Path

import click

from kdsim.cli.options import (
    check_outputs,
    curve_draws_option,
    json_option,
    load,
    output_option,
    policies_option,
    print_json,
    replications_option,
    save_figure,
    scenario_argument,
)


@click.command()
@scenario_argument
@policies_option("Candidates", default="every built-in policy except random")
@replications_option("Runs of each policy under noise.", least=2, most=100_000, default=200)
@curve_draws_option
@output_option
@json_option
def advise(
    scenario: str,
    changes: tuple[str, ...],
    policies: tuple[str, ...],
    replications: int,
    curve_draws: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    r"""Answer what an analyst asks of SCENARIO, on one page.

    How many cores are worth it, from which link speed on nothing is gained, which policy to ship
    when times vary, what the answer depends on, and what it does not know. The studies are designed
    here; the scenario's own sweep is left aside.

    \b
    Examples:
      kdsim advise measured
      kdsim advise measured --curve-draws 200
      kdsim advise my-device.yaml --set device.cores=4 -o advice.png
    """
    from kdsim.answers.advice import advise as answer
    from kdsim.answers.sentences import advice_data, by_topic
    from kdsim.cli.progress import ProgressBar

    check_outputs(output)
    loaded = load(scenario, changes, keep_sweep=False)
    with ProgressBar("studies", enabled=not as_json) as progress:
        made = answer(
            loaded, policies=list(policies) or None, replications=replications,
            curve_draws=curve_draws, progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(advice_data(made))
    else:
        click.echo(f"{loaded.name}: {made.bound_kind} of the makespan {made.makespan:.4g} s\n")
        for heading, found in by_topic(made):
            click.echo(heading)
            for sentence in found:
                click.echo(click.wrap_text(sentence.text, 96, "  - ", "    "))
    if output:
        from kdsim import plots

        save_figure(plots.advice(made), output)
