"""Rounds of all methods, made again when others disturbed them, and what may be said of the rest.

A round runs every method once, interleaved, so what disturbs it disturbs them all: it is kept or
set aside as a whole, by the CPU that others took of the cores (``calibration.machine.disturbance``)
and never by its times. Such a reading means something over half a second and more; shorter rounds
are made several in a row and share one. What is not here: the methods (``measure``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from calibration.machine.disturbance import CpuReading, Taken, taken_between
from calibration.machine.sampling import LEAST_FOR_INTERVAL
from calibration.workloads.split_inference.workers.job import Timing

#: Seconds over which a reading, which counts in clock ticks of 10 ms, is good to 2 %.
LEAST_READING_S = 0.5
TOO_DISTURBED = "too disturbed to say"


@dataclass(frozen=True, eq=False)
class Round:
    """Every method run once, and what others took of the CPU meanwhile.

    Attributes
    ----------
    timings : dict of str to Timing
        Of each method.
    taken : Taken
        Shared by rounds that were too short to be read one by one.
    """

    timings: dict[str, Timing]
    taken: Taken


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a study's figures may be believed.

    Attributes
    ----------
    word : str
        ``"undisturbed"``, ``"too disturbed to say"`` or, where the system does not account for
        CPU time, ``"disturbance unknown"``.
    """

    word: str
    reason: str

    @property
    def is_too_disturbed(self) -> bool:
        """Whether the figures must not be used."""
        return self.word == TOO_DISTURBED


@dataclass(frozen=True, eq=False)
class Rounds:
    """All rounds of a study in the order in which they were made.

    Attributes
    ----------
    asked : int
        How many undisturbed rounds were asked for.
    guard : float
        CPU seconds per second, taken by others, above which a round is set aside.
    """

    made: tuple[Round, ...]
    asked: int
    guard: float

    @property
    def undisturbed(self) -> tuple[Round, ...]:
        """The rounds of which others took no more than the guard."""
        return tuple(r for r in self.made if not r.taken.disturbs(self.guard))

    @property
    def set_aside(self) -> int:
        """How many rounds others disturbed."""
        return len(self.made) - len(self.undisturbed)

    @property
    def needed(self) -> int:
        """Undisturbed rounds without which nothing is said."""
        return min(self.asked, LEAST_FOR_INTERVAL)

    @property
    def counted(self) -> tuple[Round, ...]:
        """The rounds that figures are made of.

        The undisturbed ones; all of them when those are too few, and then `verdict` says that the
        figures must not be used.
        """
        return self.made if self.verdict.is_too_disturbed else self.undisturbed

    @property
    def verdict(self) -> Verdict:
        """What may be said, and why."""
        found = len(self.undisturbed)
        reason = f"{found} of {len(self.made)} rounds were undisturbed"
        spoilt = [r.taken for r in self.made if r.taken.disturbs(self.guard)]
        if spoilt:
            seconds = sum(t.elapsed_s for t in spoilt)
            foreign = sum(t.foreign_s for t in spoilt) / seconds
            stolen = sum(t.stolen_s for t in spoilt) / seconds
            reason += (
                f"; in the others, other processes took {foreign:.2f} and the host {stolen:.2f} "
                f"CPU seconds per second, where {self.guard:g} are allowed"
            )
        if found < self.needed:
            return Verdict(TOO_DISTURBED, f"{reason}; {self.needed} undisturbed ones are needed")
        if not all(r.taken.known for r in self.made):
            return Verdict(
                "disturbance unknown", "this system does not account for the CPU time of others"
            )
        return Verdict("undisturbed", reason)


def measure_rounds(
    run_round: Callable[[], dict[str, Timing]],
    read: Callable[[], CpuReading],
    *,
    asked: int,
    extra: int,
    guard: float,
    wait: Callable[[], object] = lambda: None,
    progress: Callable[[int, int], None] | None = None,
) -> Rounds:
    """Make rounds until enough are undisturbed, or the budget ends.

    Parameters
    ----------
    read : callable
        Reads the CPU time used so far by everyone and by one's own processes.
    asked : int
        Undisturbed rounds wanted; rounds much shorter than a reading may bring some more.
    extra : int
        Rounds that may be made again; none begins after ``asked + extra`` were made.
    guard : float
        CPU seconds per second, taken by others, above which a round is set aside.
    wait : callable
        Called after a disturbed reading, before rounds are made again.
    progress : callable, optional
        Called with (undisturbed rounds so far, rounds asked for).
    """
    made: list[Round] = []
    clean = 0
    while clean < asked and len(made) < asked + extra:
        before = after = read()
        timings: list[dict[str, Timing]] = []
        while after.at - before.at < LEAST_READING_S or not timings:
            timings.append(run_round())
            after = read()
        taken = taken_between(before, after)
        made += [Round(each, taken) for each in timings]
        if not taken.disturbs(guard):
            clean += len(timings)
        elif len(made) < asked + extra:
            wait()
        if progress is not None:
            progress(min(clean, asked), asked)
    return Rounds(tuple(made), asked, guard)
