"""Output files: which kinds there are by their suffix, and writing one whole or not at all."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from kdsim.errors import KdsimError, PlotError

Kind = Literal["figure", "page", "table"]

#: The suffixes of each kind of output, in any case: ``F.PNG`` is a figure too.
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "figure": (".png", ".svg", ".pdf"),
    "page": (".html",),
    "table": (".csv", ".parquet", ".tex", ".md"),
}


def suffix_of(path: str | Path, *kinds: Kind, failure: type[KdsimError] = PlotError) -> str:
    """Return the suffix of an output file in lower case, if it is one of these kinds.

    Parameters
    ----------
    *kinds : {"figure", "page", "table"}
        What can be written.

    Raises
    ------
    KdsimError
        Of type `failure`, if the suffix is another one.

    Examples
    --------
    >>> suffix_of("FIG.PNG", "figure")
    '.png'
    """
    suffix = Path(path).suffix.lower()
    if not any(suffix in SUFFIXES[kind] for kind in kinds):
        known = "; ".join(f"{kind}s are written as {', '.join(SUFFIXES[kind])}" for kind in kinds)
        raise failure(f"{path}: {known} (got {suffix or 'a name without suffix'})")
    return suffix


def check_output(path: str | Path, *kinds: Kind, failure: type[KdsimError] = PlotError) -> None:
    """Refuse a place that cannot be written before any work is done for it.

    Parameters
    ----------
    *kinds : {"figure", "page", "table"}
        What can be written; any name is right if none is given.

    Raises
    ------
    KdsimError
        Of type `failure`, if the suffix is another one, the folder does not exist, or a package
        that the format needs is missing.
    """
    suffix = suffix_of(path, *kinds, failure=failure) if kinds else ""
    if not Path(path).parent.is_dir():
        raise failure(f"{path}: cannot be written: there is no folder {Path(path).parent}")
    if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise failure(
            f"{path}: a .parquet table needs pyarrow: pip install 'kdsim[parquet]', or write a .csv"
        )


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
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut could leave an empty file under the name
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
