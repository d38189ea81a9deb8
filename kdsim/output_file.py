"""Writing an output file whole or not at all: figures, pages and traces end here."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from kdsim.errors import PlotError


def write_output(path: str | Path, content: bytes) -> Path:
    """Write `content` to `path`, replacing what was there only once all of it is on disk.

    Parameters
    ----------
    path : str or Path
        Where to; its folder must exist.
    content : bytes

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    PlotError
        If the place cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise PlotError(f"{target}: is a folder; name the file to write in it")
    if not target.parent.is_dir():
        raise PlotError(f"{target}: cannot be written: there is no folder {target.parent}")
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(content)  # a pipe or /dev/stdout cannot be replaced
        else:
            _replace(target, content)
    except OSError as error:
        raise PlotError(f"{target}: cannot be written: {error.strerror or error}") from None
    return target


def _replace(target: Path, content: bytes) -> None:
    target = target.resolve()  # write through a symbolic link, not over it
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(mode)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
