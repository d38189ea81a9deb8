"""The names that a policy may have: the built-in ones, ``static:c`` and ``module:Class``."""

from __future__ import annotations

import re

#: The built-in policies: name -> what it does. `static:c` and `module:Class` are legal beside them.
SUMMARIES = {
    "random": "a uniform core count, drawn anew at each decision (the paper's baseline)",
    "comm-priority": "all cores to communication while it has work",
    "comp-priority": "all cores to computation while it has work",
    "greedy": "the paper's Algorithm 1 on what remains of each task",
    "greedy-full": "the paper's Algorithm 1 on the full work of each task",
    "state-based": "the paper's eq. 15 with the exact time that is left",
    "optimal": "the proven optimum where the model is exact; looks ahead under noise and costs",
}
POLICY_NAMES = tuple(SUMMARIES)
#: A constant split; the group is its number of communication cores.
STATIC = re.compile(r"static:(\d{1,9})", re.ASCII)
_USER_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_policy_name(name: str) -> bool:
    """Return whether a name is built in, ``static:c`` or of the form ``module:Class``."""
    if name.startswith("static:"):
        return bool(STATIC.fullmatch(name))
    return name in POLICY_NAMES or bool(_USER_CLASS.fullmatch(name))
