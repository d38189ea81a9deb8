"""Reading text files of any origin: size, encoding and line ends, the same for all formats."""

from __future__ import annotations

import codecs
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from kdsim.errors import TraceError

#: A profiler's file of some minutes has tens of MB, a trace a few; anything far beyond is neither.
MAX_BYTES = 256 * 2**20

#: The byte order marks of what other tools write, the longest first: that of UTF-16 begins that
#: of UTF-32. Windows PowerShell's ``>`` writes UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class TextFile:
    r"""A text file as it was read.

    Attributes
    ----------
    text : str
        Decoded, every line end ``\\n``.
    sha256 : str
        Digest of the file's bytes.
    """

    path: Path
    text: str
    sha256: str


def read_text_file(path: str | os.PathLike[str], what: str) -> TextFile:
    """Read a text file, whoever wrote it.

    Parameters
    ----------
    what : str
        What the file should be, for messages, e.g. ``"a benchncnn log"``.

    Raises
    ------
    TraceError
        If it cannot be read, is too large, or is not text in UTF-8, or in UTF-16 or UTF-32 with
        a byte order mark.
    """
    path = Path(path)
    raw = _read_bytes(path, what)
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TraceError(
            f"{path}:{line}: not {what}: the file is not {encoding.upper().removesuffix('-SIG')} "
            "text; save it as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TraceError(f"{path}:{line}: not {what}: the file holds NUL bytes; save it as UTF-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return TextFile(path, text, hashlib.sha256(raw).hexdigest())


def _read_bytes(path: Path, what: str) -> bytes:
    try:
        if path.is_dir():
            raise TraceError(f"{path}: must be {what}, got a directory")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)  # a device or a pipe has no size to ask for
    except TraceError:  # is a ValueError too
        raise
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # e.g. a NUL byte in the path
        raise TraceError(f"{str(path)!r}: is not a legal path: {error}") from error
    if len(raw) > MAX_BYTES:
        raise TraceError(f"{path}: {what} has at most {MAX_BYTES // 2**20} MiB, got more")
    return raw
