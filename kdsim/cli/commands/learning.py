"""The command that sets the accuracy of real runs against simulated time on a device."""

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
    seed_option,
)


@click.command()
@scenario_argument
@click.argument("profiles", nargs=-1, required=True, type=str, metavar="PROFILE...")
@policies_option("Policy")
@allow_policies_option
@click.option(
    "--target", type=click.FloatRange(0.0, 1.0), metavar="ACCURACY",
    help="Target accuracy, 0 to 1 [the highest that every profile reaches].",
)  # fmt: skip
@click.option(
    "--profile-rate", type=click.FloatRange(0.0, min_open=True), metavar="UNITS",
    help="Compute units per second of the profiles' host [the device's own curve].",
)  # fmt: skip
@replications_option("Runs of a random policy [the scenario's, 100 at most].")
@seed_option
@output_option
@json_option
def learning(
    scenario: str,
    changes: tuple[str, ...],
    profiles: tuple[str, ...],
    policies: tuple[str, ...],
    allow_policies: bool,
    target: float | None,
    profile_rate: float | None,
    replications: int | None,
    seed: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    r"""Report the time at which the device of SCENARIO reaches an accuracy, under each policy.

    A PROFILE is the cost profile of a real training run, as `kdsim workload` writes it. Its cycles
    are replayed on the device's curves; the weights, and so the accuracies, are those of the real
    run. Beside each policy stands the earliest time at which any schedule could reach that
    accuracy.

    \b
    Examples:
      kdsim learning measured-8virtual profiles/edge-1-aflkd.csv -o accuracy.png
      kdsim learning my-device.yaml profile.csv --set device.cores=4 --target 0.9
    """
    from kdsim.cli.progress import ProgressBar
    from kdsim.engines.learning import learning_curves

    check_outputs(output)
    device = load(scenario, changes, keep_sweep=False)
    check_allowed(policies or device.policies, policies, scenario, allow=allow_policies)
    with ProgressBar("runs", enabled=not as_json) as progress:
        result = learning_curves(
            device,
            profiles,
            policies or None,
            replications=replications,
            seed=seed,
            profile_rate=profile_rate,
            progress=progress,
        )
    if as_json:
        print_json(result.to_dict(target))
    else:
        from kdsim.cli import tables

        out = tables.console()
        out.print(tables.learning_table(result, target))
    if output:
        save_figure(result.plot(target=target), output)
