"""From a scenario to the rows of its ledger: which runs there are, and which are new.

A run's identity is the hash of all that determines its makespans. The ledger of one scenario
takes more points, policies and replications at any time; another scenario is refused, field by
field.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from kdsim._version import __version__
from kdsim.engines.batch import bound_kind, varies
from kdsim.errors import KdsimError, ScenarioError, StoreError, UnknownPolicyError
from kdsim.messages import shorten
from kdsim.policies.resolve import make_policy
from kdsim.scenario.load import find_scenario
from kdsim.scenario.points import Point, iterate
from kdsim.scenario.study import Scenario, with_fields
from kdsim.scenario.yaml_document import read_yaml
from kdsim.sweeps.store import Store
from kdsim.sweeps.task import ENGINE_VERSION, policy_source

#: Rows of an earlier design stand behind those of the present one.
_BEHIND = 2**40


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One row to be: a point, a policy, and how many replications of it are wanted.

    Attributes
    ----------
    cell : str
        Hash of all that determines its makespans, but for their number.
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
        return _run_id(self.cell, self.replications)


def _run_id(cell: str, replications: int) -> str:
    return hashlib.sha256(f"{cell}:{replications}".encode()).hexdigest()[:16]


def planned_runs(
    scenario: Scenario, sources: Mapping[str, str]
) -> Iterator[tuple[str, list[PlannedRun]]]:
    """Yield the points of a scenario in order, each as JSON with the runs of its policies.

    Parameters
    ----------
    scenario : Scenario
    sources : mapping
        Hash of the source file of each policy, empty for a built-in one.
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


def policy_sources(scenario: Scenario) -> dict[str, str]:
    """Return the hash of each policy's source file, empty for a built-in one.

    Raises
    ------
    UnknownPolicyError
        If a policy cannot be found; whatever else is wrong with it shows when it runs.
    """
    sources = {}
    for policy in scenario.policies:
        sources[policy] = policy_source(policy)[1]
        try:
            make_policy(policy)
        except UnknownPolicyError:
            raise
        except KdsimError:
            continue
    return sources


# --- the ledger's side ---------------------------------------------------------------------------


def enter(store: Store, scenario: Scenario, origin: str | Path | None = None) -> Scenario:
    """Enter a scenario's runs into a store, so that exactly what is missing is pending.

    Parameters
    ----------
    store : Store
        Open for writing.
    scenario : Scenario
    origin : str or Path, optional
        Where the scenario was loaded from; its curve and profile files are hashed.

    Returns
    -------
    Scenario
        With the policies of earlier sweeps in this store before those that are new.

    Raises
    ------
    StoreError
        If the store belongs to another scenario, engine or version of a policy's source.
    UnknownPolicyError
        If a policy cannot be found.
    """
    manifest = store.manifest
    sources = policy_sources(scenario)
    request = [scenario.model_dump_json(), sources, ENGINE_VERSION]
    fingerprint = hashlib.sha256(json.dumps(request).encode()).hexdigest()
    if manifest:
        _refuse_others(store, manifest, scenario)
        if manifest["request"] == fingerprint:
            return store.scenario()
    known = store.scenario().policies if manifest else []
    merged = scenario.model_copy(
        update={"policies": [*known, *(p for p in scenario.policies if p not in known)]}
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
    }
    if origin is not None or "files" not in manifest:
        entries["files"] = _file_hashes(origin)
    with store.transaction() as db:
        if manifest:
            db.execute("UPDATE runs SET position = position + ?", (_BEHIND,))
        _enter_runs(db, store.path, merged.policies, planned_runs(scenario, sources))
        db.executemany(
            "INSERT OR REPLACE INTO manifest VALUES (?, ?)",
            [(key, json.dumps(value)) for key, value in entries.items()],
        )
    return merged


def _enter_runs(
    db: sqlite3.Connection,
    path: str,
    policies: Sequence[str],
    planned: Iterable[tuple[str, list[PlannedRun]]],
) -> None:
    """Enter runs in the order of points, then policies, those of earlier sweeps among them."""
    order = {policy: i for i, policy in enumerate(policies)}
    for index, (point, runs) in enumerate(planned):
        first = index * len(policies)
        for run in runs:
            _enter_run(db, path, first + order[run.policy], run)
        for policy in order.keys() - {run.policy for run in runs}:
            db.execute(
                "UPDATE runs SET position = ? WHERE point = ? AND policy = ? AND position >= ?",
                (first + order[policy], point, policy, _BEHIND),
            )


def _enter_run(db: sqlite3.Connection, path: str, position: int, run: PlannedRun) -> None:
    old = db.execute(
        "SELECT run_id, cell, replications, status, position FROM runs "
        "WHERE point = ? AND policy = ?",
        (run.point, run.policy),
    ).fetchone()
    if old is not None:
        run_id, cell, replications, status, old_position = old
        if old_position < _BEHIND:
            return  # the design names this point twice
        if cell == run.cell:
            db.execute("UPDATE runs SET position = ? WHERE run_id = ?", (position, run_id))
            if run.replications > replications and not run.error:
                _extend(db, run_id, run, done=status == "done")
            return
        if status == "done":
            what = f"the file of policy {run.policy}" if run.source else "its scenario or engine"
            raise StoreError(
                f"{path}: {what} has changed since run {run_id} was made; the old results stay "
                "as they are: use another store for the new ones"
            )
        db.execute("DELETE FROM chunks WHERE run_id = ?", (run_id,))
        db.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
    db.execute(
        "INSERT OR IGNORE INTO runs (run_id, cell, position, point, policy, source, cycles, "
        "replications, noisy, varies, bound_kind, status, error) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run.run_id, run.cell, position, run.point, run.policy, run.source, run.cycles,
            run.replications, run.noisy, run.varies, run.bound_kind,
            "failed" if run.error else "pending", run.error,
        ),
    )  # fmt: skip


def _extend(db: sqlite3.Connection, run_id: str, run: PlannedRun, *, done: bool) -> None:
    """Ask for more replications of a run; those that it has become its first chunk."""
    if done:
        db.execute(
            "INSERT INTO chunks (run_id, start, stop, makespans, bounds, seconds) "
            "SELECT run_id, 0, n, makespans, bounds, seconds FROM runs WHERE run_id = ?",
            (run_id,),
        )
    db.execute("UPDATE chunks SET run_id = ? WHERE run_id = ?", (run.run_id, run_id))
    db.execute(
        "UPDATE runs SET run_id = ?, replications = ?, status = 'pending', error = '', "
        "error_at = NULL, n = 0, seconds = 0, makespans = NULL, bounds = NULL WHERE run_id = ?",
        (run.run_id, run.replications, run_id),
    )


def retry_failed(store: Store) -> int:
    """Make the failed runs of legal points pending again; return how many there are."""
    with store.transaction() as db:
        rows = db.execute("SELECT run_id, point FROM runs WHERE status = 'failed'").fetchall()
        base = store.scenario()
        again = [(run_id,) for run_id, point in rows if _is_legal(base, json.loads(point))]
        db.executemany(
            "UPDATE runs SET status = 'pending', error = '', error_at = NULL WHERE run_id = ?",
            again,
        )
    return len(again)


def _is_legal(scenario: Scenario, point: dict[str, Any]) -> bool:
    try:
        with_fields(scenario, point)
    except ScenarioError:
        return False
    return True


def _file_hashes(origin: str | Path | None) -> dict[str, str]:
    """Hash the curve file and the cost profile that a scenario file names."""
    if origin is None:
        return {}
    path, where = find_scenario(origin)
    data = read_yaml(path, where=where).data
    hashes = {}
    for parent, key in (("device", "curves"), ("workload", "profile")):
        part = data.get(parent) if isinstance(data, dict) else None
        name = part.get(key) if isinstance(part, dict) else None
        if isinstance(name, str):
            hashes[name] = hashlib.sha256((path.parent / name).read_bytes()).hexdigest()
    return hashes


def _refuse_others(store: Store, manifest: Mapping[str, Any], scenario: Scenario) -> None:
    if manifest["engine"] != ENGINE_VERSION:
        raise StoreError(
            f"{store.path}: its runs were made by version {manifest['engine']} of the engine, "
            f"this kdsim has version {ENGINE_VERSION}; use another store"
        )
    different = differences(store.scenario(), scenario)
    if different:
        listed = "\n".join(f"  {line}" for line in different[:12])
        raise StoreError(
            f"{store.path}: belongs to another scenario; use another store. Different are "
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


def _flat(scenario: Scenario) -> dict[str, Any]:
    flat: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(f"{prefix}.{key}" if prefix else key, inner)
        else:
            flat[prefix] = value

    visit("", scenario.facts())
    return flat
