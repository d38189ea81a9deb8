"""From a name to a policy: built in, ``static:c``, ``module:Class`` or an object of one's own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdsim.errors import PolicyError, ScenarioError, UnknownPolicyError
from kdsim.messages import did_you_mean
from kdsim.policies.base import Policy, PolicyLike
from kdsim.policies.builtin import Greedy, Optimal, Random, StateBased, Static
from kdsim.policies.names import POLICY_NAMES, STATIC

_BUILT_IN: dict[str, Callable[[], Policy]] = {
    "random": Random,
    "comm-priority": lambda: Static("comm-priority", None),
    "comp-priority": lambda: Static("comp-priority", 0),
    "greedy": lambda: Greedy("greedy", full=False),
    "greedy-full": lambda: Greedy("greedy-full", full=True),
    "state-based": StateBased,
    "optimal": Optimal,
}


def is_built_in(name: str) -> bool:
    """Return whether a policy name needs no user code."""
    return name in _BUILT_IN or name.startswith("static:")


def is_random(name: str) -> bool:
    """Return whether a policy may draw random numbers: `random`, and any user's own."""
    return name == "random" or not is_built_in(name)


def make_policy(policy: PolicyLike, *, noise: float = 0.0) -> Policy:
    """Make the policy for one run.

    Parameters
    ----------
    policy : str, Policy or class
        A built-in name, ``"static:c"``, ``"module:Class"``, a class (called without arguments)
        or an instance.
    noise : float
        Coefficient of variation of the run's work around the plan; under noise `state-based` and
        `optimal` look ahead.

    Returns
    -------
    Policy

    Raises
    ------
    UnknownPolicyError
        If the name is unknown (with "did you mean") or cannot be imported.
    PolicyError
        If it has no usable ``decide`` or its constructor raises.
    """
    if isinstance(policy, str):
        if policy == "optimal":
            return Optimal(noise=noise)
        if policy == "state-based":
            return StateBased(noise=noise)
        if policy in _BUILT_IN:
            return _BUILT_IN[policy]()
        if static := STATIC.fullmatch(policy):
            return Static(policy, int(static[1]))
        if policy.startswith("static:"):
            raise UnknownPolicyError(
                f"policy {policy!r}: static:c takes a whole number of communication cores, "
                "e.g. static:2"
            )
        if ":" not in policy:
            known = ", ".join(POLICY_NAMES)
            raise UnknownPolicyError(
                f"unknown policy {policy!r}{did_you_mean(policy, POLICY_NAMES)}; "
                f"known: {known}, static:c, module:Class"
            )
        policy = _import_policy(policy)
    made = policy
    if isinstance(policy, type):
        try:
            made = policy()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PolicyError(
                f"policy {policy.__name__} cannot be made: {type(error).__name__}: {error}"
            ) from error
    return checked_shape(made)


def policy_name(policy: PolicyLike) -> str:
    """Return the name under which results list a policy."""
    if isinstance(policy, str):
        return policy
    return str(getattr(policy, "name", None) or getattr(policy, "__name__", "policy"))


def distinct_policies(policies: Sequence[Any]) -> list[Any]:
    """Leave out what is named twice; refuse two different policies of one name.

    Raises
    ------
    ScenarioError
        If two different policies share a name, or one name stands where a list should.
    """
    if isinstance(policies, str):
        raise ScenarioError(f"must be a list of policies (got {policies!r})", field="policies")
    chosen: dict[str, Any] = {}
    for policy in policies:
        name = policy_name(policy)
        if chosen.setdefault(name, policy) != policy:
            raise ScenarioError(
                f"two different policies are called {name!r}; give each a name of its own",
                field="policies",
            )
    return list(chosen.values())


def checked_shape(policy: Any) -> Policy:
    """Return the object if it can serve as a policy, else say what it lacks."""
    if not callable(getattr(policy, "decide", None)):
        raise UnknownPolicyError(
            f"{type(policy).__name__} is no policy: it needs a method decide(state) -> Decision"
        )
    if not isinstance(getattr(policy, "name", None), str):
        raise UnknownPolicyError(f"policy {type(policy).__name__} needs a name, e.g. name = 'mine'")
    if not hasattr(policy, "start"):
        raise UnknownPolicyError(
            f"policy {policy.name} needs a method start(plan); subclass kdsim.Policy"
        )
    return policy  # type: ignore[no-any-return]  # its shape was checked above


def policy_file(reference: str) -> str:
    """Return where the code of a ``module:Class`` lies, without running any of it.

    Parameters
    ----------
    reference : str
        Name of a user's policy.

    Returns
    -------
    str
        Path of the module's file, or what stands in its place: ``a part of Python`` for a compiled
        module, ``no such module`` for one that is not found.
    """
    top, *below = reference.partition(":")[0].split(".")
    _look_beside_the_scenario()
    try:
        # Only the top package: to find a module inside it, Python would run the package.
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        found = None
    if found is None:
        return "no such module"
    folders = found.submodule_search_locations
    if not below:
        return found.origin or ", ".join(folders or [])
    for folder in folders or []:
        place = Path(folder, *below)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return str(file)
    return "no such module"


def _look_beside_the_scenario() -> str:
    """Let modules of the present folder be found, where a policy is usually written."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return here


def _import_policy(reference: str) -> Any:
    module_name, _, attribute = reference.partition(":")
    here = _look_beside_the_scenario()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UnknownPolicyError(
            f"policy {reference!r}: no module named {error.name!r} (looked in {here} as well)"
        ) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UnknownPolicyError(
            f"policy {reference!r}: importing {module_name} raised {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, attribute):
        names: Sequence[str] = [n for n in vars(module) if not n.startswith("_")]
        raise UnknownPolicyError(
            f"policy {reference!r}: {module_name} has no {attribute!r}"
            f"{did_you_mean(attribute, names)}"
        )
    found = getattr(module, attribute)
    if not callable(getattr(found, "decide", None)):  # before anything of it is called
        raise UnknownPolicyError(
            f"policy {reference!r}: {attribute} is a {type(found).__name__} without a method "
            "decide(state) -> Decision; a policy is a class such as class Mine(kdsim.Policy)"
        )
    return found
