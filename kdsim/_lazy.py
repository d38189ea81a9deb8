"""Package faces that load a name on first use, so that importing a package costs little."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a package's ``__getattr__`` and ``__dir__`` (PEP 562).

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    homes : mapping of str to str
        Public name -> the module that defines it, relative to the package.

    Returns
    -------
    getattr, dir : callable
        The package assigns them to ``__getattr__`` and ``__dir__``.
    """
    face = sys.modules[package]

    def load(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{home}"), name)
        setattr(face, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(face), *homes})

    return load, names
