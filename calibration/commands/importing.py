"""``kdsim calibrate import``, ``export`` and ``template``: timings from and for elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdsim._types import Record
from kdsim.cli.options import json_option

if TYPE_CHECKING:
    from calibration.importing.into import Imported
    from calibration.importing.mapping import TableMapping

_FORMATS = ("csv", "kineto", "ncnn", "llama-bench")


def _mapping_options(function: Any) -> Any:
    for option in (
        click.option("--mapping", metavar="FILE", help="Mapping as YAML; options add to it."),
        click.option("--map", "maps", multiple=True, metavar="OURS=THEIRS[:UNIT]",
                     help="The table's column for one of the trace; for times with the unit "
                     "(s, ms, us, ns, min)."),
        click.option("--value", "values", multiple=True, metavar="OURS:THEIRS=OURS",
                     help="The table's word for one of the trace, e.g. task:train=compute."),
        click.option("--set", "constants", multiple=True, metavar="OURS=VALUE",
                     help="A constant for all rows."),
        click.option("--unit", "units", multiple=True, metavar="TASK=UNIT",
                     help="Unit of work: compute=batch, comm=MB (B, kB, MB, GB, KiB, MiB, GiB)."),
        click.option("--delimiter", help="comma is recognised, so are ; | and tab."),
        click.option("--decimal", type=click.Choice(["point", "comma"]),
                     help="Where both could be meant."),
    )[::-1]:  # fmt: skip
        function = option(function)
    return function


@click.command(name="import")
@click.argument("source")
@click.option("-o", "--output", required=True, help="Trace to write.")
@click.option("--add", is_flag=True, help="Add to the trace that exists.")
@click.option("--format", "form", type=click.Choice(_FORMATS), help="By default as found.")
@click.option("--device", help="Name of the device in the trace.")
@click.option("--total-cores", type=int, help="Cores of the device.")
@_mapping_options
@click.option("--skip", "skips", multiple=True, metavar="OURS:THEIRS",
              help="Leave rows with that word out.")  # fmt: skip
@click.option("--cores", type=int, help="kineto: cores on which the profiled run computed.")
@click.option("--forward", metavar="RANGE", help="kineto: record_function range of the pass.")
@click.option("--backward", metavar="RANGE", help="kineto: record_function range of the pass.")
@click.option("--network", help="ncnn: which network.")
@click.option("--board", metavar="PART", help="ncnn: which device, of a file with several.")
@click.option("--powersave", type=click.IntRange(0, 2), help="ncnn: 0 all, 1 little, 2 big cores.")
@click.option("--variant", help="ncnn: the bold line above the runs, of a file with several.")
@click.option("--test", help="llama-bench: which test, e.g. pp512.")
@click.option("--model", help="llama-bench: which model, of a table with several.")
@json_option
def import_command(source: str, output: str, add: bool, as_json: bool, **options: Any) -> None:
    r"""Make a device trace of another tool's timings.

    Reads any CSV by a mapping of its columns, files of the PyTorch profiler (Kineto JSON), logs of
    ncnn's benchncnn and tables of llama-bench. What a file does not say has to be given as an
    option; nothing is guessed. Importing the same file again changes nothing; --add adds another
    file to the trace.

    \b
    Example:
        kdsim calibrate import own.csv -o trace.csv --device own --total-cores 8 \
          --map task=kind --map comm_cores=cores_net --map work=amount --map repeat=rep \
          --map seconds=dur_ms:ms --value task:train=compute --value task:recv=comm \
          --unit compute=batch --unit comm=MB
        kdsim calibrate import one.json -o trace.csv --device own --total-cores 2 --cores 1
        kdsim calibrate import two.json -o trace.csv --device own --total-cores 2 --cores 2 --add
        kdsim calibrate import bench.log -o trace.csv --network resnet18 --total-cores 4
    """
    from calibration.importing.into import write_import
    from calibration.trace import read_trace

    imported = _imported(source, options)
    outcome = write_import(imported, output, add=add)
    trace = read_trace(output)
    notes = list(imported.origin.get("notes", ())) + list(trace.questions)
    if as_json:
        summary = {"trace": output, "outcome": outcome, "rows": len(imported.records)}
        click.echo(json.dumps({**summary, "notes": notes}, sort_keys=True))
        return
    if outcome == "unchanged":
        click.echo(f"{output}: holds {Path(source).name} already; nothing changed")
        return
    tasks = trace.rows["task"].value_counts().to_dict()
    counts = ", ".join(f"{number} {task}" for task, number in tasks.items())
    click.echo(
        f"{output}: {outcome} {len(imported.records)} rows; {trace.device}, {trace.total_cores} "
        f"cores: {counts} rows in all"
    )
    for note in notes:
        click.echo(f"- {note}")
    missing = [task for task in ("compute", "comm") if task not in tasks]
    if missing:
        click.echo(f"- no {missing[0]} row yet: a fit needs both; import them with --add")
    else:
        click.echo(f"Next: kdsim calibrate fit {output} -o {Path(output).stem}.curves.yaml")


def _imported(source: str, options: Record) -> Imported:
    from calibration.importing import into

    form = options["form"] or _found_form(source, options)
    device, total = options["device"], options["total_cores"]
    if form == "csv":
        base = {"device": device, "total_cores": total}
        constants = [f"{name}={value}" for name, value in base.items() if value is not None]
        return into.from_table(source, _mapping(options, [*options["constants"], *constants]))
    if form == "kineto":
        return into.from_kineto(
            source, device=device, total_cores=total, cores=options["cores"],
            forward=options["forward"], backward=options["backward"],
        )  # fmt: skip
    if form == "ncnn":
        return into.from_ncnn(
            source, device=device, total_cores=total, network=options["network"],
            board=options["board"], powersave=options["powersave"], variant=options["variant"],
        )  # fmt: skip
    return into.from_llama_bench(
        source, device=device, total_cores=total, test=options["test"], model=options["model"]
    )


def _found_form(source: str, options: Record) -> str:
    """Recognise a format by content that only its files have."""
    import re

    from calibration.trace.text import read_text_file
    from kdsim.errors import TraceError

    if options["maps"] or options["mapping"]:
        return "csv"
    text = read_text_file(source, "a file of timings").text
    if '"traceEvents"' in text:
        return "kineto"
    if re.search(r"(?m)^\s*(loop_count|num_threads) = ", text):
        return "ncnn"
    if "avg_ns" in text or re.search(r"\|\s*test\s*\|\s*t/s\s*\|", text):
        return "llama-bench"
    raise TraceError(
        f"{source}: which format? It is none of {', '.join(_FORMATS[1:])} (--format); of a CSV "
        "table say what its columns mean (--map seconds=their_column:ms, or --mapping FILE)"
    )


def _mapping(options: Record, constants: list[str]) -> TableMapping:
    from calibration.importing.mapping import TableMapping, mapping_of, read_mapping

    base = read_mapping(options["mapping"]) if options["mapping"] else TableMapping()
    return mapping_of(
        base, maps=options["maps"], values=options["values"], constants=constants,
        units=options["units"], skips=options.get("skips", ()), delimiter=options["delimiter"],
        decimal=options["decimal"],
    )  # fmt: skip


@click.command(name="export")
@click.argument("trace")
@click.option("-o", "--output", required=True, help="Table to write.")
@_mapping_options
def export_command(trace: str, output: str, **options: Any) -> None:
    r"""Write a trace as a table in your own columns, units and words.

    Takes the same mapping as import; importing the table with it restores the trace's rows.

    \b
    Example:
        kdsim calibrate export trace.csv -o own.csv --mapping own.yaml
    """
    from calibration.importing.export import write_table
    from calibration.trace import read_trace
    from kdsim.errors import TraceError

    read = read_trace(trace)
    if Path(output).exists() and Path(output).samefile(trace):
        raise TraceError(f"{output}: is the trace itself; write the table to another file")
    write_table(read, _mapping(options, list(options["constants"])), output)
    click.echo(f"wrote {output} ({len(read.rows)} rows)")


@click.command(name="template")
@click.option("-o", "--output", help="File to write; by default it is printed.")
def template_command(output: str | None) -> None:
    r"""Write an empty trace with comments, to fill in by hand or by your own program.

    \b
    Example:
        kdsim calibrate template -o mine.csv
    """
    from calibration.trace.template import template
    from kdsim.errors import TraceError
    from kdsim.output_file import write_output

    if output is None:
        click.echo(template(), nl=False)
        return
    if Path(output).exists():
        raise TraceError(f"{output}: is there already; a template replaces nothing")
    write_output(output, template().encode())
    click.echo(f"wrote {output}")
