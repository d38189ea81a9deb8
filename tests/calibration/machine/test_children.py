"""Children end with the process that started them, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from calibration.machine import shares

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

#: A process with two busy children, held down as virtual cores are; it says who they are.
PARENT = """
import os, sys, time
from calibration.machine import children, shares

def spin(pipe):
    children.end_with_parent()
    pipe.send_bytes(b"on")
    while True:
        pass

if __name__ == "__main__":
    context = children.fork_server(["calibration.machine.children"])
    made = shares.make_shares(["comm", "comp"], 1, prefer_cgroup=sys.argv[1] == "cgroup")
    started = []
    for share in made:
        ours, theirs = context.Pipe()
        child = context.Process(target=spin, args=(theirs,), daemon=True)
        child.start()
        ours.recv_bytes()
        share.add(child.pid)
        share.set(0.05)
        started.append(child)
    print(made[0].method, *(child.pid for child in started), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "parent.py"
    path.write_text(textwrap.dedent(PARENT))
    return path


def start(script, way):
    parent = subprocess.Popen(
        [sys.executable, str(script), way],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    method, *pids = parent.stdout.readline().rsplit(maxsplit=2)
    return parent, method, [int(pid) for pid in pids]


def is_there(pid):
    return shares._start_time(pid) != ""


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("way", ["cgroup", "duty cycle"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_held_down_children_of_a_killed_process_end_with_it(script, way, number):
    parent, _, pids = start(script, way)
    try:
        assert all(is_there(pid) for pid in pids)
        parent.send_signal(number)
        parent.wait(timeout=20)
        wait_until(lambda: not any(is_there(pid) for pid in pids))
    finally:
        parent.kill()
        parent.wait(timeout=20)
        parent.stdout.close()
        parent.stderr.close()
    shares.remove_leftovers(shares._own_group())
    assert not list(shares._own_group().glob(f"kdsim-*-{parent.pid}-*"))


def test_ctrl_c_reaches_the_parent_alone(script):
    parent, _, pids = start(script, "duty cycle")
    try:
        for pid in pids:
            os.kill(pid, signal.SIGINT)  # as a terminal would
            assert os.getpgid(pid) != os.getpgid(parent.pid)
        parent.send_signal(signal.SIGINT)
        _, errors = parent.communicate(timeout=20)
    finally:
        parent.kill()
        parent.wait(timeout=20)
    assert errors.count("Traceback") == 1  # the script's own
    wait_until(lambda: not any(is_there(pid) for pid in pids))


# --- control groups that a killed run left behind -------------------------------------------------


class Groups:
    """A folder that looks like the control groups of a machine."""

    def __init__(self, folder: Path):
        self.folder = folder

    def make(self, name):
        (self.folder / name).mkdir()
        return name

    @property
    def names(self):
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def groups(tmp_path):
    return Groups(tmp_path)


def test_only_what_is_provably_of_a_run_that_is_gone_is_removed(groups):
    here, me, began = shares._namespace(), os.getpid(), shares._start_time(os.getpid())
    gone = {
        groups.make(f"kdsim-{here}-{2**22 + 1}-{began}-comm"),  # no such process
        groups.make(f"kdsim-{here}-{me}-{int(began) - 1}-comp"),  # its number was given anew
    }
    kept = {
        groups.make(f"kdsim-{here}-{me}-{began}-comm"),  # going on
        groups.make(f"kdsim-{int(here) + 1}-{2**22 + 1}-{began}-comm"),  # of another container
        groups.make("kdsim-1-comm"),
        groups.make("kdsim-of-somebody-else"),
        groups.make("system.slice"),
    }
    assert set(shares.remove_leftovers(groups.folder)) == gone
    assert groups.names == kept


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path):
    assert shares.remove_leftovers(tmp_path / "absent") == []
