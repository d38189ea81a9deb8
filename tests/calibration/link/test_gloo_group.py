"""Processes that exchange tensors over gloo: they meet, and nobody else can reach them."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MEMBER = """
import sys
import torch
import torch.distributed as dist
from calibration.link.gloo_group import join_group
rank, world = int(sys.argv[2]), int(sys.argv[3])
join_group(sys.argv[1], rank, world, float(sys.argv[4]))
total = torch.tensor([float(rank)])
dist.all_reduce(total)
print(total.item(), flush=True)
sys.stdin.read()
dist.destroy_process_group()
"""


def member(meeting: Path, rank: int, world: int, timeout_s: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", MEMBER, str(meeting), str(rank), str(world), str(timeout_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": ""},
    )


def listening(pid: int) -> list[str]:
    """Return the addresses on which a process accepts connections (Linux)."""
    sockets = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = [raw[i : i + 4][::-1] for i in range(0, len(raw), 4)]
                found.append(str(ipaddress.ip_address(b"".join(words))))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_members_meet_and_listen_on_loopback_only(tmp_path):
    members = [member(tmp_path / "meeting", rank, 2, 60) for rank in range(2)]
    try:
        assert [process.stdout.readline() for process in members] == ["1.0\n", "1.0\n"]
        addresses = [address for process in members for address in listening(process.pid)]
    finally:
        for process in members:
            _, errors = process.communicate("", timeout=60)
            assert process.returncode == 0, errors
    assert addresses
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)


def test_a_member_whose_peer_never_comes_gives_up(tmp_path):
    alone = member(tmp_path / "meeting", 0, 2, 1)
    _, errors = alone.communicate("", timeout=60)
    assert alone.returncode != 0
    assert "RuntimeError" in errors or "DistStoreError" in errors or "timeout" in errors.lower()
