"""The command that validates: check."""

from __future__ import annotations

import math

import click

from kdsim.cli.options import complete_scenarios, json_option, print_json
from kdsim.errors import ScenarioError
from kdsim.policies.resolve import is_built_in, policy_file
from kdsim.scenario.load import load_scenario
from kdsim.scenario.study import Scenario

#: Points of a design that are built one by one, within a few seconds.
_POINTS_CHECKED = 5_000


@click.command()
@click.argument(
    "scenarios", nargs=-1, type=str, metavar="[SCENARIO]...", shell_complete=complete_scenarios
)
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

    Every fault of a file is listed, with its line and column, the field and the reason. A policy of
    your own that the file names is not executed, only one named with --policy; the file of its code
    is printed.

    \b
    Examples:
      kdsim check my.yaml other.yaml
      kdsim check my.yaml --policy mine:MyPolicy
      kdsim check --schema > scenario.schema.json
    """
    if schema:
        from kdsim.scenario.json_schema import scenario_schema

        print_json(scenario_schema())
        return
    if not scenarios and not policies:
        raise click.UsageError("give a scenario, --policy or --schema")
    from kdsim.api import check_policy

    findings: list[dict[str, object]] = []
    problems, loaded = [], None
    for source in scenarios:
        try:
            loaded = load_scenario(source)
        except ScenarioError as error:
            problems.append(str(error))
            findings.append({"scenario": source, "ok": False, "faults": str(error).splitlines()})
            continue
        illegal = _illegal_points(loaded)
        own = {name: policy_file(name) for name in loaded.policies if not is_built_in(name)}
        item = {"scenario": source, "ok": True, "faults": [], "illegal_points": illegal}
        findings.append({**item, "executes": own, "marks": list(loaded.marks())})
        if not as_json:
            click.echo(f"{source}: ok ({_describe(loaded, illegal)})")
            for mark in loaded.marks():
                click.echo(f"  {mark}")
            for name, file in own.items():
                click.echo(f"  policy {name} would execute {file} (not executed by this check)")
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


def _describe(scenario: Scenario, illegal: list[str]) -> str:
    count = _point_count(scenario)
    text = (
        f"{scenario.device.cores} cores, {scenario.workload.cycles} cycles, "
        f"{len(scenario.policies)} policies, {count:,} point{'s' if count > 1 else ''}"
    )
    if not illegal:
        return text
    return f"{text}, {len(illegal)} of them not legal, the first {illegal[0]}"


def _point_count(scenario: Scenario) -> int:
    lengths = [len(values) for values in scenario.sweep.values() if isinstance(values, list)]
    if scenario.design.samples is not None:
        return scenario.design.samples
    return lengths[0] if lengths and scenario.design.method == "zip" else math.prod(lengths)


def _illegal_points(scenario: Scenario) -> list[str]:
    """Say which points are not legal though each of their values is; not of huge designs."""
    from kdsim.scenario.points import points

    if _point_count(scenario) > _POINTS_CHECKED:
        return []
    found = [point for point in points(scenario) if point.scenario is None]
    return [
        f"at {', '.join(f'{name} = {value}' for name, value in point.values.items())}: "
        f"{point.error}"
        for point in found
    ]
