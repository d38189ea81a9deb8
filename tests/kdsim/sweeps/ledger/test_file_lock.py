"""One writer of a store, by whatever name it is opened."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdsim.errors import StoreError
from kdsim.sweeps.ledger import file_lock
from kdsim.sweeps.ledger.file_lock import FileInUse
from kdsim.sweeps.ledger.store import Store

ROOT = Path(__file__).resolve().parents[4]
HOLD = """
import sys
from kdsim.sweeps.ledger.store import Store
with Store.open(sys.argv[1], "w"):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path):
    """Open a store for writing in another process; return its path and that process."""
    path = tmp_path / "s.sqlite"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert holder.stdout.readline() == "open\n"
    yield path, holder
    holder.kill()
    holder.communicate(timeout=30)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the lock goes by name")
@pytest.mark.parametrize("how", ["itself", "symbolic link", "hard link", "through a folder's link"])
def test_a_second_writer_is_refused_whatever_name_it_uses(tmp_path, held, how):
    path, _ = held
    other = tmp_path / "other"
    if how == "itself":
        other = path
    elif how == "symbolic link":
        other.symlink_to(path)
    elif how == "hard link":
        other.hardlink_to(path)
    else:
        other.symlink_to(tmp_path, target_is_directory=True)
        other = other / path.name
    with pytest.raises(StoreError, match=r"another sweep is writing|is a hard link"):
        Store.open(other, "w")


def test_a_writer_that_was_killed_locks_nobody_out(held):
    path, holder = held
    with pytest.raises(StoreError, match="another sweep is writing"):
        Store.open(path, "w")
    holder.send_signal(signal.SIGKILL)
    holder.wait(timeout=30)
    Store.open(path, "w").close()


def test_a_store_with_two_names_is_not_written(tmp_path):
    Store.open(tmp_path / "s.sqlite", "w").close()
    (tmp_path / "other.sqlite").hardlink_to(tmp_path / "s.sqlite")
    for name in ("s.sqlite", "other.sqlite"):
        with pytest.raises(StoreError, match="two names of one store destroy it"):
            Store.open(tmp_path / name, "w")
        Store.open(tmp_path / name).close()


def test_a_store_mounted_as_a_single_file_is_read_and_not_written(tmp_path, monkeypatch):
    path = tmp_path / "my store.sqlite"
    Store.open(path, "w").close()
    mounts = tmp_path / "mountinfo"
    place = str(path.resolve()).replace(" ", r"\040")
    mounts.write_text(
        f"24 1 0:22 / /proc rw shared:5 - proc proc rw\n29 1 8:1 /s {place} rw - ext4 /dev/a rw\n"
    )
    monkeypatch.setattr(file_lock, "_MOUNTS", mounts)
    with pytest.raises(StoreError, match="mount the folder that holds the store"):
        Store.open(path, "w")
    Store.open(path).close()
    Store.open(tmp_path / "other.sqlite", "w").close()


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
def test_descriptors_are_closed_with_the_last_connection(tmp_path):
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    path = tmp_path / "s.sqlite"
    before = count()
    reader = None
    for _ in range(3):
        with Store.open(path, "w") as store:
            assert store.path == str(path)
        reader = reader or Store.open(path)
    reader.close()
    assert count() == before


def test_a_file_that_is_replaced_is_another_file(tmp_path):
    one, two = tmp_path / "s", tmp_path / "t"
    first = FileInUse(str(one), writing=True)
    assert first.lock()
    two.touch()
    two.replace(one)
    second = FileInUse(str(one), writing=True)
    assert second.lock()
    first.close()
    second.close()
    second.close()
