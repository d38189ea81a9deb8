"""Stores damaged at random: they export what was written, or say that they are damaged."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from budget import rounds

from kdsim.api import sweep
from kdsim.errors import StoreError
from kdsim.scenario.validate import scenario_from_data
from kdsim.sweeps.ledger.store import Store

STUDY = {
    "name": "fuzzed",
    "device": {
        "cores": 4,
        "compute": {"a1": 1.0, "a2": 0.25},
        "communication": {"b1": 0.3, "b2": 0.1, "b3": 2.0},
    },
    "workload": {"cycles": 3, "comm": 1.0, "forward": 1.0, "backward": 0.5},
    "policies": ["random", "greedy", "static:3"],
    "replications": 40,
    "sweep": {"device.cores": [2, 3, 4], "seed": [0, 1, 2, 3]},
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> tuple[bytes, bytes, list[str]]:
    """Return a store's file, its exports, and the columns of its tables."""
    path = tmp_path_factory.mktemp("sound") / "s.sqlite"
    sweep(scenario_from_data(STUDY), path)
    db = sqlite3.connect(path)
    names = [row[1] for row in db.execute("PRAGMA table_info(runs)")]
    db.close()
    return path.read_bytes(), exported(path), names


def exported(path: Path) -> bytes:
    with Store.open(path) as store:
        state = str(store.state())
        parts = []
        for expand in (False, True):
            target = path.with_suffix(f".{expand}.csv")
            store.export(target, expand=expand)
            parts.append(target.read_bytes())
    return b"".join([state.encode(), *parts])


def exported_or_refused(path: Path, *, continued: bool = False) -> bytes | None:
    """Return what a store exports, None if it is refused in words; then remove it."""
    try:
        if continued:
            sweep(scenario_from_data(STUDY), path)
        return exported(path)
    except StoreError as error:
        if not str(error).startswith(f"{path}: "):
            raise
        return None
    finally:
        for file in path.parent.glob(f"{path.stem}.*"):
            file.unlink()


def damage(content: bytes, choose: random.Random) -> bytes:
    """Damage a file as disks, copies and transfers do."""
    data = bytearray(content)
    kind = choose.choice(["bit", "bytes", "zeros", "cut", "swap", "repeat", "shift"])
    at = choose.randrange(100, len(data))  # the first 100 bytes are SQLite's own header
    if kind == "bit":
        data[at] ^= 1 << choose.randrange(8)
    elif kind == "bytes":
        for _ in range(choose.randint(1, 30)):
            data[choose.randrange(100, len(data))] = choose.randrange(256)
    elif kind == "zeros":
        size = choose.choice([8, 64, 256, 512, 4096])
        data[at : at + size] = bytes(len(data[at : at + size]))
    elif kind == "cut":
        del data[-choose.choice([1, 8, 256, 512, 4096, 8192]) :]
    elif kind in ("swap", "repeat"):
        pages = len(data) // 4096
        a, b = choose.randrange(1, pages) * 4096, choose.randrange(1, pages) * 4096
        one, other = data[a : a + 4096], data[b : b + 4096]
        data[a : a + 4096] = other
        if kind == "swap":
            data[b : b + 4096] = one
    else:
        data.insert(at, choose.randrange(256))
    return bytes(data)


@pytest.mark.parametrize("seeds", rounds(120, 6000))
def test_a_damaged_file_never_exports_other_numbers(tmp_path, sound, seeds):
    content, whole, _ = sound
    refused = 0
    for seed in seeds:
        path = tmp_path / f"{seed}.sqlite"
        path.write_bytes(damage(content, random.Random(seed)))
        found = exported_or_refused(path)
        assert found in (None, whole), f"seed {seed}"
        refused += found is None
    assert refused > len(seeds) / 2  # else the damage hits nothing


ODD_VALUES = (
    None, "", "\x00", "nonsense", "[" * 20_000, "1e999", "NaN", '{"seed": 1e400}', "\ufeff{}",
    b"", b"\xff", b"\x00" * 8, b"\x00" * 320, b"\xff" * 320, 0, -1, 2**62, 1e300, -0.5,
)  # fmt: skip


@pytest.mark.parametrize("seeds", rounds(60, 4000))
def test_odd_values_in_a_row_are_refused(tmp_path, sound, seeds):
    content, whole, names = sound
    for seed in seeds:
        choose = random.Random(seed)
        path = tmp_path / f"{seed}.sqlite"
        path.write_bytes(content)
        column, value = choose.choice(names), choose.choice(ODD_VALUES)
        db = sqlite3.connect(path)
        try:
            db.execute("PRAGMA ignore_check_constraints = ON")
            where = choose.choice(["", f" WHERE rowid = {choose.randint(1, 30)}"])
            db.execute(f"UPDATE OR REPLACE runs SET {column} = ?{where}", (value,))
            db.commit()
        except sqlite3.IntegrityError:
            continue  # SQLite itself refuses to write this
        finally:
            db.close()
        assert exported_or_refused(path) in (None, whole), (column, value)


@pytest.mark.parametrize("seeds", rounds(20, 400))
def test_a_damaged_store_is_continued_to_the_same_numbers_or_refused(tmp_path, sound, seeds):
    content, whole, _ = sound
    for seed in seeds:
        path = tmp_path / f"{seed}.sqlite"
        path.write_bytes(damage(content, random.Random(seed)))
        assert exported_or_refused(path, continued=True) in (None, whole), f"seed {seed}"
