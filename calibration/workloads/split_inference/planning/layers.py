"""The nouns of the planner: rows, windows, feature-map shapes and layers.

A :class:`Layer` is plain data (names, numbers, keys of weights), so that it travels to a worker
as JSON. How a layer is computed is in ``kernels``, how one is recognised in a traced network in
``recognise``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from kdsim._types import Record, RecordView


class Rows(NamedTuple):
    """Rows ``lo`` to ``hi - 1`` of a feature map; outside the map they mean padding."""

    lo: int
    hi: int

    @property
    def count(self) -> int:  # type: ignore[override]  # rows, not tuple.count
        """Number of rows, 0 when the range is empty."""
        return max(0, self.hi - self.lo)

    def __bool__(self) -> bool:
        return self.hi > self.lo

    def within(self, other: Rows) -> Rows:
        """Return the rows that both ranges have (an empty range when there are none)."""
        lo = max(self.lo, other.lo)
        return Rows(lo, max(lo, min(self.hi, other.hi)))

    def hull(self, other: Rows) -> Rows:
        """Return the smallest range that covers both; an empty range adds nothing."""
        if not self or not other:
            return self if self else other
        return Rows(min(self.lo, other.lo), max(self.hi, other.hi))

    def minus(self, other: Rows) -> list[Rows]:
        """Return what is left of this range without `other`: no, one or two ranges."""
        if not self.within(other):
            return [self] if self else []
        pieces = [Rows(self.lo, min(self.hi, other.lo)), Rows(max(self.lo, other.hi), self.hi)]
        return [piece for piece in pieces if piece]


class Shape(NamedTuple):
    """Channels, height and width of a feature map of one image."""

    channels: int
    height: int
    width: int

    @property
    def rows(self) -> Rows:
        """All rows of the map."""
        return Rows(0, self.height)

    @property
    def row_values(self) -> int:
        """Values in one row of one image."""
        return self.channels * self.width

    def meta(self) -> Tensor:
        """Return a tensor of this shape without storage."""
        return torch.empty(1, *self, device="meta")


@dataclass(frozen=True, slots=True)
class Window:
    """How a layer's output rows depend on its input rows: a sliding window along the height."""

    kernel: int
    stride: int
    padding: int
    dilation: int

    @property
    def reach(self) -> int:
        """Input rows between the first and the last that one output row reads."""
        return self.dilation * (self.kernel - 1)

    @property
    def is_local(self) -> bool:
        """Whether windows tile the input without overlap, gap or padding (k = s pooling)."""
        return self.padding == 0 and self.dilation == 1 and self.kernel == self.stride

    def needs(self, out: Rows) -> Rows:
        """Return the input rows of output rows ``[a, b)``: ``[a*s-p, (b-1)*s-p+d*(k-1)+1)``."""
        if not out:
            return Rows(0, 0)
        lo = out.lo * self.stride - self.padding
        return Rows(lo, (out.hi - 1) * self.stride - self.padding + self.reach + 1)

    def boundary(self, out: int) -> int:
        """Return the input row that best continues a cut before output row `out`.

        The middle of the rows that both sides read, so that a 3x3 convolution of stride 1 keeps
        the cut and k = s pooling needs no rows from the neighbour.
        """
        return out * self.stride - self.padding + (self.reach + 2 - self.stride) // 2


@dataclass(frozen=True)
class Layer:
    """One layer of the trunk.

    Attributes
    ----------
    name : str
        Its qualified name in the network.
    kind : str
        A key of ``kernels.KERNELS``.
    inputs : tuple of int
        Numbers of the feature maps it reads.
    window : Window or None
        None when output row i depends on row i of the inputs alone.
    options : mapping
        What the kernel needs to know, JSON values only.
    weights : tuple of str
        Keys of its parameters and buffers; "" for one that the layer does not have.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    window: Window | None = None
    options: RecordView = field(default_factory=dict)
    weights: tuple[str, ...] = ()

    def needs(self, out: Rows) -> Rows:
        """Return the input rows that output rows `out` depend on, padding rows included."""
        return out if self.window is None else self.window.needs(out)

    def to_json(self) -> Record:
        """Return the layer as JSON values; :meth:`from_json` reads it back."""
        w = self.window
        return {
            "name": self.name,
            "kind": self.kind,
            "inputs": list(self.inputs),
            "window": None if w is None else [w.kernel, w.stride, w.padding, w.dilation],
            "options": dict(self.options),
            "weights": list(self.weights),
        }

    @classmethod
    def from_json(cls, data: RecordView) -> Layer:
        """Read what :meth:`to_json` wrote."""
        return cls(
            name=data["name"],
            kind=data["kind"],
            inputs=tuple(data["inputs"]),
            window=None if data["window"] is None else Window(*data["window"]),
            options=data["options"],
            weights=tuple(data["weights"]),
        )
