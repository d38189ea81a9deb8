import pytest
import torch

from calibration.workloads.aflkd.depths import depth_costs
from kdsim.errors import WorkloadError


def test_every_depth_is_timed_with_the_bytes_of_one_batch():
    state = torch.random.get_rng_state()
    cycles = depth_costs("edge-2", (1, 8, 8), 10, batch_size=4, steps=2)
    assert [c.frozen_layers for c in cycles] == [n for n in range(6) for _ in range(2)]
    assert {c.downlink_bytes for c in cycles} == {4 * (40 + 1)}
    assert {c.uplink_bytes for c in cycles} == {4 * 64}
    assert min(c.backward_s for c in cycles) > 0
    assert torch.equal(state, torch.random.get_rng_state())


def test_counts_that_cannot_train_are_refused():
    with pytest.raises(WorkloadError, match="batch_size of 2 or more"):
        depth_costs("edge-1", (1, 8, 8), 10, batch_size=1)
