import torch
from hypothesis import given
from hypothesis import strategies as st

from calibration.workloads.training.seeds import batches, derive_seed, own_random_state


@given(count=st.integers(1, 200), batch_size=st.integers(1, 40))
def test_batches_hold_each_index_once_and_none_alone(count, batch_size):
    parts = batches(count, batch_size, generator=torch.Generator())
    assert sorted(torch.cat(parts).tolist()) == list(range(count))
    assert all(len(part) <= batch_size + 1 for part in parts)
    if count > 1 and batch_size > 1:
        assert min(len(part) for part in parts) > 1


def test_seeds_of_different_purposes_differ():
    seeds = {derive_seed(s, p, e) for s in range(5) for p in ("order", "dropout") for e in range(5)}
    assert len(seeds) == 50
    assert all(0 <= s < 2**63 for s in seeds)


def test_own_random_state_leaves_the_global_one_alone():
    state = torch.random.get_rng_state()
    with own_random_state(0, "dropout"):
        first = torch.rand(3)
    assert torch.equal(state, torch.random.get_rng_state())
    with own_random_state(0, "dropout"):
        assert torch.equal(first, torch.rand(3))
