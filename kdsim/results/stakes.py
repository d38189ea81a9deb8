"""How much the choice of a policy can matter at each point of a comparison, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kdsim._types import RecordView
from kdsim.model.bound.stakes import Stakes, stakes
from kdsim.scenario.changes import with_fields

if TYPE_CHECKING:
    from kdsim.results.comparison import Comparison

#: Points that have a sentence each; of more, the point with most at stake has it.
_SENTENCES = 6


class PointStakes(NamedTuple):
    """What is at stake at one point of a sweep; `point` holds the swept fields and their values."""

    point: RecordView
    stakes: Stakes


def stakes_of(made: Comparison) -> list[PointStakes]:
    """Return what the choice of a policy can be worth at each point of a comparison.

    Returns
    -------
    list of PointStakes
        In the order of the points. Planned work counts; the optimum is the mean bound.
    """
    bounds: dict[str, tuple[RecordView, float]] = {}
    for sample in made.samples:
        bounds.setdefault(repr(sample.point), (sample.point, float(sample.bounds.mean())))
    return [
        PointStakes(point, stakes(with_fields(made.scenario, point).plan(), bound))
        for point, bound in bounds.values()
        if bound > 0
    ]


def stakes_lines(found: Sequence[PointStakes]) -> list[str]:
    """Say in a few lines what is at stake: once for points that share a sentence."""
    if not found:
        return []
    by_sentence: dict[str, list[str]] = {}
    for point, worth in found:
        by_sentence.setdefault(worth.sentence, []).append(_where(point))
    if len(by_sentence) == 1:
        return list(by_sentence)
    if len(by_sentence) <= _SENTENCES:
        return [f"{'; '.join(where)}: {said}" for said, where in by_sentence.items()]
    most = max(found, key=lambda entry: entry.stakes.limit)
    least = min(entry.stakes.limit for entry in found)
    return [
        f"Of {len(found):,} points, most is at stake at {_where(most.point)} (least: "
        f"{100 * least:.2g} %): {most.stakes.sentence}"
    ]


def _where(point: RecordView) -> str:
    return ", ".join(f"{name.rpartition('.')[2]} = {value}" for name, value in point.items())
