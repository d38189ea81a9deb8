"""What a store says about a study: how far it is, why runs failed, a run repeated."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from kdsim._types import Record
from kdsim.model.curves import FloatArray

#: Rounding alone may put a makespan this far below its bound.
_BELOW_BOUND = 1e-6


@dataclass(frozen=True, slots=True)
class FailureReason:
    """Runs of one policy that failed alike.

    Attributes
    ----------
    error : str
        Of one of them: where an error names the state, the others differ in that.
    runs : int
        How many runs of this policy failed like this.
    everywhere : bool
        Whether the policy has no result at any point, so that tables and figures lack it.
    """

    policy: str
    error: str
    runs: int
    everywhere: bool

    def __str__(self) -> str:
        """Return one line, e.g. ``mine:Half: 3 runs failed: ValueError: three is too many``."""
        where = ", and no run of it is done" if self.everywhere else ""
        return f"{self.policy}: {_runs(self.runs)} failed{where}: {self.error}"


@dataclass(frozen=True, slots=True)
class StudyState:
    """How far a study is. A run is a point of the design and a policy.

    Attributes
    ----------
    total, done, pending, failed : int
        Runs; the first is the sum of the others.
    replications_done, replications : int
        Makespans that are stored, and those asked for in runs that did not fail.
    reasons : tuple of FailureReason
        Why runs failed, the most frequent first.
    writing : bool
        Whether a sweep is writing to the store now.
    rate : float or None
        Replications per second of the latest sweep; None before its first result.
    seconds_left : float or None
        What is pending, at that rate; None without a rate.
    notes : tuple of str
        What else a reader of the numbers should know, e.g. that a log file seems to be missing.

    Examples
    --------
    >>> print(StudyState(total=240, done=58, pending=170, failed=12))
    58 of 240 runs done, 170 pending, 12 failed
    """

    total: int
    done: int
    pending: int
    failed: int
    replications_done: int = 0
    replications: int = 0
    reasons: tuple[FailureReason, ...] = ()
    writing: bool = False
    rate: float | None = None
    seconds_left: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether runs of the design have no result, so that the numbers are not the whole."""
        return self.done < self.total

    def __str__(self) -> str:
        """Return the counts in one line."""
        parts = [f"{self.done} of {_runs(self.total)} done"]
        if self.pending:
            parts.append(f"{self.pending} pending")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)

    def to_dict(self) -> Record:
        """Return plain data, as ``kdsim status --json`` prints it."""
        return {
            "total": self.total,
            "done": self.done,
            "pending": self.pending,
            "failed": self.failed,
            "replications_done": self.replications_done,
            "replications": self.replications,
            "reasons": [
                {"policy": r.policy, "error": r.error, "runs": r.runs, "everywhere": r.everywhere}
                for r in self.reasons
            ],
            "writing": self.writing,
            "rate": self.rate,
            "seconds_left": self.seconds_left,
            "notes": list(self.notes),
        }


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


@dataclass(frozen=True, slots=True, eq=False)
class Rerun:
    """A run repeated, beside what the store holds of it.

    Attributes
    ----------
    makespans, stored : (n,) float array
        Seconds, now and then; `stored` is empty for a run without a result.
    identical : bool
        Whether all bits agree.
    """

    run_id: str
    point: Record
    policy: str
    makespans: FloatArray
    stored: FloatArray
    identical: bool


# --- arrays and points as a store keeps them ------------------------------------------------------


def to_blob(values: FloatArray) -> bytes:
    """Return an array as a store keeps it."""
    return np.asarray(values, dtype="<f8").tobytes()


def from_blob(blob: bytes) -> FloatArray:
    """Return the array that a store kept.

    Raises
    ------
    ValueError
        If it is no array of numbers.
    """
    if not isinstance(blob, bytes) or len(blob) % 8:
        raise ValueError("an array that is none")
    return np.frombuffer(blob, dtype="<f8").astype(np.float64, copy=False)


def check_results(makespans: FloatArray, bounds: FloatArray) -> None:
    """Refuse what no run can give: the only check where there is no checksum (kdsim 0.1).

    Raises
    ------
    ValueError
        Says what cannot be.
    """
    if not np.isfinite(makespans).all() or not np.isfinite(bounds).all() or (bounds < 0).any():
        raise ValueError("a makespan or bound that is not a finite number")
    if (makespans < bounds * (1 - _BELOW_BOUND)).any():
        raise ValueError("a makespan below its proven bound")


def parse_point(text: str) -> Record:
    """Return the swept fields and values of a point from its JSON text.

    Raises
    ------
    ValueError
        If the text is none.
    """
    point = json.loads(text) if isinstance(text, str) else None
    if not isinstance(point, dict):
        raise ValueError("a point that is not a mapping")
    return point
