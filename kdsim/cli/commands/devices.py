"""The device library on the command line: devices, devices show."""

from __future__ import annotations

from pathlib import Path

import click

from kdsim._types import Record
from kdsim.cli.options import check_outputs, json_option, output_option, print_json, save_figure
from kdsim.scenario.files.library import library_device, library_names


@click.group(invoke_without_command=True)
@click.option("-s", "--search", metavar="TEXT", help="Only devices whose name or heading has TEXT.")
@json_option
@click.pass_context
def devices(context: click.Context, search: str | None, as_json: bool) -> None:
    r"""List the device library: real devices whose curves ship with kdsim.

    A scenario takes one as device: {library: NAME}; --set device.library=NAME does the same.
    Compute rates are from inference benchmarks, not from training.

    \b
    Examples:
      kdsim devices
      kdsim devices --search jetson
      kdsim devices show raspberry-pi-5 -o pi5.png
      kdsim compare paper-1to1 --set device.library=raspberry-pi-5
    """
    if context.invoked_subcommand is not None:
        return
    rows = [_row(name, library_device(name)) for name in library_names()]
    if search:
        wanted = search.casefold().split()
        rows = [
            row
            for row in rows
            if all(word in f"{row['name']} {row['heading']}".casefold() for word in wanted)
        ]
    if as_json:
        print_json({"devices": rows})
        return
    from kdsim.cli import tables

    tables.console().print(tables.devices_table(rows))


@devices.command()
@click.argument("name")
@output_option
@json_option
def show(name: str, output: Path | None, as_json: bool) -> None:
    r"""Show the device NAME: curves, intervals, source, licence, and what it is not.

    \b
    Examples:
      kdsim devices show jetson-agx-orin
      kdsim devices show jetson-agx-orin -o orin.png
    """
    check_outputs(output)
    entry = library_device(name)
    if as_json:
        print_json({"name": name, **entry})
    else:
        from kdsim.cli import tables

        out = tables.console()
        out.print(tables.device_table(name, entry))
        for line in _facts(entry):
            out.print(line, soft_wrap=True)
    if output:
        from kdsim import plots

        save_figure(plots.library_device(name, entry), output)


def _row(name: str, entry: Record) -> Record:
    facts = entry["provenance"]
    points = facts["points"]
    return {
        "name": name,
        "heading": facts["device"],
        "measured_on": points["own_cores"],
        "networks": len(facts["networks"]),
        "form": facts["model"],
        "rate": points["measured"],
        "low": points["low"],
        "high": points["high"],
        "communication": "proxy" if "communication" in entry else None,
        "licence": facts["source"]["licence"],
    }


def _facts(entry: Record) -> list[str]:
    """Say in sentences where an entry is from and what it is not."""
    facts = entry["provenance"]
    source = facts["source"]
    lines = [
        f"device         {facts['device']}",
        f"unit           {facts['units']['compute']}",
        f"networks       {len(facts['networks'])}: {', '.join(facts['networks'])}",
        f"source         {source['repository']}, {source['path']}, commit {source['commit'][:10]}, "
        f"lines {', '.join(map(str, source['lines']))}",
        f"licence        {source['licence']}",
    ]
    if facts["note"]:
        lines.append(f"note           {facts['note']}")
    if facts["more_threads_than_cores"]:
        threads = ", ".join(map(str, facts["more_threads_than_cores"]))
        lines.append(f"left out       runs with more threads than cores: {threads}")
    lines += [f"form           {reason}" for reason in facts["reasons"]]
    lines.append("it is not      a measurement of training: inference of whole networks, a proxy")
    proxy = facts.get("communication_proxy")
    if proxy is None:
        lines.append("it is not      complete: no communication curve, a scenario has to give one")
    else:
        lines.append(
            "it is not      a measurement of receiving: another machine's receiver, scaled by the "
            f"pace of one core ({proxy['pace_ratio']:.2f}); it may be off by a factor of "
            f"{proxy['factor']:.1f} either way, and how it scales over cores is not known"
        )
    return lines
