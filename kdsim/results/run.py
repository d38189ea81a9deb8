"""What runs give back: makespan, gap, segments, timeline; samples and comparisons of many."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from kdsim.model.plan import Plan

#: The paper's scenario labels of a segment.
WAITED, PARALLEL, COMP_ALONE = 1, 2, 3


class Interval(NamedTuple):
    """A stretch of a run during which nothing changes.

    `comm` and `comp` are 0-based task numbers, -1 where that side does not work; `stage` is
    ``"forward"``, ``"backward"`` or ``""``; `stalled` marks the pause of a reallocation, `starved`
    that communication has processed all data that the link has delivered and goes at its pace.
    """

    start: float
    end: float
    comm_cores: int
    comm: int
    comp: int
    stage: str
    stalled: bool
    starved: bool


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

    @property
    def gap(self) -> float:
        """``makespan / minimal_makespan - 1``, zero or more up to rounding."""
        return self.makespan / self.minimal_makespan - 1.0

    @functools.cached_property
    def segments(self) -> list[Segment]:
        """The segments t_1 .. t_{N+1}; their durations sum to the makespan."""
        ends = [*self.backward_starts, self.makespan]
        all_comm = self.comm_ends[-1]
        cores, starved = _over_segments(self.intervals, ends)
        segments, begin = [], 0.0
        for i, end in enumerate(ends):
            if i == len(ends) - 1 or begin >= all_comm:
                label = COMP_ALONE
            elif self.comm_ends[i] > self.forward_ends[i]:
                label = WAITED
            else:
                label = PARALLEL
            segments.append(Segment(i + 1, end - begin, label, cores[i], starved[i]))
            begin = end
        return segments

    @functools.cached_property
    def timeline(self) -> pd.DataFrame:
        """One row per stretch, with the columns of `Interval` and ``comp_cores``.

        `comm` and `comp` are cycle numbers from 1, 0 where that side does not work.
        """
        import pandas as pd

        frame = pd.DataFrame(list(self.intervals), columns=list(Interval._fields))
        frame["comm"] += 1
        frame["comp"] += 1
        frame.insert(3, "comp_cores", self.plan.c_total - frame["comm_cores"])
        return frame

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the timeline; see `kdsim.plots.timeline`."""
        from kdsim import plots

        return plots.timeline(self, ax=ax, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as ``kdsim run --json`` prints it."""
        return {
            "scenario": self.scenario,
            "policy": self.policy,
            "seed": self.seed,
            "replication": self.replication,
            "makespan": self.makespan,
            "minimal_makespan": self.minimal_makespan,
            "bound_kind": self.bound_kind,
            "gap": self.gap,
            "segments": [self._segment_data(s) for s in self.segments],
            "counters": self.counters,
        }

    def _segment_data(self, segment: Segment) -> dict[str, Any]:
        data = asdict(segment)
        if self.plan.link is None:  # nothing can be waited for
            del data["starved"]
        return data


def _over_segments(
    intervals: Sequence[Interval], ends: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Return, per segment, the time average of the communication cores and the starved seconds."""
    means, starved, k, begin = [], [], 0, 0.0
    for end in ends:
        area, without, at, last = 0.0, 0.0, begin, 0
        while k < len(intervals) and at < end:
            piece = intervals[k]
            last = piece.comm_cores
            stop = min(piece.end, end)
            area += (stop - at) * last
            without += stop - at if piece.starved else 0.0
            at = stop
            if piece.end <= end:
                k += 1
        means.append(area / (end - begin) if end > begin else float(last))
        starved.append(without)
        begin = end
    return means, starved
