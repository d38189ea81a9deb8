"""Training steps from a file of the PyTorch profiler (Kineto, Chrome trace format).

``torch.profiler`` writes every operator call as an event with a start and a duration in
microseconds, and the ranges that a program names with ``record_function``. A step's forward and
backward pass are two such ranges; without them, ``ProfilerStep#n`` (written by ``p.step()``)
bounds a step and the events of the autograd engine are its backward pass. The file says neither
how many threads computed nor on which cores: who imports it must.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from calibration.trace.text import read_text_file
from kdsim._types import Record, RecordView
from kdsim.errors import TraceError

_STEP = re.compile(r"ProfilerStep#(\d+)")
_ENGINE = "autograd::engine::evaluate_function"
#: Categories that name work of a GPU: a step's time on the CPU is then not its computation.
_GPU_CATEGORIES = frozenset({"kernel", "gpu_memcpy", "gpu_user_annotation", "cuda_runtime"})


@dataclass(frozen=True, slots=True)
class Step:
    """One training step.

    Attributes
    ----------
    start_s : float
        Its begin, in seconds after the first step's.
    forward_s, backward_s : float
        Durations in seconds.
    """

    start_s: float
    forward_s: float
    backward_s: float


@dataclass(frozen=True, slots=True)
class KinetoRun:
    """The steps of a profiled run, in time order, and how they were found.

    Attributes
    ----------
    by : str
        ``"ranges 'forward' and 'backward'"``, or that the autograd engine's events bound them.
    """

    steps: tuple[Step, ...]
    by: str
    sha256: str


@dataclass(frozen=True, slots=True)
class _Range:
    start: float
    end: float


def read_kineto(
    path: str | os.PathLike[str], *, forward: str | None = None, backward: str | None = None
) -> KinetoRun:
    """Read the training steps of a profiler's file.

    Parameters
    ----------
    path : path-like
        What ``prof.export_chrome_trace(path)`` wrote, of a run on the CPU.
    forward, backward : str, optional
        Names of the ``record_function`` ranges around the two passes. By default the ranges
        ``forward`` and ``backward`` where the file has them, else ``ProfilerStep#n`` with the
        autograd engine's events as its backward pass.

    Raises
    ------
    TraceError
        If the file is no profiler's trace, has no step or work of a GPU in it, or its ranges do
        not pair up.
    """
    source = read_text_file(path, "a PyTorch profiler trace")
    where = str(source.path)
    events = _events(source.text, where)
    gpu = sorted({str(e.get("cat")) for e in events} & _GPU_CATEGORIES)
    if gpu:
        raise TraceError(
            f"{where}: the run used a GPU (events of {', '.join(gpu)}): times on the CPU say "
            "nothing about its computation; profile with activities=[ProfilerActivity.CPU] and "
            "the model on the CPU"
        )
    ranges = [e for e in events if e.get("ph") == "X" and e.get("cat") == "user_annotation"]
    names = Counter(str(e["name"]) for e in ranges if not _STEP.fullmatch(str(e["name"])))
    if (forward is None) != (backward is None):
        raise TraceError(f"{where}: give both names or none: --forward and --backward")
    if forward is None and names["forward"] and names["backward"]:
        forward, backward = "forward", "backward"
    if forward is None or backward is None:
        steps, by = _by_engine(events, ranges, names, where)
    else:
        steps, by = _by_ranges(ranges, forward, backward, names, where)
    first = steps[0].start
    return KinetoRun(
        tuple(
            Step((s.start - first) * 1e-6, s.forward * 1e-6, s.backward * 1e-6) for s in steps
        ),
        by, source.sha256,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Found:
    """A step in the file's microseconds."""

    start: float
    forward: float
    backward: float


def _events(text: str, where: str) -> list[Record]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise TraceError(
            f"{where}:{error.lineno}: not a PyTorch profiler trace: not JSON ({error.msg}); is the "
            "file cut off?"
        ) from error
    except (ValueError, RecursionError) as error:
        raise TraceError(
            f"{where}: not a PyTorch profiler trace: its JSON is nested too deeply or has numbers "
            "beyond all measure"
        ) from error
    events = data.get("traceEvents") if isinstance(data, dict) else None
    if not isinstance(events, list):
        raise TraceError(
            f"{where}: not a PyTorch profiler trace: no list 'traceEvents' (write the file with "
            "prof.export_chrome_trace)"
        )
    found = []
    for index, event in enumerate(events):
        if not isinstance(event, dict):
            raise TraceError(f"{where}: traceEvents[{index}]: must be an object")
        if event.get("ph") == "X":
            _check_times(event, index, where)
        found.append(event)
    return found


def _check_times(event: RecordView, index: int, where: str) -> None:
    for key in ("ts", "dur"):
        value = event.get(key)
        number = (
            math.nan if isinstance(value, bool) or not isinstance(value, int | float) else value
        )
        if not 0 <= number < 1e18:
            raise TraceError(
                f"{where}: traceEvents[{index}]: {key}: must be a number of microseconds (got "
                f"{str(value)[:40]!r})"
            )
    if not isinstance(event.get("name"), str):
        raise TraceError(f"{where}: traceEvents[{index}]: name: must be text")


def _spans(events: Iterable[RecordView]) -> list[_Range]:
    spans = [_Range(float(e["ts"]), float(e["ts"]) + float(e["dur"])) for e in events]
    return sorted(spans, key=lambda r: (r.start, r.end))


def _by_ranges(
    ranges: Sequence[RecordView], forward: str, backward: str, names: Counter[str],
    where: str,
) -> tuple[list[_Found], str]:  # fmt: skip
    mine = {}
    for side, name in (("forward", forward), ("backward", backward)):
        events = [e for e in ranges if e["name"] == name]
        if not events:
            raise TraceError(
                f"{where}: no range {name!r} for the {side} pass; the file has {_listed(names)}"
            )
        threads = {(e.get("pid"), e.get("tid")) for e in events}
        if len(threads) > 1:
            raise TraceError(
                f"{where}: the range {name!r} runs in {len(threads)} threads; one training loop "
                "per file is read"
            )
        mine[side] = _spans(events)
    if len(mine["forward"]) != len(mine["backward"]):
        raise TraceError(
            f"{where}: {len(mine['forward'])} ranges {forward!r} and {len(mine['backward'])} "
            f"{backward!r}: each step must have one of both"
        )
    found: list[_Found] = []
    last = -math.inf
    for number, (ahead, back) in enumerate(zip(mine["forward"], mine["backward"], strict=True)):
        if not (last <= ahead.start and ahead.end <= back.start and back.end > back.start):
            raise TraceError(
                f"{where}: step {number}: a {backward!r} range must follow each {forward!r} range, "
                "without overlap"
            )
        _positive(ahead, forward, number, where)
        last = back.end
        found.append(_Found(ahead.start, ahead.end - ahead.start, back.end - back.start))
    return found, f"ranges {forward!r} and {backward!r}"


def _by_engine(
    events: Sequence[RecordView], ranges: Sequence[RecordView],
    names: Counter[str], where: str,
) -> tuple[list[_Found], str]:  # fmt: skip
    steps = _spans(e for e in ranges if _STEP.fullmatch(str(e["name"])))
    engine = _spans(e for e in events if e.get("ph") == "X" and str(e["name"]).startswith(_ENGINE))
    if not steps:
        raise TraceError(
            f"{where}: no training step: name the passes with torch.profiler.record_function"
            "('forward') and ('backward'), or call prof.step() after each step; the file has "
            f"{_listed(names)}"
        )
    found = []
    for number, step in enumerate(steps):
        back = [r for r in engine if step.start <= r.start and r.end <= step.end]
        if not back:
            raise TraceError(
                f"{where}: step {number}: no backward pass in it (no event of the autograd engine)"
            )
        start, end = back[0].start, max(r.end for r in back)
        _positive(_Range(step.start, start), "ProfilerStep", number, where)
        _positive(_Range(start, end), "the autograd engine", number, where)
        found.append(_Found(step.start, start - step.start, end - start))
    return found, "ProfilerStep and the autograd engine; forward includes loading the batch"


def _positive(span: _Range, name: str, number: int, where: str) -> None:
    if not span.end > span.start:
        raise TraceError(f"{where}: step {number}: {name} takes no time (got {span.start} us)")


def _listed(names: Counter[str]) -> str:
    if not names:
        return "no named range"
    shown = ", ".join(f"{name[:40]!r} ({count})" for name, count in names.most_common(8))
    return f"the ranges {shown}" + (", ..." if len(names) > 8 else "")
