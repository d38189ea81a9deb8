"""A run in Chrome's trace format, as Perfetto (ui.perfetto.dev) and chrome://tracing open it.

One track per core, with the tasks that it works on; what no core works on is a gap. Arrows lead
from the end of Comm_i to the start of Backward_i, and a counter shows the split of the cores. One
simulated second is one second of the trace; times are whole microseconds, so that neighbours meet
exactly. Events are produced in the order of time and written as they come: a trace may be far
larger than the memory.
"""

from __future__ import annotations

import heapq
import itertools
import json
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from kdsim._types import Record
from kdsim._version import __version__
from kdsim.output_file import whole_file

if TYPE_CHECKING:
    from kdsim.results.recording import Interval
    from kdsim.results.run import Run

_PROCESS = 1
#: Chrome's reserved colour names, by kind of slice.
_COLORS = {
    "comm": "rail_response",
    "forward": "rail_animation",
    "backward": "rail_load",
    "stall": "grey",
    "starved": "rail_idle",
}
#: At one instant: counters and slices before the arrows, which attach to slices begun.
_PHASES = "CXsf"
#: Events that are written together.
_BLOCK = 200


class Slice(NamedTuple):
    """What one core works on from `start` to `end`, microseconds.

    `kind` is ``comm``, ``forward``, ``backward``, ``starved`` for communication cores that wait for
    data from the link (fully or in part), or ``stall`` for cores that hold a task but make no
    progress during a reallocation; `cycle` counts from 1.
    """

    core: int
    start: int
    end: int
    kind: str
    cycle: int
    cores: int

    @property
    def name(self) -> str:
        """The task as the model writes it, e.g. ``Comm_3``."""
        if self.kind == "starved":
            return f"Comm_{self.cycle} waits for data"
        return f"{self.kind.capitalize()}_{self.cycle}"


def microseconds(seconds: float) -> int:
    """Round simulated seconds to the trace's clock."""
    return round(seconds * 1e6)


def slices(run: Run, cores: Iterable[int] | None = None) -> Iterator[Slice]:
    """Yield what each core works on, by start and core; communication on the cores from 0 up.

    Parameters
    ----------
    cores : iterable of int, optional
        Only these cores; all by default.

    Yields
    ------
    Slice
        On one core they do not overlap; one that nothing interrupts is not cut.
    """
    tracked = range(run.plan.c_total) if cores is None else sorted(set(cores))
    return _in_order(_finished(run, tracked))


def _finished(run: Run, tracked: Iterable[int]) -> Iterator[tuple[int, list[Slice]]]:
    """Yield slices as they end, each time with the instant before which no other can begin."""
    running: dict[int, Slice] = {}
    for piece in run.intervals:
        now = {new.core: new for new in _at_work(piece, run.plan.c_total)}
        done = []
        for core in tracked:
            old, new = running.get(core), now.get(core)
            if old and new and old.end == new.start and old[3:] == new[3:]:
                running[core] = old._replace(end=new.end)
                continue
            if old:
                done.append(old)
            running.pop(core, None)
            if new:
                running[core] = new
        if done:
            open_since = (s.start for s in running.values())
            yield min(open_since, default=microseconds(piece.end)), done
    yield microseconds(run.makespan) + 1, list(running.values())


def _in_order(finished: Iterable[tuple[int, list[Slice]]]) -> Iterator[Slice]:
    """Sort slices by start and core, holding no more of them than may still have a predecessor."""
    held: list[tuple[int, int, Slice]] = []
    for settled, done in finished:
        for s in done:
            if s.end > s.start:
                heapq.heappush(held, (s.start, s.core, s))
        while held and held[0][0] < settled:
            yield heapq.heappop(held)[2]
    while held:
        yield heapq.heappop(held)[2]


def _at_work(piece: Interval, c_total: int) -> Iterator[Slice]:
    start, end, c = microseconds(piece.start), microseconds(piece.end), piece.comm_cores
    for kind, task, cores in (
        ("starved" if piece.starved else "comm", piece.comm, range(c)),
        (piece.stage, piece.comp, range(c, c_total)),
    ):
        if task >= 0:
            shown = "stall" if piece.stalled else kind
            for core in cores:
                yield Slice(core, start, end, shown, task + 1, len(cores))


def events(run: Run) -> Iterator[Record]:
    """Yield the events of a run: names of the tracks first, all else by time."""
    parts = (map(_slice_event, slices(run)), *_flows(run), _counters(run))
    return itertools.chain(_names(run), heapq.merge(*parts, key=_place))


def _place(event: Record) -> tuple[int, int, int]:
    return event["ts"], _PHASES.index(event["ph"]), event["tid"]


def _about(run: Run) -> Record:
    return {
        "scenario": run.scenario,
        "policy": run.policy,
        "seed": run.seed,
        "replication": run.replication,
        "makespan_s": run.makespan,
        "minimal_makespan_s": run.minimal_makespan,
        "bound": run.bound_kind,
        **({"marks": list(run.marks)} if run.marks else {}),
        "kdsim": __version__,
    }


def trace_events(run: Run) -> Record:
    """Return a run as a Chrome trace; for a long run, `write` needs far less memory.

    Returns
    -------
    dict
        ``traceEvents`` (see `events`), ``displayTimeUnit`` and ``otherData`` (what was simulated).
    """
    return {"traceEvents": list(events(run)), "displayTimeUnit": "ms", "otherData": _about(run)}


def write(run: Run, path: str | Path) -> Path:
    """Write a run as a Chrome trace (JSON), event by event.

    Parameters
    ----------
    path : str or Path
        Its folder must exist.

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    PlotError
        If the place cannot be written.
    """
    with whole_file(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        _write(run, file)
    return Path(path)


def _write(run: Run, file: IO[str]) -> None:
    encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
    file.write('{"traceEvents":[')
    found, separator = events(run), ""
    while block := list(itertools.islice(found, _BLOCK)):
        file.write(separator + encode(block)[1:-1])
        separator = ","
    file.write(f'],"displayTimeUnit":"ms","otherData":{encode(_about(run))}}}\n')


# --- events ---------------------------------------------------------------------------------------


def _names(run: Run) -> Iterator[Record]:
    process = {"ph": "M", "pid": _PROCESS, "tid": 0}
    label = f"{run.scenario} · {run.policy} (seed {run.seed}, replication {run.replication})"
    yield {**process, "name": "process_name", "args": {"name": label}}
    for core in range(run.plan.c_total):
        thread = {"ph": "M", "pid": _PROCESS, "tid": core + 1}
        yield {**thread, "name": "thread_name", "args": {"name": f"core {core}"}}
        yield {**thread, "name": "thread_sort_index", "args": {"sort_index": core}}


def _slice_event(piece: Slice) -> Record:
    return {
        "name": piece.name,
        "cat": piece.kind,
        "ph": "X",
        "ts": piece.start,
        "dur": piece.end - piece.start,
        "pid": _PROCESS,
        "tid": piece.core + 1,
        "cname": _COLORS[piece.kind],
        "args": {"cycle": piece.cycle, "cores": piece.cores},
    }


def _flows(run: Run) -> tuple[Iterator[Record], Iterator[Record]]:
    """Return the tails and the heads of the arrows: from the end of Comm_i to Backward_i."""
    # Communication always has core 0, computation the last: one core stands for all of a task.
    # A whole pass ahead, because a tail is drawn only where there will be a head.
    last_core = run.plan.c_total - 1
    ends = array("q", [-1]) * (run.plan.cycles + 1)
    starts = array("q", [-1]) * (run.plan.cycles + 1)
    for piece in slices(run, (0, last_core)):
        if piece.kind in ("comm", "starved") and piece.core == 0:
            ends[piece.cycle] = piece.end
        elif piece.kind == "backward" and piece.core == last_core and starts[piece.cycle] < 0:
            starts[piece.cycle] = piece.start
    return (
        # An arrow leaves from inside a slice: at its very end there is none any more.
        _arrow_ends(ends, starts, {"ph": "s"}, 0, -1),
        _arrow_ends(starts, ends, {"ph": "f", "bp": "e"}, last_core, 0),
    )


def _arrow_ends(
    times: array[int], other: array[int], kind: Record, core: int, shift: int
) -> Iterator[Record]:
    for cycle, time in enumerate(times):
        if time >= 0 and other[cycle] >= 0:
            logits = {"name": "logits", "cat": "logits", "id": cycle, "pid": _PROCESS}
            yield {**logits, **kind, "ts": time + shift, "tid": core + 1}


def _counters(run: Run) -> Iterator[Record]:
    counter = {"name": "cores", "ph": "C", "pid": _PROCESS, "tid": 0}
    last = None
    for piece in run.intervals:
        comm = piece.comm_cores if piece.comm >= 0 else 0
        comp = run.plan.c_total - piece.comm_cores if piece.comp >= 0 else 0
        if (comm, comp) != last:
            last = comm, comp
            args = {"communication": comm, "computation": comp}
            yield {**counter, "ts": microseconds(piece.start), "args": args}
    end = {"communication": 0, "computation": 0}
    yield {**counter, "ts": microseconds(run.makespan), "args": end}
