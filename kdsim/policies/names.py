"""The names that a policy may have: the built-in ones, ``static:c`` and ``module:Class``."""

from __future__ import annotations

import re

#: Names of the built-in policies; `static:c` and `module:Class` are legal beside them.
POLICY_NAMES = (
    "random", "comm-priority", "comp-priority", "greedy", "greedy-full", "state-based", "optimal",
)  # fmt: skip
#: A constant split; the group is its number of communication cores.
STATIC = re.compile(r"static:(\d{1,9})", re.ASCII)
_USER_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_policy_name(name: str) -> bool:
    """Tell whether a name is built in, ``static:c`` or of the form ``module:Class``."""
    if name.startswith("static:"):
        return bool(STATIC.fullmatch(name))
    return name in POLICY_NAMES or bool(_USER_CLASS.fullmatch(name))
