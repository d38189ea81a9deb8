"""Sequences of numbers as the model's plain functions take them.

An array, a list, or the memoryview of an array: read one by one, the entries of a view are plain
numbers and come faster than an array's. The compiled functions take arrays.
"""

from __future__ import annotations

from typing import Protocol, overload


class Floats(Protocol):
    """Numbers by position, or every so many of them."""

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, at: int, /) -> float: ...
    @overload
    def __getitem__(self, at: slice, /) -> Floats: ...


class Ints(Protocol):
    """Whole numbers by position."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: int, /) -> int: ...


class WrittenFloats(Floats, Protocol):
    """Numbers that a function writes to."""

    def __setitem__(self, at: int, value: float, /) -> None: ...


class WrittenInts(Ints, Protocol):
    """Whole numbers that a function writes to."""

    def __setitem__(self, at: int, value: int, /) -> None: ...
