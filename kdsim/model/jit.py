"""Compile plain functions with numba when they are first needed.

The rules of the model are written in Python that numba accepts. The SimPy engine calls them as
they are; whoever needs speed gets the compiled form here. numba is imported, and anything
compiled, only at the first call: about half a second when the machine code is cached on disk,
several seconds otherwise, and then the user is told why.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the numba-compiled form of `function`, its machine code cached on disk."""
    import numba

    made: Callable[..., Any] = numba.njit(cache=True, nogil=True)(function)
    return made


@contextmanager
def announced(what: str, *, after_s: float = 1.0) -> Iterator[None]:
    """Tell the user on the log what is being waited for, if it takes longer than `after_s`."""
    timer = threading.Timer(after_s, logging.getLogger("kdsim").warning, [f"kdsim: {what} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
