"""Results of the real workloads: manifest, files, the ledger of finished runs.

A result is a list of plain dictionaries (rows), one per run, so that it goes to JSON unchanged.
Timings never enter a result file: the same seed gives the same JSON on the same machine. Timings
live in cost profiles (``profile``). What is computed from rows is in ``tables``.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from calibration.machine.host import hardware, package_versions
from calibration.workloads.data.datasets import Dataset
from calibration.workloads.training.checkpoints import differences
from kdsim._types import Record, RecordView
from kdsim.errors import WorkloadError
from kdsim.output_file import write_output

_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch")


class ResultError(WorkloadError):
    """A result file cannot be written or read back."""

    exit_code = 1


# --- manifest ------------------------------------------------------------------------------------


def manifest(
    config: RecordView,
    *,
    seeds: Sequence[int],
    dataset: Dataset | None = None,
    notes: Sequence[str] = (),
) -> Record:
    """Describe everything a result depends on.

    Parameters
    ----------
    config : mapping
        The workload's configuration, JSON-ready.
    seeds : sequence of int
        The seeds of the repetitions.
    dataset : Dataset, optional
        Its name, sizes and content digest are recorded.
    notes : sequence of str
        Deviations from a published protocol, in plain words.

    Returns
    -------
    dict
        Without a date: it would be the one entry that differs between equal runs.
    """
    data = None
    if dataset is not None:
        data = {
            "name": dataset.name,
            "train_images": len(dataset.train_labels),
            "test_images": len(dataset.test_labels),
            "sha256": dataset.digest,
        }
    return {
        "config": dict(config),
        "data": data,
        "seeds": list(seeds),
        "notes": list(notes),
        "versions": versions(),
        "host": host(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    names = ("kdsim", *_PACKAGES)
    found = package_versions(names)
    # kdsim may run from a checkout that is not installed.
    return {
        "python": platform.python_version(),
        **{name: found.get(name, "not installed") for name in names},
    }


def host() -> Record:
    """Return what of this machine may change numbers or timings."""
    threads = torch.get_num_threads()
    return {**hardware(), "system": platform.system(), "torch_threads": threads}


# --- files ---------------------------------------------------------------------------------------


def write_json(path: Path, content: object) -> None:
    """Write JSON in one atomic step: UTF-8, two spaces, keys as given, short lists on one line.

    Raises
    ------
    ResultError
        If the file cannot be written or the content holds NaN or an infinity.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ResultError(f"{path}: the result holds a value JSON cannot: {error}") from error
    # A list of plain values on one line. Raw line ends occur between JSON tokens only, so that
    # nothing inside a string can match.
    text = re.sub(r"\[\n[^][{}]*\]", lambda m: re.sub(r"\n\s*", " ", m[0]), text)
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file in one atomic step.

    Raises
    ------
    ResultError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultError(f"{path}: cannot be written: {error}") from error
    write_output(path, text.encode(), failure=ResultError)


def claim_folder(folder: Path, identity: RecordView) -> None:
    """Claim an empty folder for a study, or make sure that it is this study's.

    Parameters
    ----------
    folder : path
        Made when absent; ``study.json`` in it says whose it is.
    identity : mapping
        All that the study's runs depend on, JSON-ready.

    Raises
    ------
    WorkloadError
        If the folder holds another study (the first difference is named) or cannot be made.
    ResultError
        If the folder cannot be written to.
    """
    path = folder / "study.json"
    known = json.loads(json.dumps(identity))  # tuples become lists, as they are read back
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.exists() else None
        found = json.loads(text) if text is not None else known
    except OSError as error:
        raise WorkloadError(f"{folder} cannot hold a study: {error}; name another") from error
    except ValueError as error:
        raise WorkloadError(f"{path} cannot be read: {error}; name another folder") from error
    if not isinstance(found, dict):
        raise WorkloadError(f"{path} must hold a JSON object; name another folder")
    for key, now, was in differences(known, found):
        raise WorkloadError(
            f"{folder} holds another study: {key} was {was!r}, now {now!r}; name another folder or "
            "ask for the same study"
        )
    if text is None:
        write_json(path, known)


class RunLedger:
    """Finished runs of a study, one JSON line each: what makes a study resumable.

    A line is appended when its run is complete. A last line cut short by a crash, even if only its
    line end is missing, is removed and its run done again.

    Parameters
    ----------
    path : path
        The ``.jsonl`` file; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: dict[str, Record] = {}
        if not path.exists():
            return
        try:
            # Split at line feeds alone: JSON leaves other separators as they are within a string.
            *lines, cut = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ResultError(f"{path} cannot be read: {error}") from error
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                run, result = entry["run"], entry["result"]
                if not (isinstance(run, str) and isinstance(result, dict)):
                    raise TypeError("run is no text or result no object")
                self.runs[run] = result
            except (ValueError, KeyError, TypeError) as error:
                raise ResultError(
                    f"{path}:{number}: not a finished run (a JSON object with run and result): "
                    f"{error}; remove the line to do its run again"
                ) from error
        if cut:
            write_text(path, "".join(f"{line}\n" for line in lines))

    def __contains__(self, run: str) -> bool:
        return run in self.runs

    def add(self, run: str, result: RecordView) -> None:
        """Append one finished run and flush it to the disk.

        Raises
        ------
        ResultError
            If it cannot be written.
        """
        line = json.dumps({"run": run, "result": dict(result)}, ensure_ascii=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ResultError(f"{self.path} cannot be written: {error}") from error
        # Through JSON: a run is the same whether it was just made or read back.
        self.runs[run] = json.loads(line)["result"]
