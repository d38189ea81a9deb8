"""The commands of a first session: init, list."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from kdsim._types import Record
from kdsim.cli.options import OUTPUT_FILE, json_option, print_json
from kdsim.errors import KdsimError
from kdsim.output_file import check_output, write_output

_KINDS = ("scenarios", "policies", "models", "devices")


# --- init -----------------------------------------------------------------------------------------


@click.command()
@click.argument("scenario", required=False, type=OUTPUT_FILE, metavar="[FILE]")
@click.option(
    "--policy", type=OUTPUT_FILE, metavar="FILE.py",
    help="Also write a policy of your own to start from.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def init(scenario: Path | None, policy: Path | None, force: bool) -> None:
    r"""Write a commented scenario to start from [my-device.yaml].

    With --policy and without FILE only the policy is written.

    \b
    Examples:
      kdsim init
      kdsim init board.yaml --policy mine.py
    """
    wanted: list[tuple[Path, str]] = []
    if scenario is not None or policy is None:
        wanted.append((scenario or Path("my-device.yaml"), "device.yaml"))
    if policy is not None:
        if policy.suffix != ".py" or not policy.stem.isidentifier():
            raise KdsimError(f"{policy}: a policy is a module, e.g. mine.py (letters, digits, _)")
        wanted.append((policy, "policy.py.txt"))
    for path, _ in wanted:
        check_output(path)
        if path.exists() and not force:
            raise KdsimError(f"{path}: exists; --force replaces it")
    for path, template in wanted:
        text = resources.files("kdsim.cli").joinpath("scaffold", template).read_text("utf-8")
        write_output(path, text.replace("MODULE", path.stem).encode(), failure=KdsimError)
        click.echo(f"{path} written; next: {_next_step(path, template)}")


def _next_step(path: Path, template: str) -> str:
    if template == "policy.py.txt":
        return f"kdsim check -p {path.stem}:Mine"
    return f"kdsim check {path}, then kdsim compare {path}"


# --- list -----------------------------------------------------------------------------------------


@click.command(name="list")
@click.argument("kind", required=False, type=click.Choice(_KINDS))
@json_option
def list_all(kind: str | None, as_json: bool) -> None:
    r"""List what ships: scenarios, policies, curve models, devices.

    \b
    Examples:
      kdsim list
      kdsim list policies
      kdsim list devices --json
    """
    found = {name: _ENTRIES[name]() for name in ([kind] if kind else _KINDS)}
    if as_json:
        rows = {k: [{"name": n, "about": about} for n, about in v] for k, v in found.items()}
        print_json(rows)
        return
    for title, entries in found.items():
        width = max(len(name) for name, _ in entries)
        click.echo(click.style(title, bold=True))
        for name, about in entries:
            click.echo(f"  {name:<{width}}  {about}")
        click.echo(f"  ({_USES[title]})\n")


_USES = {
    "scenarios": "kdsim compare NAME",
    "policies": "kdsim compare SCENARIO -p NAME; a policy of your own is MODULE:CLASS",
    "models": "in a scenario, device.compute and device.communication: {model: NAME, ..}",
    "devices": "in a scenario, device: {library: NAME}; kdsim devices show NAME",
}


def _scenarios() -> list[tuple[str, str]]:
    from kdsim.scenario.load import bundled_scenarios, load_scenario

    return [
        (name, _first_sentence(load_scenario(name).description)) for name in bundled_scenarios()
    ]


def _policies() -> list[tuple[str, str]]:
    from kdsim.policies.names import SUMMARIES

    return list(SUMMARIES.items())


def _models() -> list[tuple[str, str]]:
    from kdsim.scenario.parts.curve_models import curve_models

    return [(name, f"{about} ({', '.join(fields)})") for name, about, fields in curve_models()]


def _devices() -> list[tuple[str, str]]:
    from kdsim.scenario.files.library import library_device, library_names

    def about(entry: Record) -> str:
        low, high = entry["measured_cores"]["compute"]
        heading = entry["provenance"]["device"]
        return f"{heading}; computation measured on {low} to {high} cores"

    return [(name, about(library_device(name))) for name in library_names()]


_ENTRIES = {
    "scenarios": _scenarios,
    "policies": _policies,
    "models": _models,
    "devices": _devices,
}


def _first_sentence(text: str, limit: int = 90) -> str:
    words = " ".join(text.split())
    sentence = words.partition(". ")[0].rstrip(".")
    return sentence if len(sentence) <= limit else f"{sentence[: limit - 1].rpartition(' ')[0]} …"
