import errno
import os

import numpy as np
import pytest
import torch

from calibration.workloads.training.checkpoints import (
    CheckpointError,
    load_checkpoint,
    read_weights,
    save_checkpoint,
)
from kdsim.errors import WorkloadError


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    path = tmp_path / "t.pt"
    save_checkpoint(path, {"x": torch.arange(1000)}, {})
    path.write_bytes(path.read_bytes()[:-500] if damage is None else damage)
    with pytest.raises(WorkloadError, match=r"t\.pt is damaged or not a file"):
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
        with pytest.raises(WorkloadError, match=r"t\.pt is damaged or not a file"):
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
    with pytest.raises(WorkloadError, match="damaged or not a file"):
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


# --- weights of a user ----------------------------------------------------------------------------


def saved(path, content):
    torch.save(content, path)
    return path


def test_weights_survive_their_file(tmp_path):
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}
    found = read_weights(saved(tmp_path / "w.pt", state))
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds dict, not a state dict of tensors"),
        ([torch.zeros(1)], "holds list, not a state dict"),
        ({0: torch.zeros(1)}, "names its tensors, got the key 0"),
        ({"a": 1.5}, "'a' must be a dense tensor, got float"),
        ({"a": {"b": torch.zeros(1)}}, "'a' must be a dense tensor, got dict"),
        ({"a": torch.eye(2).to_sparse()}, "'a' must be a dense tensor"),
        ({"a": torch.tensor([1.0, float("nan")])}, "'a' holds NaN or infinite values"),
        ({"a": torch.tensor([float("inf")])}, "'a' holds NaN or infinite values"),
    ],
)
def test_what_is_no_state_dict_of_finite_tensors_is_refused(tmp_path, content, said):
    with pytest.raises(WorkloadError, match=said):
        read_weights(saved(tmp_path / "w.pt", content))


def test_damaged_weights_are_refused_or_unchanged(tmp_path):
    """Three hundred single damages: each is an error of ours, or changes nothing that is read."""
    state = {"a.weight": torch.arange(300.0), "b.weight": torch.ones(7, 3)}
    path = saved(tmp_path / "w.pt", state)
    good, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        bad = bytearray(good)
        for place in rng.integers(0, len(good), size=rng.integers(1, 4)):
            bad[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bad if rng.random() < 0.8 else bad[: rng.integers(0, len(bad))])
        try:
            found = read_weights(path)
        except WorkloadError:
            refused += 1
        else:
            assert found.keys() == state.keys()
            assert all(torch.equal(found[name], state[name]) for name in state)
    assert refused > 200


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(WorkloadError, match=r"absent\.pt: no such file"):
        read_weights(tmp_path / "absent.pt")
