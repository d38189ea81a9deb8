"""Divide the rows of every feature map among parts, and say which rows must travel.

The one rule behind it: output rows ``[a, b)`` of a window need input rows
``[a*s - p, (b-1)*s - p + d*(k-1) + 1)``. From it follow, for each part and feature map, the rows
it owns, computes and needs, and from these the messages. Which part does what in which order is
in ``program``; when a plan is fast is in ``cost``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from calibration.workloads.split_inference.errors import PlanError
from calibration.workloads.split_inference.planning.graph import Graph
from calibration.workloads.split_inference.planning.layers import Rows

#: Ways of treating a block of layers between two changes of resolution.
MODES = ("layerwise", "overlap", "fused")
MAX_PARTS = 7


@dataclass(frozen=True, slots=True)
class Message:
    """Rows of one feature map that one part sends another.

    Attributes
    ----------
    tensor : int
        The feature map.
    source, target : int
        Parts.
    rows : Rows
        In the coordinates of the whole map.
    values : int
        Values for each image.
    """

    tensor: int
    source: int
    target: int
    rows: Rows
    values: int


@dataclass(frozen=True, eq=False)
class Plan:
    """Who owns, computes and needs which rows.

    Built by :func:`plan`. In every tuple the first index is the feature map, the second the part.

    Attributes
    ----------
    modes : tuple of str
        The mode of each block of `blocks`.
    exchanged : frozenset of int
        Feature maps whose missing rows travel; of the others each part computes all it needs.
    early : frozenset of int
        Exchanged maps whose border rows are computed and sent before the rest.
    owned, computed, needed : tuple of tuple of Rows
        `needed` may reach beyond the map: those rows are padding.
    """

    graph: Graph
    parts: int
    modes: tuple[str, ...]
    exchanged: frozenset[int]
    early: frozenset[int]
    owned: tuple[tuple[Rows, ...], ...]
    computed: tuple[tuple[Rows, ...], ...]
    needed: tuple[tuple[Rows, ...], ...]

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """Every message of one inference, ordered by feature map, source and target."""
        found = []
        for t in sorted(self.exchanged):
            shape = self.graph.shapes[t]
            for target in range(self.parts):
                missing = self.needed[t][target].within(shape.rows).minus(self.owned[t][target])
                for source in range(self.parts):
                    for piece in missing:
                        rows = piece.within(self.owned[t][source])
                        if rows and source != target:
                            values = rows.count * shape.row_values
                            found.append(Message(t, source, target, rows, values))
        return tuple(sorted(found, key=lambda m: (m.tensor, m.source, m.target, m.rows)))

    def input_rows(self, part: int) -> Rows:
        """Return the rows of the input that the master sends to `part`."""
        return self.needed[0][part].within(self.graph.shapes[0].rows)

    @property
    def halo_values(self) -> int:
        """Values that travel between parts for one image."""
        return sum(m.values for m in self.messages)

    @property
    def shares(self) -> tuple[float, ...]:
        """Each part's share of the rows of the last feature map."""
        owned, height = self.owned[-1], self.graph.shapes[-1].height
        return tuple(rows.count / height for rows in owned)


def plan(
    graph: Graph,
    parts: int = 2,
    *,
    mode: str | Sequence[str] = "layerwise",
    shares: Sequence[float] | None = None,
) -> Plan:
    """Plan a split of a network's trunk by rows.

    Parameters
    ----------
    graph : Graph
        From :func:`~calibration.workloads.split_inference.planning.graph.trace`.
    parts : int
        2 to 7 (1 gives the trivial plan).
    mode : str or sequence of str
        One of `MODES` for all blocks, or one for each block of :func:`blocks`.
    shares : sequence of float, optional
        Positive weights of the parts; equal by default. They divide the rows of the maps that
        the head reads, and every earlier cut is aligned to these.

    Raises
    ------
    PlanError
        If the arguments are illegal or a part would own no row of some feature map.

    Examples
    --------
    >>> from torch import nn
    >>> from calibration.workloads.split_inference import plan, trace
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2))
    >>> plan(trace(net, (3, 16, 16)), parts=2).owned[1]
    (Rows(lo=0, hi=8), Rows(lo=8, hi=16))
    """
    modes = _modes(graph, mode)
    owned = _ownership(graph, _weights(parts, shares))
    exchanged, early = _exchange(graph, modes)
    if parts == 1:
        exchanged = early = frozenset()
    computed, needed = _ranges(graph, owned, exchanged)
    return Plan(graph, parts, modes, exchanged, early, owned, computed, needed)


def blocks(graph: Graph) -> list[list[int]]:
    """Divide the layers into blocks, each ended by a layer that lowers the resolution.

    Returns
    -------
    list of list of int
        Indices of the layers of each block.
    """
    found: list[list[int]] = [[]]
    for i, layer in enumerate(graph.layers):
        found[-1].append(i)
        if layer.window is not None and layer.window.stride > 1:
            found.append([])
    if not found[-1]:
        found.pop()
    return found


def _modes(graph: Graph, mode: str | Sequence[str]) -> tuple[str, ...]:
    count = len(blocks(graph))
    modes = (mode,) * count if isinstance(mode, str) else tuple(mode)
    wrong = [m for m in modes if m not in MODES]
    if wrong:
        raise PlanError(f"mode must be one of {', '.join(MODES)}, got {wrong[0]!r}")
    if len(modes) != count:
        raise PlanError(f"the network has {count} blocks, but {len(modes)} modes were given")
    return modes


def _weights(parts: int, shares: Sequence[float] | None) -> list[float]:
    if not 1 <= parts <= MAX_PARTS:
        raise PlanError(f"parts must be 1 to {MAX_PARTS}, got {parts}")
    weights = [1.0] * parts if shares is None else [float(s) for s in shares]
    if len(weights) != parts:
        raise PlanError(f"{parts} parts need {parts} shares, got {len(weights)}")
    if not all(math.isfinite(w) and w > 0 for w in weights):
        raise PlanError(f"shares must be positive and finite, got {weights}")
    return weights


# --- who owns what ----------------------------------------------------------------------------


def _ownership(graph: Graph, weights: Sequence[float]) -> tuple[tuple[Rows, ...], ...]:
    """Cut the maps that the head reads by weight and carry the cuts back to the input."""
    cuts: dict[int, list[int]] = {}
    total = math.fsum(weights)
    at = [math.fsum(weights[: i + 1]) / total for i in range(len(weights) - 1)]
    for t in range(len(graph.shapes) - 1, -1, -1):
        height = graph.shapes[t].height
        readers = graph.consumers(t)
        if t in graph.sinks or not readers:
            inner = [round(height * share) for share in at]
        else:
            layer = graph.layers[readers[-1]]
            later = cuts[readers[-1] + 1]
            inner = later if layer.window is None else [layer.window.boundary(c) for c in later]
        cuts[t] = _spread(inner, height, graph.name(t))
    return tuple(
        tuple(Rows(a, b) for a, b in pairwise([0, *cuts[t], graph.shapes[t].height]))
        for t in range(len(graph.shapes))
    )


def _spread(inner: Sequence[int], height: int, name: str) -> list[int]:
    """Move cuts as little as it takes for every part to own at least one row."""
    parts = len(inner) + 1
    if height < parts:
        raise PlanError(
            f"{name} has a feature map of {height} rows: {parts} parts would leave one of them "
            f"without rows; use at most {height} parts or a larger input"
        )
    cuts: list[int] = []
    for i, cut in enumerate(inner):
        low = (cuts[-1] if cuts else 0) + 1
        cuts.append(min(max(cut, low), height - (parts - 1 - i)))
    return cuts


# --- which maps travel ------------------------------------------------------------------------


def _exchange(graph: Graph, modes: Sequence[str]) -> tuple[frozenset[int], frozenset[int]]:
    exchanged, early = set(), set()
    for block, mode in zip(blocks(graph), modes, strict=True):
        for i in block:
            t = i + 1
            last = i == block[-1]
            # A fused block exchanges only what it hands to the next one. Sinks are owned, never
            # recomputed, because each row is gathered once.
            if mode != "fused" or last or t in graph.sinks:
                exchanged.add(t)
            if mode == "overlap":
                early.add(t)
    return frozenset(exchanged), frozenset(early & exchanged)


def _ranges(
    graph: Graph, owned: tuple[tuple[Rows, ...], ...], exchanged: Collection[int]
) -> tuple[tuple[tuple[Rows, ...], ...], tuple[tuple[Rows, ...], ...]]:
    """Work backwards from the sinks: what each part computes and, for that, needs."""
    parts, none = len(owned[0]), Rows(0, 0)
    needed = [[none] * parts for _ in graph.shapes]
    computed = [[none] * parts for _ in graph.shapes]
    for t in range(len(graph.shapes) - 1, -1, -1):
        whole = graph.shapes[t].rows
        for p in range(parts):
            mine = owned[t][p]
            if t in graph.sinks:
                needed[t][p] = needed[t][p].hull(mine)
            keep = t in exchanged or t in graph.sinks
            computed[t][p] = mine if keep else needed[t][p].within(whole)
            if t == 0:
                continue
            layer = graph.layers[t - 1]
            for source in layer.inputs:
                needed[source][p] = needed[source][p].hull(layer.needs(computed[t][p]))
    return tuple(map(tuple, computed)), tuple(map(tuple, needed))
