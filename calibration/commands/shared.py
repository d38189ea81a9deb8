"""What several commands of the harness share: options, lists, stopped studies, output places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

_Number = TypeVar("_Number", int, float)

data_option = click.option(
    "--data", default="digits", show_default=True,
    help="digits, fashion-mnist, cifar10, cifar10-jpeg or cifar100.",
)  # fmt: skip
data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path),
    help="Folder of the data sets [default: $KDSIM_DATA, else a cache folder; absent files are "
    "fetched].",
)  # fmt: skip


def study_folder_option(workload: str) -> Callable[[Any], Any]:
    """Make -o, the folder of a study, for a workload whose folders bear its name."""
    return click.option(
        "-o", "--out", type=click.Path(file_okay=False, path_type=Path),
        help=f"Folder of the study; the same command resumes it.  [default: out/{workload}-DATA]",
    )  # fmt: skip


def words(text: str) -> list[str]:
    """Split a comma-separated option."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(option: str, text: str, kind: type[_Number]) -> tuple[_Number, ...]:
    """Split a comma-separated option of numbers.

    Raises
    ------
    WorkloadError
        Naming what is no number.
    """
    from kdsim.errors import WorkloadError

    found: list[_Number] = []
    for word in words(text):
        try:
            found.append(kind(word))
        except ValueError:
            what = "whole numbers" if kind is int else "numbers"
            raise WorkloadError(
                f"{option} takes {what} separated by commas, got {word!r} in {text!r}"
            ) from None
    return tuple(found)


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """On Ctrl-C, say that a study's folder keeps what is finished, and exit with 130."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(
            f"\nstopped; {folder} keeps the finished runs (the same command resumes)", err=True
        )
        raise click.exceptions.Exit(130) from None


def check_places(trace: str, figure: str | None, *others: str | None) -> None:
    """Refuse, before minutes of work, places that cannot be written or are the trace itself."""
    from kdsim.cli.options import check_outputs
    from kdsim.errors import TraceError

    paths = [None if name is None else Path(name) for name in (figure, *others)]
    for path in paths:
        if path is not None and path.exists() and path.samefile(trace):
            raise TraceError(f"{path}: is the trace itself; write the result to another file")
    check_outputs(*paths)
