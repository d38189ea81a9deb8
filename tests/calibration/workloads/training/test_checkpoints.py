import errno
import os

import pytest
import torch

from calibration.workloads.training.checkpoints import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from kdsim.errors import WorkloadError


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    path = tmp_path / "t.pt"
    save_checkpoint(path, {"x": torch.arange(1000)}, {})
    path.write_bytes(path.read_bytes()[:-500] if damage is None else damage)
    with pytest.raises(WorkloadError, match=r"t\.pt is damaged or not a checkpoint"):
        load_checkpoint(path, {})


def test_a_single_flipped_bit_is_found(tmp_path):
    path, weights = tmp_path / "t.pt", torch.arange(1000.0)
    save_checkpoint(path, {"x": weights}, {})
    good = path.read_bytes()
    first = good.index(weights.numpy().tobytes())
    for place in (first, first + 2000):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(WorkloadError, match=r"t\.pt is damaged or not a checkpoint"):
            load_checkpoint(path, {})


@pytest.mark.parametrize("content", [{}, {"identity": {}}, {"identity": 3, "state": {}}])
def test_a_checkpoint_without_its_parts_is_none(tmp_path, content):
    torch.save({"format": 1, **content}, tmp_path / "t.pt")
    with pytest.raises(WorkloadError, match="not a checkpoint of format 1"):
        load_checkpoint(tmp_path / "t.pt", {})


def test_a_pickled_program_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "t.pt"
    torch.save(Harmful(), path)
    with pytest.raises(WorkloadError, match="damaged or not a checkpoint"):
        load_checkpoint(path, {})
    assert not (tmp_path / "harm").exists()


def test_other_tensors_are_not_taken_for_a_checkpoint(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "t.pt")
    with pytest.raises(WorkloadError, match="not a checkpoint of format 1"):
        load_checkpoint(tmp_path / "t.pt", {})


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "t.pt"
    save_checkpoint(path, {"epoch": 1}, {})

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left.*last good checkpoint is kept"):
        save_checkpoint(path, {"epoch": 2}, {})
    assert load_checkpoint(path, {}) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["t.pt"]
    assert CheckpointError.exit_code == 1
