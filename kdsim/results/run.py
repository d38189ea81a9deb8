"""One simulated run: makespan, gap, segments, timeline."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kdsim._types import Record
from kdsim.messages import html_table
from kdsim.results.gaps import gap_of
from kdsim.results.recording import Interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from kdsim.model.plan import Plan

#: Segments that a notebook shows.
_SHOWN = 12
#: The paper's scenario labels of a segment.
WAITED, PARALLEL, COMP_ALONE = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Segment:
    """One of the paper's N + 1 segments; segment i ends when Backward_i starts.

    Attributes
    ----------
    index : int
        1..N+1.
    duration : float
        Seconds.
    scenario : int
        1: computation waited for communication; 2: in parallel; 3: computation alone, after all
        communication had ended.
    comm_cores : float
        Time average of the communication cores.
    starved : float
        Seconds in which communication had cores but waited for data, at least in part.
    """

    index: int
    duration: float
    scenario: int
    comm_cores: float
    starved: float


@dataclass(frozen=True, eq=False)
class Run:
    """One simulated run.

    Attributes
    ----------
    scenario, policy : str
        Names.
    seed, replication : int
        Of the run's randomness.
    makespan : float
        Seconds until the last Backward is done, T_total.
    minimal_makespan : float
        The proven optimum of the run's realised work, or a lower bound where `bound_kind` says so.
    bound_kind : str
        ``"optimum"`` or ``"lower bound"``.
    marks : tuple of str
        What must be said wherever these numbers stand, e.g. that a curve was extrapolated.
    counters : dict
        ``decisions`` (times the policy was asked), ``reallocations`` (changes of the core split),
        ``wait_s`` (computation waited for logits), ``stall_s`` (lost to reallocation),
        ``starved_s`` (communication had processed all that the link had delivered),
        ``buffer_peak`` (most data units that waited on the device for a core).
    intervals : sequence of Interval
        The whole run in order; see `timeline`.
    """

    scenario: str
    policy: str
    seed: int
    replication: int
    makespan: float
    minimal_makespan: float
    bound_kind: str
    counters: dict[str, float]
    intervals: Sequence[Interval] = field(repr=False)
    backward_starts: Sequence[float] = field(repr=False)
    forward_ends: Sequence[float] = field(repr=False)
    comm_ends: Sequence[float] = field(repr=False)
    plan: Plan = field(repr=False)
    marks: tuple[str, ...] = ()

    @property
    def gap(self) -> float:
        """``makespan / minimal_makespan - 1``; what is rounding is 0."""
        return gap_of(self.makespan, self.minimal_makespan)

    @functools.cached_property
    def segments(self) -> list[Segment]:
        """The segments t_1 .. t_{N+1}; their durations sum to the makespan."""
        return list(self.iter_segments())

    def iter_segments(self) -> Iterator[Segment]:
        """Yield the segments one by one: those of a long run need not be in memory at once."""
        all_comm, last = self.comm_ends[-1], len(self.backward_starts)
        ends = itertools.chain(self.backward_starts, [self.makespan])
        begin = 0.0
        for i, (end, comm_cores, starved) in enumerate(_over_segments(self.intervals, ends)):
            if i == last or begin >= all_comm:
                label = COMP_ALONE
            elif self.comm_ends[i] > self.forward_ends[i]:
                label = WAITED
            else:
                label = PARALLEL
            yield Segment(i + 1, end - begin, label, comm_cores, starved)
            begin = end

    @functools.cached_property
    def timeline(self) -> pd.DataFrame:
        """One row per stretch, with the columns of `Interval` and ``comp_cores``.

        `comm` and `comp` are cycle numbers from 1, 0 where that side does not work.
        """
        import pandas as pd

        header, *rows = self.timeline_rows()
        return pd.DataFrame(rows, columns=list(header))

    def timeline_rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the column names of `timeline` and then its rows, one by one."""
        start, end, cores, *others = Interval._fields
        said = ("; ".join(self.marks),) if self.marks else ()
        yield start, end, cores, "comp_cores", *others, *(("marks",) if said else ())
        for begin, until, split, comm, comp, *flags in self.intervals:
            rest = self.plan.c_total - split
            yield begin, until, split, rest, comm + 1, comp + 1, *flags, *said

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """Draw the timeline; see `kdsim.plots.timeline`."""
        from kdsim import plots

        return plots.timeline(self, ax=ax, **kwargs)

    def to_dict(self) -> Record:
        """Return plain data, as ``kdsim run --json`` prints it."""
        segments = list(self.segment_data())
        return {**self.summary(), "segments": segments, "counters": self.counters}

    def segment_data(self) -> Iterator[Record]:
        """Yield the segments as plain data; `starved` only where there is a link to wait for."""
        for segment in self.iter_segments():
            data = asdict(segment)
            if self.plan.link is None:
                del data["starved"]
            yield data

    def summary(self) -> Record:
        """Return what `to_dict` returns before the segments."""
        return {
            "scenario": self.scenario,
            "policy": self.policy,
            "seed": self.seed,
            "replication": self.replication,
            "makespan": self.makespan,
            "minimal_makespan": self.minimal_makespan,
            "bound_kind": self.bound_kind,
            "gap": self.gap,
            "marks": list(self.marks),
        }

    def _repr_html_(self) -> str:
        shown = list(itertools.islice(self.iter_segments(), _SHOWN))
        left_out = len(self.backward_starts) + 1 - len(shown)
        gap = f"{100.0 * self.gap:.2f} % above" if self.gap > 0 else "equal to"
        caption = (
            f"{self.scenario}, {self.policy}: makespan {self.makespan:.5g} s, {gap} the proven "
            f"{self.bound_kind} of {self.minimal_makespan:.5g} s"
        )
        rows = [
            (f"t{s.index}", f"{s.duration:.5g}", s.scenario, f"{s.comm_cores:.2f}") for s in shown
        ]
        more = [f"{left_out:,} more segments"] if left_out else []
        headings = ("segment", "seconds", "scenario", "mean comm cores")
        return html_table(caption, headings, rows, "; ".join([*more, *self.marks]))


def _over_segments(
    intervals: Iterable[Interval], ends: Iterable[float]
) -> Iterator[tuple[float, float, float]]:
    """Yield the end of each segment, its mean communication cores and its starved seconds."""
    pieces = iter(intervals)
    piece = next(pieces, None)
    begin = 0.0
    for end in ends:
        area, starved, at, last = 0.0, 0.0, begin, 0
        while piece is not None and at < end:
            last = piece.comm_cores
            stop = min(piece.end, end)
            area += (stop - at) * last
            starved += stop - at if piece.starved else 0.0
            at = stop
            if piece.end <= end:
                piece = next(pieces, None)
        yield end, area / (end - begin) if end > begin else float(last), starved
        begin = end
