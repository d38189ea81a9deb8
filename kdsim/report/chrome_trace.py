"""A run in Chrome's trace format, as Perfetto (ui.perfetto.dev) and chrome://tracing open it.

One track a core, with the tasks that it works on; what no core works on is a gap. Arrows lead from
the end of Comm_i to the start of Backward_i, and a counter shows the split of the cores. One
simulated second is one second of the trace; times are whole microseconds, so that neighbours meet
exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kdsim._version import __version__
from kdsim.output_file import write_output

if TYPE_CHECKING:
    from kdsim.results.run import Interval, Run

_PROCESS = 1
#: Chrome's reserved colour names, by kind of slice.
_COLORS = {
    "comm": "rail_response",
    "forward": "rail_animation",
    "backward": "rail_load",
    "stall": "grey",
    "starved": "rail_idle",
}


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


def slices(run: Run) -> list[Slice]:
    """Return what each core works on, by start and core; communication on the cores from 0 up.

    Parameters
    ----------
    run : Run

    Returns
    -------
    list of Slice
        On one core they do not overlap; one that nothing interrupts is not cut.
    """
    done: list[Slice] = []
    running: dict[int, Slice] = {}
    for piece in run.intervals:
        now = {new.core: new for new in _at_work(piece, run.plan.c_total)}
        for core in range(run.plan.c_total):
            old, new = running.get(core), now.get(core)
            if old and new and old.end == new.start and old[3:] == new[3:]:
                running[core] = old._replace(end=new.end)
                continue
            if old:
                done.append(old)
            running.pop(core, None)
            if new:
                running[core] = new
    done += running.values()
    return sorted((s for s in done if s.end > s.start), key=lambda s: (s.start, s.core))


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


def trace_events(run: Run) -> dict[str, Any]:
    """Return a run as a Chrome trace.

    Parameters
    ----------
    run : Run

    Returns
    -------
    dict
        ``traceEvents`` (names of the tracks first, all else by time), ``displayTimeUnit`` and
        ``otherData`` (what was simulated).
    """
    found = slices(run)
    events = [*map(_slice_event, found), *_flows(found), *_counters(run)]
    # At one instant: counters and slices before the arrows, which attach to slices begun.
    events.sort(key=lambda event: (event["ts"], "CXsf".index(event["ph"]), event["tid"]))
    return {
        "traceEvents": [*_names(run), *events],
        "displayTimeUnit": "ms",
        "otherData": {
            "scenario": run.scenario,
            "policy": run.policy,
            "seed": run.seed,
            "replication": run.replication,
            "makespan_s": run.makespan,
            "minimal_makespan_s": run.minimal_makespan,
            "bound": run.bound_kind,
            "kdsim": __version__,
        },
    }


def write(run: Run, path: str | Path) -> Path:
    """Write a run as a Chrome trace (JSON).

    Parameters
    ----------
    run : Run
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
    text = json.dumps(trace_events(run), separators=(",", ":"), allow_nan=False)
    return write_output(path, (text + "\n").encode())


# --- events ---------------------------------------------------------------------------------------


def _names(run: Run) -> Iterator[dict[str, Any]]:
    process = {"ph": "M", "pid": _PROCESS, "tid": 0}
    label = f"{run.scenario} · {run.policy} (seed {run.seed}, replication {run.replication})"
    yield {**process, "name": "process_name", "args": {"name": label}}
    for core in range(run.plan.c_total):
        thread = {"ph": "M", "pid": _PROCESS, "tid": core + 1}
        yield {**thread, "name": "thread_name", "args": {"name": f"core {core}"}}
        yield {**thread, "name": "thread_sort_index", "args": {"sort_index": core}}


def _slice_event(piece: Slice) -> dict[str, Any]:
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


def _flows(found: list[Slice]) -> Iterator[dict[str, Any]]:
    """Yield an arrow a cycle: from the last slice of Comm_i to the first of Backward_i."""
    # Communication always has core 0, computation the last: one core stands for all of a task.
    source: dict[int, Slice] = {}
    target: dict[int, Slice] = {}
    for piece in found:
        if piece.kind in ("comm", "starved") and piece.core == 0:
            source[piece.cycle] = piece
        elif piece.kind == "backward":
            first = target.setdefault(piece.cycle, piece)
            if piece.start == first.start and piece.core > first.core:
                target[piece.cycle] = piece
    for cycle in sorted(source.keys() & target.keys()):
        logits = {"name": "logits", "cat": "logits", "id": cycle, "pid": _PROCESS}
        a, b = source[cycle], target[cycle]
        # An arrow leaves from inside a slice: at its very end there is none any more.
        yield {**logits, "ph": "s", "ts": a.end - 1, "tid": a.core + 1}
        yield {**logits, "ph": "f", "bp": "e", "ts": b.start, "tid": b.core + 1}


def _counters(run: Run) -> Iterator[dict[str, Any]]:
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
