"""From other tools' timings to an ordinary device trace with its origin in the header.

What a format cannot say (cores of the device, which network, which step ranges) is a parameter
here and asked for when it is missing. A second import of the same file changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from calibration.importing.kineto import read_kineto
from calibration.importing.llama_bench import Result, read_llama_bench
from calibration.importing.mapping import TableMapping
from calibration.importing.ncnn import NcnnDevice, Run, read_ncnn
from calibration.importing.table import table_rows
from calibration.trace import COLUMNS, Trace, check_place, read_trace, write_trace
from calibration.trace.columns import MAX_CORES
from calibration.trace.meaning import check_meaning
from calibration.trace.reading import frame
from calibration.trace.text import read_text_file
from calibration.trace.trials import POINT
from kdsim._types import Record
from kdsim.errors import TraceError

INFERENCE = "forward passes of inference: a proxy of training steps, not a measurement of them"

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Imported:
    """Measurements of another tool in a trace's words.

    Attributes
    ----------
    records : list of dict
        One per row, by column.
    lines : list of int
        Where each stands in its file.
    origin : dict
        Format, file name, SHA-256, options, and notes on what the rows are not.
    """

    records: list[Record]
    lines: list[int]
    origin: Record
    path: Path


# --- one function per format ----------------------------------------------------------------------


def from_table(path: PathLike, mapping: TableMapping) -> Imported:
    """Import any CSV table by a mapping; see ``calibration.importing.table``."""
    source = read_text_file(path, "a table of timings")
    rows = table_rows(source, mapping)
    options = mapping.model_dump(exclude_defaults=True)
    return Imported(
        rows.records, rows.lines, _origin("csv", source.path, source.sha256, options),
        source.path,
    )  # fmt: skip


def from_kineto(
    path: PathLike, *, device: str | None, total_cores: int | None,
    cores: int | None, forward: str | None = None, backward: str | None = None,
) -> Imported:  # fmt: skip
    """Import the training steps of a PyTorch profiler's file, one batch each.

    The steps of one run count as trials: their spread is that within a run alone.
    """
    device, total = _asked(path, device, total_cores)
    if cores is None:
        raise TraceError(
            f"{path}: on how many cores did the profiled run compute? (--cores N: its threads, "
            "pinned to as many cores; the file does not say)"
        )
    _fits(path, cores, total, "--cores")
    run = read_kineto(path, forward=forward, backward=backward)
    base = _compute(device, total, cores)
    records = [
        base | {"repeat": i, "phase": phase, "seconds": seconds, "t_start": start}
        for i, step in enumerate(run.steps)
        for phase, seconds, start in (
            ("forward", step.forward_s, step.start_s),
            ("backward", step.backward_s, step.start_s + step.forward_s),
        )
    ]
    options = {"cores": cores, "forward": forward, "backward": backward}
    origin = _origin("kineto", Path(path), run.sha256, options)
    notes = [f"steps by {run.by}", "steps of one run count as trials"]
    return Imported(records, [1] * len(records), origin | {"notes": notes}, Path(path))


def from_ncnn(
    path: PathLike, *, device: str | None, total_cores: int | None,
    network: str | None, board: str | None = None, powersave: int | None = None,
    variant: str | None = None,
) -> Imported:  # fmt: skip
    """Import one network's inference times by thread count from a benchncnn log."""
    log = read_ncnn(path)
    found = _board(path, log.devices, log.faults, board)
    device, total = _asked(path, device or found.name or None, total_cores)
    runs = _chosen(path, found.cpu_runs, "powersave", powersave, "--powersave")
    runs = _chosen(path, runs, "variant", variant, "--variant")
    names = sorted({timing.network for run in runs for timing in run.timings})
    if network not in names:
        raise TraceError(
            f"{path}: which network? --network one of {', '.join(names)}"
            + (f" (got {network!r})" if network else "")
        )
    usable = [r for r in runs if r.threads <= total and network in r.times()]
    records, lines = [], []
    for run in sorted(usable, key=lambda r: r.threads):
        timing = run.times()[network]
        seconds = timing.avg_ms * 1e-3
        records.append(_compute(device, total, run.threads) | {"repeat": 0, "seconds": seconds})
        lines.append(timing.line)
    if not records:
        raise TraceError(f"{path}: {network}: no run on the CPU with at most {total} threads")
    notes = [f"mean over each run's loops of {network}; {INFERENCE}"]
    notes += _left_out(runs, usable, total)
    options = {
        "network": network, "board": found.name or None, "powersave": runs[0].powersave,
        "variant": runs[0].variant or None,
    }  # fmt: skip
    origin = _origin("ncnn", Path(path), log.sha256, options)
    return Imported(records, lines, origin | {"notes": notes}, Path(path))


def from_llama_bench(
    path: PathLike, *, device: str | None, total_cores: int | None,
    test: str | None, model: str | None = None,
) -> Imported:  # fmt: skip
    """Import one test's times by thread count from a llama-bench table."""
    device, total = _asked(path, device, total_cores)
    table = read_llama_bench(path)
    results = _named(path, table.results, "model", model)
    results = _named(path, results, "test", test)
    usable = [r for r in results if r.threads <= total]
    records, lines = [], []
    for result in sorted(usable, key=lambda r: r.threads):
        base = _compute(device, total, result.threads)
        for repeat, seconds in enumerate(result.seconds):
            records.append(base | {"repeat": repeat, "seconds": seconds})
            lines.append(result.line)
    if not records:
        raise TraceError(f"{path}: no result with at most {total} threads")
    notes = [f"a batch is one repetition of {results[0].test} by {results[0].model}; {INFERENCE}"]
    notes += _left_out(results, usable, total)
    options = {"test": results[0].test, "model": results[0].model}
    origin = _origin("llama-bench", Path(path), table.sha256, options)
    return Imported(records, lines, origin | {"notes": notes}, Path(path))


def _left_out(
    runs: Sequence[Run] | Sequence[Result], usable: Sequence[Run] | Sequence[Result], total: int
) -> list[str]:
    beyond = sorted({r.threads for r in runs} - {r.threads for r in usable})
    text = f"left out: {beyond} threads on {total} cores (threads are not cores)"
    return [text] if beyond else []


def _origin(form: str, path: Path, sha256: str, options: Record) -> Record:
    kept = {key: value for key, value in options.items() if value is not None}
    return {"format": form, "file": path.name, "sha256": sha256, "options": kept}


def _compute(device: str, total: int, own: int) -> Record:
    return {
        "device": device, "task": "compute", "total_cores": total, "comm_cores": total - own,
        "work": 1.0, "unit": "batch",
    }  # fmt: skip


def _asked(path: PathLike, device: str | None, total_cores: int | None) -> tuple[str, int]:
    missing = []
    if device is None:
        missing.append(f"{path}: which device? (--device NAME)")
    if total_cores is None:
        missing.append(f"{path}: how many cores has the device? (--total-cores N)")
    if device is None or total_cores is None:
        raise TraceError("\n".join(missing))
    _fits(path, total_cores, MAX_CORES, "--total-cores")
    try:
        return str(COLUMNS["device"].convert(device)), total_cores
    except ValueError as error:
        raise TraceError(f"{path}: --device: {error} (got {device[:40]!r})") from error


def _fits(path: PathLike, cores: int, most: int, option: str) -> None:
    if not 1 <= cores <= most:
        raise TraceError(f"{path}: {option} must lie in 1..{most} (got {cores})")


def _board(
    path: PathLike, devices: Sequence[NcnnDevice], faults: Sequence[str], board: str | None
) -> NcnnDevice:
    found = [d for d in devices if d.cpu_runs and (board or "").lower() in d.name.lower()]
    exact = [d for d in found if d.name == board]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0]
    damaged = [fault for fault in faults if board and board.lower() in fault.lower()]
    if damaged and not found:
        raise TraceError("\n".join(damaged[:10]))
    if not found:
        named = f" named {board!r}" if board else ""
        raise TraceError(f"{path}: no device{named} with runs on the CPU")
    shown = "; ".join(repr(d.name[:60]) for d in found[:12]) + ("; ..." if len(found) > 12 else "")
    raise TraceError(f"{path}: which of {len(found)} devices? (--board PART-OF-ITS-NAME) {shown}")


def _chosen(path: PathLike, runs: Sequence[Run], name: str, wanted: Any, option: str) -> list[Run]:
    there = sorted({getattr(run, name) for run in runs})
    if wanted is None and len(there) > 1:
        meaning = " (0 all cores, 1 the little ones, 2 the big ones)" if name == "powersave" else ""
        raise TraceError(f"{path}: which {name}? {option} one of {there}{meaning}")
    kept = [run for run in runs if wanted is None or getattr(run, name) == wanted]
    if not kept:
        raise TraceError(f"{path}: no run with {name} {wanted!r}; the file has {there}")
    return kept


def _named(
    path: PathLike, results: Sequence[Result], name: str, wanted: str | None
) -> list[Result]:
    there = sorted({getattr(result, name) for result in results})
    if wanted is None and len(there) > 1:
        raise TraceError(f"{path}: which {name}? --{name} one of {', '.join(map(repr, there))}")
    kept = [r for r in results if wanted is None or getattr(r, name) == wanted]
    if not kept:
        shown = ", ".join(map(repr, there))
        raise TraceError(f"{path}: no {name} {wanted!r}; the file has {shown}")
    return kept


# --- the trace ------------------------------------------------------------------------------------


def write_import(imported: Imported, output: PathLike, *, add: bool) -> str:
    """Write an import as a trace, or add it to one.

    Parameters
    ----------
    add : bool
        Add to the trace that is there; trials of points that it has already are numbered on.

    Returns
    -------
    {"written", "added", "unchanged"}
        ``unchanged`` where the trace holds this file by these options already.

    Raises
    ------
    TraceError
        If the rows contradict themselves or the trace that is there, the trace is there and
        neither holds this file nor is to be added to, or it cannot be written.
    """
    output = Path(output)
    rows = frame(imported.records)
    check_meaning(rows, imported.lines, {}, str(imported.path))
    check_place(output)
    header: Record = {"origin": [imported.origin]}
    outcome = "written"
    if output.exists():
        if output.samefile(imported.path):
            raise TraceError(f"{output}: is the imported file itself; write to another one")
        there = read_trace(output)
        origins = [o for o in there.header.get("origin", []) if isinstance(o, dict)]
        if _holds(origins, imported.origin, output):
            return "unchanged"
        if not add:
            raise TraceError(
                f"{output}: exists and holds other measurements; add to it with --add, or write "
                "to another file"
            )
        rows = _joined(there, rows, output)
        header = there.header | {"origin": [*origins, imported.origin]}
        outcome = "added"
    first = len(header) + 3
    check_meaning(rows, list(range(first, first + len(rows))), header, str(output))
    write_trace(output, _needed(rows), header)
    return outcome


def _holds(origins: list[Record], new: Record, output: Path) -> bool:
    for origin in origins:
        if origin.get("sha256") != new["sha256"]:
            continue
        same = {key: origin.get(key) == new[key] for key in ("format", "options")}
        if all(same.values()):
            return True
        if new["format"] in ("csv", "kineto"):
            raise TraceError(
                f"{output}: holds {new['file']} already, by other options ({origin.get('options')}"
                f"; now {new['options']}); write to another file"
            )
    return False


def _joined(there: Trace, rows: pd.DataFrame, output: Path) -> pd.DataFrame:
    for name, have in (("device", there.device), ("total_cores", there.total_cores)):
        if (got := rows[name].iloc[0]) != have:
            raise TraceError(f"{output}: {name}: the trace describes {have} (got {got})")
    points = set(map(tuple, there.rows[POINT].to_numpy().tolist()))
    shared = [tuple(point) in points for point in rows[POINT].to_numpy().tolist()]
    if any(shared):
        rows = rows.assign(trial=rows["trial"] + int(there.rows["trial"].max()) + 1)
    return pd.concat([there.rows, rows], ignore_index=True)


def _needed(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out columns that say nothing: optional ones that hold their default everywhere."""
    said = []
    for name, column in COLUMNS.items():
        if name == "trial":
            keep = not (rows["trial"] == rows["repeat"]).all()
        elif column.required:
            keep = True
        elif column.default != column.default:
            keep = bool(rows[name].notna().any())
        else:
            keep = bool((rows[name] != column.default).any())
        if keep:
            said.append(name)
    return rows[said]
