"""A user's own code runs when its caller names it, never because a file alone asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kdsim.errors import UnknownPolicyError
from kdsim.policies.resolve import is_built_in, policy_file

_IN_PYTHON = "name it in the argument `policies`, or give allow_policies=True"


def refuse_unnamed(
    asked: Iterable[str],
    named: Sequence[object] | None,
    source: str,
    *,
    allow: bool,
    remedy: str = _IN_PYTHON,
) -> None:
    """Refuse to run code that only a scenario, or only a store, asks for.

    Nothing of that code is executed to find out.

    Parameters
    ----------
    asked : iterable of str
        Policies that the scenario or the store asks for.
    named : sequence of str or Policy classes, optional
        Policies that the caller named.
    source : str
        The scenario or the store, for the message.
    allow : bool
        Whether the caller allowed all of them.
    remedy : str
        How a caller names or allows a policy, with ``{name}`` for the first that is refused.

    Raises
    ------
    UnknownPolicyError
        If a policy that is not built in was asked for and was neither named nor allowed.
    """
    unknown = [name for name in asked if not is_built_in(name) and name not in (named or ())]
    if not unknown or allow:
        return
    lines = [
        f"policy {name!r} stands only in {source}, and running it executes {policy_file(name)}"
        for name in unknown
    ]
    raise UnknownPolicyError("\n".join([*lines, remedy.format(name=unknown[0])]))
