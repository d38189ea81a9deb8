"""Compile plain functions with numba when they are first needed.

The rules of the model are written in Python that numba accepts. The SimPy engine calls them as
they are; whoever needs speed gets the compiled form here. numba is imported, and anything
compiled, only at the first call: about half a second when the machine code is cached on disk,
several seconds otherwise, and then the log says why.

numba's own cache looks at the file of the function alone, not at what it calls in other files. A
compiled function therefore carries the digest of all compiled sources in its name: after a change
in any of them, nothing stale is found.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

#: Below this many cycles the interpreter is done before a compiled version is even loaded.
COMPILE_FROM = 20_000
#: The packages whose functions are compiled, beside each other.
_COMPILED_PACKAGES = ("model", "engines")

_Function = TypeVar("_Function", bound=Callable[..., Any])
_INLINED: set[Callable[..., Any]] = set()


@functools.cache
def sources_digest() -> str:
    """Return a digest of every source file whose functions may be compiled together."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for package in _COMPILED_PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def compiled(function: FunctionType) -> Callable[..., Any]:
    """Return the numba-compiled form of `function`, its machine code cached on disk.

    The plain functions of this package that it calls by global names are compiled with it. None of
    them may allocate an array: scratch is passed in.
    """
    import numba

    called = {
        name: compiled(value)
        for name in function.__code__.co_names
        if isinstance(value := function.__globals__.get(name), FunctionType)
        and value.__module__.startswith("kdsim.")
    }
    named = FunctionType(
        function.__code__,
        {**function.__globals__, **called} if called else function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    named.__module__ = function.__module__
    named.__doc__ = function.__doc__
    # numba names the file of the cached code after this.
    named.__qualname__ = f"{function.__qualname__}_{sources_digest()}"
    # Without numba's runtime nothing can be allocated, and no references to arrays are counted:
    # atomic operations at every call, which took up to three quarters of a loop's time.
    made: Callable[..., Any] = numba.njit(
        cache=True, nogil=True, _nrt=False, forceinline=function in _INLINED
    )(named)
    return made


def inlined(function: _Function) -> _Function:
    """Mark a function of an inner loop: its compiled form becomes a part of its callers.

    A call passes seven numbers for each array, which takes longer than a few operations.
    """
    _INLINED.add(function)
    return function


@contextmanager
def announced(what: str, *, after_s: float = 1.0) -> Iterator[None]:
    """Log what is being waited for, if it takes longer than `after_s` seconds."""
    timer = threading.Timer(after_s, logging.getLogger("kdsim").warning, [f"kdsim: {what} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
