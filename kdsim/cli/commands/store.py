"""The commands that read a store: status, export, rerun."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kdsim._types import Record
from kdsim.cli.options import (
    OUTPUT_FILE,
    allow_policies_option,
    check_allowed,
    json_option,
    policies_option,
    print_json,
)
from kdsim.cli.progress import duration
from kdsim.errors import KdsimError, SweepError
from kdsim.sweeps.ledger.records import StudyState

store_argument = click.argument("store", type=click.Path(path_type=Path))


def point_text(point: Record) -> str:
    """Write a point for a line of text, after "at"; empty for a study without a sweep."""
    place = ", ".join(f"{name} = {value}" for name, value in point.items())
    return f" at {place}" if place else ""


def note_partial(state: StudyState) -> None:
    """Say on standard error when what is shown is not the whole study."""
    if state.is_partial:
        click.echo(f"partial: {state}", err=True)
    for note in state.notes:
        click.echo(f"note: {note}", err=True)


# --- status ---------------------------------------------------------------------------------------


@click.command()
@store_argument
@json_option
def status(store: Path, as_json: bool) -> None:
    r"""Say how far the study in STORE is: runs done, pending and failed, why, and how fast.

    A run is a point of the design and a policy. The store may be in use by a sweep.

    \b
    Examples:
      kdsim status my.sqlite
      kdsim status my.sqlite --json
    """
    from kdsim.sweeps.ledger.store import Store

    with Store.open(store) as ledger:
        state = ledger.state()
        name = ledger.scenario().name if state.total else None
    if as_json:
        print_json({"store": str(store), "scenario": name, **state.to_dict()})
        return
    for line in _status_lines(str(store), name, state):
        click.echo(line)


def _status_lines(store: str, name: str | None, state: StudyState) -> list[str]:
    if name is None:
        return [f"{store}: is empty; no sweep was begun in it"]
    lines = [f"{store}: {name}, {state}"]
    aside = ", failed runs left out" if state.failed else ""
    lines.append(f"replications: {state.replications_done:,} of {state.replications:,}{aside}")
    if state.rate is not None:
        speed = f"rate: {float(f'{state.rate:.3g}'):,g} replications per second"
        if state.pending and state.seconds_left is not None:
            speed += f", {duration(state.seconds_left)} left at that rate"
        lines.append(speed)
    if state.writing:
        lines.append("a sweep is writing to it now")
    elif state.pending:
        lines.append("no sweep is running; the command that began it continues it")
    if state.reasons:
        lines.append("failed (`kdsim sweep` with --retry runs them again):")
        lines += [f"  {reason}" for reason in state.reasons]
    return lines + [f"note: {note}" for note in state.notes]


# --- export and rerun ---------------------------------------------------------------------------


@click.command()
@store_argument
@click.option(
    "-o", "--output", type=OUTPUT_FILE,
    help="Where to: .csv, .parquet, .tex or .md [CSV on standard output].",
)  # fmt: skip
@click.option("--expand", is_flag=True, help="One row per replication.")
@click.option("--against", metavar="NAME", help="Paired differences to this policy instead.")
@json_option
def export(
    store: Path, output: Path | None, expand: bool, against: str | None, as_json: bool
) -> None:
    r"""Export the table of STORE: one row per point and policy.

    A run without a result is a row too: the column status says done, failed or pending. The same
    runs give the same bytes, however the sweep went.

    \b
    Examples:
      kdsim export my.sqlite -o my.csv
      kdsim export my.sqlite --expand -o makespans.parquet
      kdsim export my.sqlite -o table.tex
      kdsim export my.sqlite --against greedy
    """
    from kdsim.sweeps.ledger.export import write_rows
    from kdsim.sweeps.ledger.store import Store

    if against and expand:
        raise click.UsageError("--against and --expand exclude each other")
    with Store.open(store) as ledger:
        state = ledger.state()
        differences = ledger.comparison().differences(against) if against else []
        if as_json:
            rows = iter(differences) if against else ledger.rows(expand=expand)
            print_json({"scenario": ledger.scenario().name, **_counts(state), "rows": rows})
        elif against:
            write_rows(differences, output)
        elif output is None:
            ledger.write_csv(sys.stdout, expand=expand)
        else:
            ledger.export(output, expand=expand)
    note_partial(state)
    if output is not None and not as_json:
        click.echo(f"table written to {output}", err=True)


def _counts(state: StudyState) -> Record:
    return {"done": state.done, "failed": state.failed, "pending": state.pending}


@click.command()
@store_argument
@click.argument("run_id")
@policies_option("Policy of your own that may be run", default="none")
@allow_policies_option
@json_option
def rerun(
    store: Path, run_id: str, policies: tuple[str, ...], allow_policies: bool, as_json: bool
) -> None:
    r"""Repeat the run RUN_ID of STORE and compare it bit for bit with what is stored.

    RUN_ID is in the last column of the exported table; its first characters are enough.

    \b
    Example:
      kdsim rerun my.sqlite 3fa91c
    """
    from kdsim.sweeps.ledger.store import Store

    with Store.open(store) as ledger:
        check_allowed([ledger.policy_of(run_id)], policies, str(store), allow=allow_policies)
        result = ledger.rerun(run_id, allow_policies=True)
    n = result.makespans.size
    if as_json:
        print_json(
            {
                "run_id": result.run_id,
                "point": result.point,
                "policy": result.policy,
                "n": n,
                "identical": result.identical,
                "makespans": result.makespans.tolist(),
            }
        )
    else:
        click.echo(f"run {result.run_id}: {result.policy}{point_text(result.point)}")
        click.echo(f"{n} makespans, mean {result.makespans.mean():.9g} s")
        if result.identical:
            click.echo("identical to the stored ones, bit for bit")
    if not result.identical:
        if not result.stored.size:
            raise KdsimError(f"run {result.run_id} has no stored result to compare with")
        if result.stored.size != n:
            raise SweepError(f"{result.stored.size} makespans are stored, {n} were asked for")
        different = int((result.stored != result.makespans).sum())
        raise SweepError(f"{different} of {n} makespans differ from the stored ones")
