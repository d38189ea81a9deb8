"""Multi-headed distillation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from calibration.workloads.decentralized.cohort import Material, client_of
from calibration.workloads.decentralized.exchange import CheckpointPool, state_bytes
from calibration.workloads.decentralized.multihead import (
    MultiHeadNet,
    MultiHeadPlan,
    chain_loss,
    embedding_loss,
    most_confident,
    run_multihead,
)
from calibration.workloads.decentralized.run import Plan, run_decentralized
from calibration.workloads.training.networks import build_network
from kdsim.errors import DataError, WorkloadError

PLAN = MultiHeadPlan(rounds=4, heads=2, batch=8, refresh_every=2)


def labelled(count, seed):
    """Images whose class lights up one quadrant."""
    labels = torch.arange(count) % 4
    images = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 2.0
    return images, labels


def disjoint_material(samples=64):
    """Two clients: one sees classes 0 and 1 alone, the other 2 and 3."""
    shares = []
    for index in range(2):
        images, labels = labelled(samples, index)
        kept = labels // 2 == index
        shares.append((images[kept], labels[kept]))
    return Material(shares=shares, public=labelled(80, 5)[0], test=labelled(80, 6), classes=4)


def random_logits(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_most_confident_model_wins_sample_by_sample():
    sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    first, second = torch.cat([sure, unsure]), torch.cat([unsure, sure])
    assert torch.equal(most_confident([first, second]), torch.cat([sure, sure]))


def test_confidence_is_still_ordered_where_probabilities_round_to_one():
    clear, vague = torch.tensor([[0.0, 15.0]]), torch.tensor([[14.0, 0.0]])
    assert torch.equal(most_confident([vague, clear]), clear)


def test_each_auxiliary_head_learns_from_the_head_before_it():
    own = [random_logits(n, 5, 3).requires_grad_() for n in range(3)]
    teacher = [1e4 * random_logits(n + 10, 5, 3) for n in range(3)]  # always the more confident
    loss = chain_loss(own, [teacher])
    expected = sum(
        functional.cross_entropy(own[n], functional.softmax(teacher[n - 1], dim=1)) for n in (1, 2)
    )
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert own[0].grad is None  # the main head is a target, never a learner here
    assert own[1].grad is not None


def test_the_chain_loss_of_two_samples_worked_out_by_hand():
    """The teacher is surer of the first sample (0.9 to 0.75), the client of the second."""
    own_main = torch.tensor([[1.0, 3.0], [19.0, 1.0]]).log()  # probabilities .25 .75, .95 .05
    teacher_main = torch.tensor([[9.0, 1.0], [1.0, 9.0]]).log()  # .9 .1, .1 .9
    auxiliary = torch.tensor([[4.0, 1.0], [1.0, 3.0]]).log()  # .8 .2, .25 .75
    first = -0.9 * math.log(0.8) - 0.1 * math.log(0.2)
    second = -0.95 * math.log(0.25) - 0.05 * math.log(0.75)
    loss = chain_loss([own_main, auxiliary], [[teacher_main, torch.full((2, 2), 50.0)]])
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_embedding_loss_ignores_length_and_vanishes_on_equal_directions():
    embedding = random_logits(1, 6, 4)
    assert embedding_loss(embedding, [3 * embedding]).item() == pytest.approx(0.0, abs=1e-12)
    assert embedding_loss(embedding, [-embedding]).item() == pytest.approx(4.0, rel=1e-5)


def test_the_network_has_a_main_and_different_auxiliary_heads():
    base = build_network("small-cnn", (1, 8, 8), 4, seed=0)
    images = random_logits(2, 3, 1, 8, 8)
    base.eval()
    expected = base(images)
    network = MultiHeadNet(base, 2, torch.Generator().manual_seed(0)).eval()
    embedding, logits = network(images)
    assert embedding.shape == (3, 64)
    assert torch.equal(logits[0], expected)
    assert len(logits) == 3
    assert not torch.equal(logits[1], logits[2])


def test_auxiliary_heads_may_be_deeper_and_the_main_one_never_is():
    base = build_network("small-cnn", (1, 8, 8), 4, seed=0)
    network = MultiHeadNet(base, 2, torch.Generator().manual_seed(0), layers=3)
    linear = [
        [tuple(m.weight.shape) for m in head.modules() if isinstance(m, torch.nn.Linear)]
        for head in network.heads
    ]
    assert linear == [[(4, 64)], *[[(64, 64), (64, 64), (4, 64)]] * 2]
    bound = 1 / math.sqrt(64)
    for head in list(network.heads)[1:]:
        assert all(float(p.detach().abs().max()) <= bound for p in head.parameters())
    embedding, logits = network.eval()(random_logits(2, 3, 1, 8, 8))
    first, _, second, _, last = network.heads[2]
    torch.testing.assert_close(logits[2], last(second(first(embedding).relu()).relu()))
    material = disjoint_material()
    deep, flat = (run_multihead(material, replace(PLAN, head_layers=n)) for n in (2, 1))
    assert deep.traffic.total > flat.traffic.total  # their checkpoints are larger
    assert deep.heads[0] != flat.heads[0]  # the features learn through them


def test_after_a_warm_up_the_last_head_knows_what_labels_alone_never_teach():
    """The main head keeps to its own classes; the last head knows the other client's as well."""
    material = disjoint_material()
    alone = run_decentralized(material, Plan(rounds=60, alpha=1.0, batch=16))
    result = run_multihead(
        material, MultiHeadPlan(rounds=60, warm_up=30, heads=2, batch=16, refresh_every=2)
    )
    for client in range(2):
        main, last = result.heads[0][client], result.heads[-1][client]
        assert main.private > 0.9
        assert main.shared < 0.55  # half of the classes are unknown to it
        assert alone.accuracies[client].shared < 0.55
        assert last.shared > 0.8
        assert last.private > 0.8


def test_the_warm_up_is_training_on_labels_alone_to_the_bit(monkeypatch):
    """The first checkpoints that travel hold the weights it ended with."""
    material = disjoint_material()
    plan = replace(PLAN, rounds=10, warm_up=6)
    fetched = {}
    original = CheckpointPool.add

    def recording(self, owner, step, state):
        fetched.setdefault(owner, (step, state))
        original(self, owner, step, state)

    monkeypatch.setattr(CheckpointPool, "add", recording)
    traffic = run_multihead(material, plan).traffic
    assert sorted(fetched) == [0, 1]
    for owner, (step, state) in fetched.items():
        assert step == plan.warm_up
        alone = trained_alone(material, plan, owner)
        main = {k: v for k, v in state.items() if not k.startswith(("heads.1", "heads.2"))}
        assert all(torch.equal(v, w) for v, w in zip(main.values(), alone.values(), strict=True))
    size = state_bytes(state)
    assert traffic.total == 2 * 2 * size  # refreshes in rounds 6 and 8, none before


def trained_alone(material, plan, index):
    """Weights of a client after the warm-up, written without the workload's loop."""
    client = client_of(material, plan, index)
    for turn in range(plan.warm_up):
        rate = plan.learning_rate * 0.5 * (1 + math.cos(math.pi * turn / plan.rounds))
        client.optimizer.param_groups[0]["lr"] = rate
        client.learn(client.draw(plan.batch), None, 1.0, None)
    return client.network.state_dict()


def test_equal_seeds_give_equal_results_and_bytes_are_counted():
    material = disjoint_material()
    first, again = run_multihead(material, PLAN), run_multihead(material, PLAN)
    assert first.heads == again.heads
    network = MultiHeadNet(build_network("small-cnn", (1, 8, 8), 4), 2, torch.Generator())
    size = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    assert first.traffic.checkpoints == 2 * 2 * size  # two refreshes of two clients


def test_without_teachers_the_auxiliary_heads_do_not_move_the_main_one():
    alone = replace(disjoint_material(), shares=disjoint_material().shares[:1])
    with_heads = run_multihead(alone, PLAN)
    without = run_multihead(alone, replace(PLAN, heads=0))
    assert with_heads.heads[0] == without.heads[0]
    assert with_heads.traffic.total == 0


def test_faults_are_told_in_words():
    material = disjoint_material()
    with pytest.raises(DataError, match="at least as many public"):
        run_multihead(replace(material, public=material.public[:2]), PLAN)
    with pytest.raises(WorkloadError, match="heads must be at least 0"):
        replace(PLAN, heads=-1)
    with pytest.raises(WorkloadError, match="head_layers must be at least 1"):
        replace(PLAN, head_layers=0)
    for wrong in (-1, PLAN.rounds):
        with pytest.raises(WorkloadError, match="warm_up must be"):
            replace(PLAN, warm_up=wrong)
    with pytest.raises(WorkloadError, match="smaller learning rate"):
        run_multihead(material, replace(PLAN, learning_rate=1e30))
    assert np.isfinite(run_multihead(material, PLAN).heads[0][0].shared)
