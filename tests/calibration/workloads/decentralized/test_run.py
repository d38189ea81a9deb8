"""Decentralised rounds, in one process and in many."""

import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from calibration.workloads.decentralized.clients import class_recalls
from calibration.workloads.decentralized.cohort import Material, client_of
from calibration.workloads.decentralized.processes import _result, _Worker, run_in_processes
from calibration.workloads.decentralized.run import Plan, run_decentralized
from calibration.workloads.training.loops import state_digest
from calibration.workloads.training.networks import build_network
from calibration.workloads.training.weights import starting_weights
from kdsim.errors import DataError, TransportError, WorkloadError

CLASSES = 4
PLAN = Plan(rounds=6, batch=8, learning_rate=0.05)


def images_of(labels, seed):
    """Images that can be told apart: class k lights up quadrant k."""
    noise = torch.randn(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    for image, label in zip(noise, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 2.0
    return noise


def make_material(clients=3, samples=24):
    def labelled(count, seed):
        labels = torch.arange(count) % CLASSES
        return images_of(labels, seed), labels

    return Material(
        shares=[labelled(samples, seed) for seed in range(clients)],
        public=labelled(40, 100)[0],
        test=labelled(40, 101),
        classes=CLASSES,
    )


@pytest.fixture(scope="module")
def material():
    return make_material()


def plain_training(material, plan, index):
    """One client alone, written without the workload's code: SGD on cross-entropy."""
    client = client_of(material, plan, index)
    optimizer = torch.optim.SGD(client.network.parameters(), lr=1.0, momentum=plan.momentum)
    for turn in range(plan.rounds):
        batch, target = client.draw(plan.batch)
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * (1 + np.cos(np.pi * turn / plan.rounds)) / 2
        client.network.train()
        optimizer.zero_grad()
        functional.cross_entropy(client.network(batch), target).backward()
        optimizer.step()
    return client.network


@pytest.mark.parametrize("distil_on", ["public", "private"])
def test_alpha_one_is_training_without_distillation_to_the_bit(material, distil_on, monkeypatch):
    plan = replace(PLAN, alpha=1.0, distil_on=distil_on)
    seen = {}
    original = class_recalls

    def recording(network, *rest):
        seen[len(seen)] = state_digest(network)
        return original(network, *rest)

    monkeypatch.setattr("calibration.workloads.decentralized.clients.class_recalls", recording)
    result = run_decentralized(material, plan)
    for index in range(3):
        assert seen[index] == state_digest(plain_training(material, plan, index))
    assert result.traffic.total == 0


@pytest.mark.parametrize("case", ["sum", "average"])
@pytest.mark.parametrize("distil_on", ["public", "private"])
@pytest.mark.parametrize("refresh_every", [0, 2])
def test_equal_seeds_give_equal_results_and_others_do_not(material, case, distil_on, refresh_every):
    plan = replace(PLAN, case=case, distil_on=distil_on, refresh_every=refresh_every, rounds=3)
    first, again = run_decentralized(material, plan), run_decentralized(material, plan)
    assert first.accuracies == again.accuracies
    assert first.traffic == again.traffic
    other = run_decentralized(material, replace(plan, seed=1))
    assert other.accuracies != first.accuracies


def test_clients_teach_one_another_what_their_own_labels_lack():
    """Client k never sees class k + 1; without exchange it cannot name it."""
    full = make_material(clients=2, samples=48)
    shares = []
    for index, (images, labels) in enumerate(full.shares):
        kept = labels != index
        shares.append((images[kept], labels[kept]))
    material = replace(full, shares=shares)
    plan = replace(PLAN, rounds=40, measure="kl", batch=16)
    alone = run_decentralized(material, replace(plan, alpha=1.0))
    together = run_decentralized(material, replace(plan, alpha=0.5))
    for index in range(2):
        assert alone.accuracies[index].recalls[index] == 0.0
        assert together.accuracies[index].recalls[index] > 0.5


def test_private_accuracy_weighs_recalls_by_the_clients_own_labels(material):
    (accuracy, *_) = run_decentralized(material, PLAN).accuracies
    assert accuracy.mix == (0.25,) * 4
    assert accuracy.private == pytest.approx(accuracy.shared) == np.mean(accuracy.recalls)


def test_bytes_follow_the_graph_and_do_not_depend_on_the_case(material):
    logits = 4 * PLAN.batch * CLASSES
    images = 4 * PLAN.batch * 64

    def traffic(**changes):
        return run_decentralized(material, replace(PLAN, rounds=2, **changes)).traffic

    for case in ("sum", "average"):
        assert traffic(case=case).predictions == 2 * 6 * logits
        assert traffic(case=case, graph="star").predictions == 2 * 4 * logits
    private = traffic(distil_on="private")
    assert (private.predictions, private.samples) == (2 * 6 * logits, 2 * 6 * images)
    stale = traffic(refresh_every=2)
    assert stale.predictions == stale.samples == 0
    assert stale.checkpoints > 0


def test_costs_have_one_entry_a_round_for_each_client(material):
    result = run_decentralized(material, PLAN)
    for costs in result.costs:
        assert len(costs.comm_bytes) == len(costs.forward_s) == len(costs.backward_s) == 6
        assert min(costs.forward_s) > 0
        assert min(costs.backward_s) > 0
        assert set(costs.comm_bytes) == {2 * 4 * PLAN.batch * CLASSES}


def test_a_client_that_leaves_is_reported_and_the_others_go_on(material):
    result = run_decentralized(material, replace(PLAN, departures=((1, 2),)))
    assert [(d.client, d.round) for d in result.departures] == [(1, 2)]
    assert [a.client for a in result.accuracies] == [0, 2]
    received = result.costs[0].comm_bytes
    assert received[1] == 2 * received[2]


def test_the_last_client_without_teachers_learns_from_its_labels(material):
    plan = replace(PLAN, departures=((0, 0), (1, 0)))
    result = run_decentralized(material, plan)
    assert [a.client for a in result.accuracies] == [2]
    assert result.traffic.total == 0


def test_faults_are_told_in_words(material):
    with pytest.raises(WorkloadError, match="none is left"):
        run_decentralized(material, replace(PLAN, departures=((0, 1), (1, 1), (2, 1))))
    with pytest.raises(DataError, match="at least as many"):
        run_decentralized(replace(material, public=material.public[:4]), PLAN)
    empty = (material.shares[0][0][:0], material.shares[0][1][:0])
    with pytest.raises(DataError, match="client 1 has no samples"):
        run_decentralized(replace(material, shares=[material.shares[0], empty]), PLAN)
    with pytest.raises(WorkloadError, match="smaller learning rate"):
        run_decentralized(material, replace(PLAN, learning_rate=1e30))
    for wrong in ({"alpha": 1.5}, {"measure": "mse"}, {"batch": 1}, {"temperature": 0.0}):
        with pytest.raises(WorkloadError, match=next(iter(wrong))):
            replace(PLAN, **wrong)


def test_augmented_batches_are_own_images_flipped_and_shifted_and_labels_stay(material):
    plain, moved, again = (
        client_of(material, replace(PLAN, augment=augment), 0) for augment in (False, True, True)
    )
    for _ in range(4):
        (before, target), (after, kept), (same, _) = (c.draw(8) for c in (plain, moved, again))
        assert torch.equal(target, kept)
        assert torch.equal(after, same)
        assert not torch.equal(before, after)
        for image, shown in zip(before, after, strict=True):
            assert any(torch.equal(shown, view) for view in every_move(image))


def every_move(image):
    """Every flip and shift by up to two pixels, with zeros where nothing was."""
    for flipped in (image, image.flip(2)):
        wide = functional.pad(flipped, (2, 2, 2, 2))
        for top in range(5):
            for left in range(5):
                yield wide[:, top : top + 8, left : left + 8]


def test_clients_begin_with_the_weights_of_a_file(material, tmp_path):
    given = build_network("small-cnn", (1, 8, 8), CLASSES, seed=7)
    torch.save(given.state_dict(), tmp_path / "weights.pt")
    weights = starting_weights(tmp_path / "weights.pt")
    clients = [client_of(material, replace(PLAN, weights=weights), k) for k in range(2)]
    assert {state_digest(c.network) for c in clients} == {state_digest(given)}
    started = run_decentralized(material, replace(PLAN, weights=weights))
    assert started.accuracies != run_decentralized(material, PLAN).accuracies


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"distil_on": "public", "departures": ((1, 3),), "evaluate_every": 2},
        {"distil_on": "private", "graph": "ring", "case": "sum"},
        {"refresh_every": 2, "graph": "star", "augment": True},
    ],
    ids=["public-with-a-death", "private-ring", "stale-star-augmented"],
)
def test_processes_equal_one_process(material, changes):
    plan = replace(PLAN, rounds=5, **changes)
    apart, together = run_in_processes(material, plan), run_decentralized(material, plan)
    assert apart.accuracies == together.accuracies
    assert apart.traffic == together.traffic
    assert apart.departures == together.departures
    assert [c.comm_bytes for c in apart.costs] == [c.comm_bytes for c in together.costs]
    assert [c.accuracies for c in apart.costs] == [c.accuracies for c in together.costs]


def test_accuracies_in_between_change_nothing_else(material):
    plain = run_decentralized(material, replace(PLAN, rounds=5))
    watched = run_decentralized(material, replace(PLAN, rounds=5, evaluate_every=2))
    assert watched.accuracies == plain.accuracies
    assert [[r for r, _ in c.accuracies] for c in watched.costs] == [[2, 4]] * len(watched.costs)
    every = run_decentralized(material, replace(PLAN, rounds=5, evaluate_every=5))
    assert [c.accuracies[-1][1] for c in every.costs] == [a.shared for a in every.accuracies]


@pytest.mark.slow
def test_a_run_whose_every_process_dies_says_so(material):
    plan = replace(PLAN, rounds=3, departures=((0, 1), (1, 1)))
    pair = replace(material, shares=material.shares[:2])
    with pytest.raises(WorkloadError, match=r"no client reached the end.*client 1: left"):
        run_in_processes(pair, plan)


def client_processes():
    return {p.name: p.pid for p in multiprocessing.active_children() if "kdsim-client" in p.name}


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class StoppingClientOne:
    """A progress callback that stops client 1 after two rounds, and may let it go on."""

    def __init__(self, resume_after=None):
        self.resume_after, self.calls, self.processes = resume_after, 0, {}

    def __call__(self, rounds):
        if rounds < 2:
            return
        if not self.calls:
            self.processes = client_processes()
            os.kill(self.processes["kdsim-client-1"], signal.SIGSTOP)
        if self.calls == self.resume_after:
            os.kill(self.processes["kdsim-client-1"], signal.SIGCONT)
        self.calls += 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_client_that_stalls_is_ended_and_the_others_go_on_together(material):
    plan = replace(PLAN, rounds=200)
    stopping = StoppingClientOne()
    result = run_in_processes(material, plan, progress=stopping, timeout_s=3.0)
    (gone,) = result.departures
    assert gone.client == 1
    assert 0 < gone.round < plan.rounds
    assert "silent for 3 s" in gone.reason
    assert [a.client for a in result.accuracies] == [0, 2]
    for costs in result.costs:
        assert len(costs.comm_bytes) == plan.rounds
        assert costs.comm_bytes[0] == 2 * costs.comm_bytes[-1] > 0  # two teachers, then one
    assert len(stopping.processes) == 3
    assert not any(is_running(pid) for pid in stopping.processes.values())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_client_that_pauses_for_less_than_the_limit_is_waited_for(material):
    plan = replace(PLAN, rounds=50)
    stopping = StoppingClientOne(resume_after=3)  # after three heartbeats of the others
    apart = run_in_processes(material, plan, progress=stopping, timeout_s=4.0)
    together = run_decentralized(material, plan)
    assert stopping.calls > 3
    assert apart.departures == ()
    assert apart.accuracies == together.accuracies
    assert apart.traffic == together.traffic


def test_clients_that_lost_each_other_but_lived_on_are_a_fault():
    outcome = {"accuracy": {"client": 0}, "lost": [2]}
    workers = [_Worker(0, None, outcome=outcome), _Worker(2, None, outcome=outcome)]
    with pytest.raises(TransportError, match="client 0 lost its connection to client 2"):
        _result(workers)
