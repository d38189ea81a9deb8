"""Writing an output file whole or not at all: figures, pages, tables and traces end here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdsim.errors import KdsimError, PlotError


def write_output(
    path: str | Path, content: bytes, *, failure: type[KdsimError] = PlotError
) -> Path:
    """Write `content` to `path`; see `whole_file`.

    Returns
    -------
    Path
        The path written.
    """
    with whole_file(path, failure=failure) as scratch:
        scratch.write_bytes(content)
    return Path(path)


@contextmanager
def whole_file(path: str | Path, *, failure: type[KdsimError] = PlotError) -> Iterator[Path]:
    """Give the place to write to: a file beside `path` that replaces it once all is on disk.

    Parameters
    ----------
    path : str or Path
        Where to; its folder must exist.
    failure : type of KdsimError
        What is raised.

    Raises
    ------
    KdsimError
        Of type `failure`, if the place cannot be written.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise failure(f"{target}: is a folder; name the file to write in it")
        if not target.parent.is_dir():
            raise failure(f"{target}: cannot be written: there is no folder {target.parent}")
        if target.exists() and not target.is_file():
            yield target  # a pipe or /dev/stdout cannot be replaced
        else:
            with _replacing(target) as scratch:
                yield scratch
    except OSError as error:
        raise failure(f"{target}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    target = target.resolve()  # write through a symbolic link, not over it
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        scratch.chmod(mode)
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
