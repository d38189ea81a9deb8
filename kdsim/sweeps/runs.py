"""From a scenario to the rows of its store: which runs there are, and what makes them other runs.

A run's identity is the hash of all that determines its makespans. The store of one scenario
takes more points, policies and replications at any time; another scenario is refused, field by
field.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from kdsim._types import Record, RecordView
from kdsim._version import __version__
from kdsim.engines.batch import bound_kind, varies
from kdsim.errors import KdsimError, ScenarioError, StoreError, UnknownPolicyError
from kdsim.messages import shorten
from kdsim.policies.resolve import make_policy
from kdsim.scenario.changes import with_fields
from kdsim.scenario.points import Point, iterate
from kdsim.scenario.study import Scenario
from kdsim.sweeps.policy_source import is_source, policy_source
from kdsim.sweeps.task import ENGINE_VERSION


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One row to be: a point, a policy, and how many replications of it are wanted.

    Attributes
    ----------
    cell : str
        Hash of all that determines its makespans except their number.
    error : str
        Why it cannot run at all; empty if it can.
    """

    point: str
    policy: str
    source: str
    cell: str
    cycles: int
    replications: int
    noisy: bool
    varies: bool
    bound_kind: str
    error: str

    @property
    def run_id(self) -> str:
        """Hash of all that determines the run, 16 hexadecimal digits."""
        return hashlib.sha256(f"{self.cell}:{self.replications}".encode()).hexdigest()[:16]


def planned_runs(
    scenario: Scenario, sources: Mapping[str, str]
) -> Iterator[tuple[str, list[PlannedRun]]]:
    """Yield the points of a scenario in order, each as JSON with the runs of its policies.

    Parameters
    ----------
    sources : mapping
        Hash of the code of each policy, empty for a built-in one.
    """
    for point in iterate(scenario):
        text = json.dumps(point.values)
        digest = point.scenario.digest() if point.scenario else ""
        yield (
            text,
            [
                _planned(scenario, point, text, digest, policy, sources[policy])
                for policy in scenario.policies
            ],
        )


def _planned(
    base: Scenario, point: Point, text: str, digest: str, policy: str, source: str
) -> PlannedRun:
    scenario = point.scenario or base
    # The point is part of the identity: the same physics may stand in a table under two labels.
    facts = [digest or point.error, text, policy, source, ENGINE_VERSION]
    return PlannedRun(
        point=text,
        policy=policy,
        source=source,
        cell=hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
        cycles=scenario.workload.cycles,
        replications=base.replications if varies(scenario, policy) else 1,
        noisy=scenario.extensions.noise > 0,
        varies=varies(scenario, policy),
        bound_kind=bound_kind(scenario),
        error=point.error,
    )


def is_legal(scenario: Scenario, point: RecordView) -> bool:
    """Whether a point's values are legal together."""
    try:
        with_fields(scenario, point)
    except ScenarioError:
        return False
    return True


def policy_sources(scenario: Scenario, known: Mapping[str, str]) -> dict[str, str]:
    """Return the hash of each policy's code, empty for a built-in one.

    Parameters
    ----------
    known : mapping of str to str
        Hashes that a store has. One that is still right stays, by whatever rule it was made.

    Raises
    ------
    UnknownPolicyError
        If a policy cannot be found; whatever else is wrong with it shows when it runs.
    """
    sources = {}
    for policy in scenario.policies:
        old = known.get(policy, "")
        sources[policy] = old if old and is_source(policy, old) else policy_source(policy).digest
        try:
            make_policy(policy)
        except UnknownPolicyError:
            raise
        except KdsimError:
            continue
    return sources


# --- a scenario and what its store has ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What is to be entered into a store.

    Attributes
    ----------
    scenario : Scenario
        With the policies of earlier sweeps in the store before those that are new.
    requested : Scenario
        As asked for now.
    sources : mapping of str to str
        Hash of the code of each policy requested, empty for a built-in one.
    entries : mapping of str to object
        The manifest.
    is_entered : bool
        Whether the very same was entered before.
    """

    scenario: Scenario
    requested: Scenario
    sources: Mapping[str, str]
    entries: RecordView
    is_entered: bool

    def runs(self) -> Iterator[tuple[str, list[PlannedRun]]]:
        """Yield the points, each as JSON with the runs requested there."""
        return planned_runs(self.requested, self.sources)


def plan_study(scenario: Scenario, manifest: RecordView, path: str) -> StudyPlan:
    """Decide what a sweep enters into its store.

    Parameters
    ----------
    manifest : mapping
        What the store was made of so far; empty for a new one.
    path : str
        The store's, for messages.

    Raises
    ------
    StoreError
        If the store belongs to another scenario or engine.
    UnknownPolicyError
        If a policy cannot be found.
    """
    known = _known_scenario(manifest, path)
    if known is not None:
        _refuse_others(path, manifest, known, scenario)
    sources = policy_sources(scenario, manifest.get("sources", {}))
    request = [scenario.model_dump_json(), sources, ENGINE_VERSION]
    fingerprint = hashlib.sha256(json.dumps(request).encode()).hexdigest()
    if known is not None and manifest.get("request") == fingerprint:
        return StudyPlan(known, scenario, sources, manifest, is_entered=True)
    earlier = known.policies if known is not None else []
    merged = scenario.model_copy(
        update={"policies": [*earlier, *(p for p in scenario.policies if p not in earlier)]}
    )
    text = merged.model_dump_json()
    entries = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **manifest,
        "kdsim": __version__,
        "engine": ENGINE_VERSION,
        "scenario": text,
        "scenario_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "seed": scenario.seed,
        "request": fingerprint,
        "sources": {**manifest.get("sources", {}), **{k: v for k, v in sources.items() if v}},
        "files": {**manifest.get("files", {}), **scenario.files},
    }
    return StudyPlan(merged, scenario, sources, entries, is_entered=False)


def _known_scenario(manifest: RecordView, path: str) -> Scenario | None:
    if not manifest:
        return None
    try:
        return Scenario.model_validate_json(manifest["scenario"])
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: holds no scenario that this kdsim reads: {error}") from None


def _refuse_others(path: str, manifest: RecordView, there: Scenario, here: Scenario) -> None:
    if manifest.get("engine") != ENGINE_VERSION:
        raise StoreError(
            f"{path}: its runs were made by version {manifest.get('engine')} of the engine, "
            f"this kdsim has version {ENGINE_VERSION}; use another store"
        )
    different = differences(there, here)
    if different:
        listed = "\n".join(f"  {line}" for line in different[:12])
        raise StoreError(
            f"{path}: belongs to another scenario; use another store. Different are "
            f"(there, here):\n{listed}"
        )


def differences(there: Scenario, here: Scenario) -> list[str]:
    """List the fields in which two scenarios differ so that they cannot share a store.

    More values, policies and replications are no difference, nor are name and description.
    """
    swept = set(here.sweep)
    lines = []
    if swept != set(there.sweep):
        lines.append(f"swept fields: {sorted(there.sweep)}, {sorted(swept)}")
    old, new = _flat(there), _flat(here)
    lines += [
        f"{field}: {shorten(old.get(field))}, {shorten(new.get(field))}"
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field) and field not in swept
    ]
    if there.design.method != here.design.method:
        lines.append(f"design.method: {there.design.method}, {here.design.method}")
    elif here.design.method == "latin-hypercube" and there.design != here.design:
        # Every point of a hypercube moves with the number of samples; a Sobol sequence goes on.
        lines.append(f"design.samples: {there.design.samples}, {here.design.samples}")
    return lines


def _flat(scenario: Scenario) -> Record:
    flat: Record = {}

    def visit(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(f"{prefix}.{key}" if prefix else key, inner)
        else:
            flat[prefix] = value

    visit("", scenario.facts())
    return flat
