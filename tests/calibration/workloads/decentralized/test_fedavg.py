"""Federated averaging."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from calibration.workloads.decentralized.clients import class_recalls
from calibration.workloads.decentralized.cohort import Material, client_of
from calibration.workloads.decentralized.exchange import state_bytes
from calibration.workloads.decentralized.fedavg import FedAvgPlan, average_states, run_fedavg
from calibration.workloads.training.checkpoints import snapshot
from calibration.workloads.training.networks import build_network
from kdsim.errors import WorkloadError

PLAN = FedAvgPlan(rounds=3, local_steps=2, batch=8)


def make_material(sizes):
    def labelled(count, seed):
        labels = torch.arange(count) % 4
        noise = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        return noise + labels[:, None, None, None], labels

    shares = [labelled(size, seed) for seed, size in enumerate(sizes)]
    return Material(shares=shares, public=torch.empty(0), test=labelled(40, 9), classes=4)


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(0, 50)), min_size=1, max_size=6).filter(
        lambda pairs: any(weight for _, weight in pairs)
    )
)
@settings(max_examples=100, deadline=None)
def test_the_average_weighs_by_samples(pairs):
    states = [{"w": torch.tensor([value], dtype=torch.float64)} for value, _ in pairs]
    weights = [weight for _, weight in pairs]
    expected = sum(v * w for v, w in pairs) / sum(weights)
    assert average_states(states, weights)["w"].item() == pytest.approx(expected, abs=1e-9)


def test_averaging_equal_states_gives_that_state_to_the_bit():
    state = snapshot(build_network("small-cnn", (1, 8, 8), 4, seed=0))
    averaged = average_states([state, state], [1, 1])
    assert all(
        torch.equal(averaged[k], v) and averaged[k].dtype == v.dtype for k, v in state.items()
    )


def test_unusable_weights_are_told_in_words():
    state = {"w": torch.zeros(1)}
    for weights in ([], [1, 1], [0.0], [-1.0]):
        with pytest.raises(WorkloadError, match="a weight >= 0 for each state"):
            average_states([state], weights)
    with pytest.raises(WorkloadError, match="local_steps must be at least 1"):
        replace(PLAN, local_steps=0)


def test_one_client_with_one_step_a_round_is_plain_sgd():
    material = make_material([24])
    plan = replace(PLAN, rounds=4, local_steps=1)
    client = client_of(material, plan, 0, common_start=True)
    for turn in range(plan.rounds):
        rate = plan.learning_rate * (1 + torch.cos(torch.tensor(torch.pi * turn / 4))).item() / 2
        batch, target = client.draw(plan.batch)
        client.network.train()
        gradients = torch.autograd.grad(
            functional.cross_entropy(client.network(batch), target),
            list(client.network.parameters()),
        )
        with torch.no_grad():
            for parameter, gradient in zip(client.network.parameters(), gradients, strict=True):
                parameter -= rate * gradient
    expected = class_recalls(client.network, *material.test, 4)
    (accuracy,) = run_fedavg(material, plan).accuracies
    assert accuracy.recalls == pytest.approx(tuple(expected))


def test_all_clients_end_with_one_model_and_its_bytes_are_counted():
    material = make_material([24, 16, 40])
    result = run_fedavg(material, PLAN)
    assert len({a.recalls for a in result.accuracies}) == 1
    assert [a.samples for a in result.accuracies] == [24, 16, 40]
    size = state_bytes(snapshot(build_network("small-cnn", (1, 8, 8), 4)))
    assert result.traffic.total == 2 * size * 3 * PLAN.rounds
    assert result.costs[0].comm_bytes == (size, 0) * PLAN.rounds
    assert run_fedavg(material, PLAN).accuracies == result.accuracies
