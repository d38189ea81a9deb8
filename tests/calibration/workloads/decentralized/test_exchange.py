"""Exchange graphs, rolling pools and packed checkpoints."""

import numpy as np
import pytest
import torch

from calibration.workloads.decentralized.exchange import (
    CheckpointPool,
    ExchangeGraph,
    exchange_graph,
    pack_state,
    received_bytes,
    state_bytes,
    supplier,
    unpack_state,
)
from calibration.workloads.training.checkpoints import snapshot
from calibration.workloads.training.networks import build_network
from kdsim.errors import WorkloadError


def test_named_graphs_connect_as_their_names_say():
    assert exchange_graph("complete", 3).teachers == ((1, 2), (0, 2), (0, 1))
    assert exchange_graph("ring", 4).teachers == ((1, 3), (0, 2), (1, 3), (0, 2))
    assert exchange_graph("ring", 2).teachers == ((1,), (0,))
    assert exchange_graph("star", 4).teachers == ((1, 2, 3), (0,), (0,), (0,))
    assert exchange_graph("complete", 1).teachers == ((),)
    assert exchange_graph("complete", 5).edges == 20
    assert exchange_graph("star", 4).learners(0) == (1, 2, 3)


def test_a_graph_is_read_from_a_file_of_edges(tmp_path):
    path = tmp_path / "edges.txt"
    path.write_text("# teacher learner\n0 1\n\n1 2   # and so on\n0 1\n")
    assert exchange_graph(str(path), 3).teachers == ((), (0,), (1,))


@pytest.mark.parametrize("line", ["0 3", "1", "1 1", "a b", "0 1 2", "-1 0"])
def test_a_faulty_edge_is_named_with_its_line(tmp_path, line):
    path = tmp_path / "edges.txt"
    path.write_text(f"0 1\n{line}\n")
    with pytest.raises(WorkloadError, match=r"edges\.txt:2: .*clients of 0 to 2"):
        exchange_graph(str(path), 3)


def test_unknown_graphs_and_self_teaching_are_refused():
    with pytest.raises(WorkloadError, match="complete, ring, star"):
        exchange_graph("torus", 3)
    with pytest.raises(WorkloadError, match="client 1 cannot learn from 1"):
        ExchangeGraph("odd", ((1,), (1,)))


def test_bytes_of_a_round_are_counted_exactly():
    public = received_bytes(2, 32, 10, 784, distil_on="public")
    assert (public.predictions, public.samples, public.total) == (2560, 0, 2560)
    private = received_bytes(2, 32, 10, 784, distil_on="private")
    assert private.samples == 2 * 32 * 784 * 4
    assert (public + private).predictions == 5120


def test_a_rolling_pool_keeps_the_newest_and_draws_different_ones():
    pool = CheckpointPool(2)
    for step in range(4):
        pool.add(0, step, {})
    assert [step for _, step, _ in pool.entries] == [2, 3]
    drawn = pool.draw(5, np.random.default_rng(0))
    assert sorted(step for _, step, _ in drawn) == [2, 3]


def test_every_process_agrees_on_who_supplies_a_checkpoint():
    graph = exchange_graph("complete", 4)
    chosen = [supplier(graph, 2, n, seed=5) for n in range(40)]
    assert chosen == [supplier(graph, 2, n, seed=5) for n in range(40)]
    assert set(chosen) == {0, 1, 3}
    assert supplier(exchange_graph("complete", 1), 0, 0, seed=5) is None


def test_a_checkpoint_survives_packing_to_the_bit():
    network = build_network("small-cnn", (1, 8, 8), 10, seed=1)
    network(torch.randn(4, 1, 8, 8))  # moves BatchNorm's counters, which are integers
    state = snapshot(network)
    packed = pack_state(state)
    assert packed.numel() == state_bytes(state)
    back = unpack_state(packed, state)
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k, v in state.items())


def test_a_snapshot_does_not_follow_training():
    network = build_network("small-cnn", (1, 8, 8), 10, seed=1)
    before = snapshot(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
    assert not torch.equal(before["head.1.weight"], network.state_dict()["head.1.weight"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"0 1\n\xff 2\n", "must be text in UTF-8, got the byte 0xff at position 4"),
        (b"0 1\n1 " + b"9" * 5000, r":2: an edge is two different clients of 0 to 2"),
        ("0 \u0662\n".encode(), r":1: an edge is two different clients"),
        (b"0 -1", r":1: an edge is two different clients"),
    ],
)
def test_what_is_no_file_of_edges_is_refused_in_a_line(tmp_path, content, said):
    path = tmp_path / "graph"
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=said) as caught:
        exchange_graph(str(path), 3)
    assert len(str(caught.value)) < 400 + len(str(path))
