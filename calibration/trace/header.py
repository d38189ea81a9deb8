"""The comment header of a trace: what our collector and our importers say about the file."""

from __future__ import annotations

import json

from calibration.trace.columns import FORMAT_VERSION
from kdsim._types import Record

#: What others rely on in the header, where it is there; any further key is free.
_VALUES: dict[str, tuple[type, str]] = {
    "host": (dict, "a JSON object"),
    "settings": (dict, "a JSON object"),
    "cores": (list, "a JSON list"),
    "cores_given_by": (str, "JSON text"),
    "origin": (list, "a JSON list"),
}


def split_header(lines: list[str], where: str, faults: list[str]) -> tuple[Record, int]:
    """Read the comment lines above a trace's table.

    A file that begins with ``# kdsim-trace: 1`` has a header of ``# key: <JSON value>`` lines; in
    it, lines that begin with ``##`` are comments. Any other comment lines at the top of a file
    are comments: a trace needs no header.

    Parameters
    ----------
    where : str
        How messages name the file.
    faults : list of str
        What is wrong is added here.

    Returns
    -------
    (dict, int)
        The header without its version, and the number of lines above the table.
    """
    count = next(
        (i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines)
    )
    if not any(line.lstrip("# ").startswith("kdsim-trace") for line in lines[:count]):
        return {}, count
    header: Record = {}
    for number, line in enumerate(lines[:count], start=1):
        if line.startswith("##") or not line.strip("# \t"):
            continue
        key, colon, value = line.lstrip("# ").partition(":")
        key = key.strip()
        if not colon or not key:
            faults.append(
                f"{where}:{number}: header: must be '# key: <JSON value>' (got {line[:60]!r})"
            )
            continue
        try:
            header[key] = json.loads(value)
            json.dumps(header[key], ensure_ascii=False).encode()  # half a surrogate pair fails
        except (ValueError, RecursionError) as error:
            beyond = isinstance(error, RecursionError) or "digits" in str(error)
            reason = " (nested too deeply, or a number too long)" if beyond else ""
            faults.append(
                f"{where}:{number}: header: {key[:40]}: must be a JSON value{reason} "
                f"(got {value.strip()[:60]!r})"
            )
            header.pop(key, None)
    version = header.pop("kdsim-trace", None)
    if version != FORMAT_VERSION and not faults:
        faults.append(
            f"{where}:1: header: kdsim-trace: this kdsim reads version {FORMAT_VERSION} (got "
            f"version {version!r})"
        )
    faults.extend(
        f"{where}: header: {key}: must be {_VALUES[key][1]} (got {json.dumps(value)[:60]})"
        for key, value in header.items()
        if key in _VALUES and not isinstance(value, _VALUES[key][0])
    )
    return header, count
