"""What several commands of the harness share: a progress bar, and the check of their outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: (done, all, what is being done)
Progress = Callable[[int, int, str], None]


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a bar with the time left on stderr (nothing when stderr is no terminal)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{title}: {what}")

        yield update


def check_places(trace: str, figure: str | None, *others: str | None) -> None:
    """Refuse, before minutes of work, places that cannot be written or are the trace itself."""
    from kdsim.cli.options import check_outputs
    from kdsim.errors import TraceError

    paths = [None if name is None else Path(name) for name in (figure, *others)]
    for path in paths:
        if path is not None and path.exists() and path.samefile(trace):
            raise TraceError(f"{path}: is the trace itself; write the result to another file")
    check_outputs(*paths)
