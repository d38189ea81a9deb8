"""Compile a plain function with numba, once, when it is first needed.

The rules of the model are written in Python that numba accepts. The SimPy engine calls them as
they are; whoever needs speed gets the compiled form here. numba is imported only then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the numba-compiled form of `function`, its machine code cached on disk."""
    import numba

    return numba.njit(cache=True)(function)  # type: ignore[no-any-return]
