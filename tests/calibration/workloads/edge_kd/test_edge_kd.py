from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional

from calibration.bench.processes import Shared
from calibration.bench.replay import LiveRun, Task
from calibration.commands.edge_kd import command
from calibration.link.frames import FrameType, payload_matrix, receive_frame, send_frame
from calibration.link.server import KnowledgeServer
from calibration.link.stream import KnowledgeStream, RemoteTeacher
from calibration.workloads.data.datasets import load
from calibration.workloads.edge_kd import cloud as edge_kd_cloud
from calibration.workloads.edge_kd import config as edge_kd
from calibration.workloads.edge_kd import study as edge_kd_study
from calibration.workloads.edge_kd.cloud import build_source
from calibration.workloads.edge_kd.config import EdgeConfig, spec_of
from calibration.workloads.edge_kd.student import EdgeStudent
from calibration.workloads.edge_kd.study import EdgeRun, run_once, run_study, save_profile
from calibration.workloads.training.loops import predict
from calibration.workloads.training.networks import build_network
from calibration.workloads.training.seeds import derive_seed
from kdsim.errors import TransportError, UnknownPolicyError, WorkloadError
from kdsim.scenario.parts.profile import read_profile

CONFIG = EdgeConfig(
    teacher_images=200, private_images=40, public_images=64, teacher_epochs=1, epochs=2, batch=16
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("edge")
    edge_kd_cloud.prepare_teacher(CONFIG, path)
    return path


def shared_with(rows: np.ndarray, *, slots: int = 1) -> Shared:
    """A store as if the first batch had come in one chunk, and the second lay in the next slot."""
    store = np.ascontiguousarray(rows, dtype=np.float32)
    return Shared(
        lock=None, control=None, grant_end=[1] * 8, done=None, store=store, slots=slots,
        columns=store.shape[1], chunk_rows=len(store) // slots,
    )  # fmt: skip


def loss_of(cycle, shared, folder, method="response", **changes):
    """The loss of one step at a cycle."""
    student = EdgeStudent(spec_of(replace(CONFIG, **changes), method, 0, folder), shared)
    student.forward(cycle, 0, 1)
    student.backward(cycle, 0, 1)
    return student.report()["loss"]


# --- data -----------------------------------------------------------------------------------------


def test_both_sides_agree_on_the_public_batches_and_each_image_comes_once_an_epoch():
    for seed in (0, 1):
        epoch = [edge_kd.public_rows(CONFIG, seed, cycle) for cycle in range(4)]
        assert sorted(np.concatenate(epoch).tolist()) == list(range(64))
    first = edge_kd.public_rows(CONFIG, 0, 0)
    assert (first == edge_kd.public_rows(CONFIG, 0, 0)).all()
    assert (first != edge_kd.public_rows(CONFIG, 0, 4)).any()  # the next epoch's order


def test_teacher_private_and_public_images_are_disjoint():
    parts = edge_kd.parts_of(CONFIG, load("digits"), seed=3)
    sizes = len(parts.teacher) + len(parts.student) + len(parts.stream)
    joined = np.concatenate([parts.teacher, parts.student, parts.stream])
    assert len(np.unique(joined)) == sizes == 304


def test_the_defaults_fit_the_default_data():
    parts = edge_kd.parts_of(EdgeConfig(), load(EdgeConfig().data), seed=0)
    assert len(parts.stream) == EdgeConfig().public_images


# --- the cloud ------------------------------------------------------------------------------------


def test_the_teacher_sends_its_own_logits_for_the_images_asked_for(folder):
    source, greeting = build_source(spec_of(CONFIG, "response", 0, folder))
    assert greeting == {"columns": 10, "chunk_rows": 16, "knowledge": "response"}
    dataset = load("digits")
    images = dataset.images("train", edge_kd.parts_of(CONFIG, dataset, 0).stream)
    teacher = edge_kd_cloud.prepare_teacher(CONFIG, folder)
    payload, _ = source(0, 5, 0)
    expected = predict(teacher, images[edge_kd.public_rows(CONFIG, 0, 5)])
    np.testing.assert_allclose(payload_matrix(memoryview(payload)), expected, atol=1e-5)
    assert source(0, CONFIG.cycles, 0) is None
    assert source(0, 0, 1) is None
    assert source(1, 0, 0) is None


@pytest.mark.parametrize(("method", "columns"), [("feature", 32 * 4 * 4), ("relation", 128)])
def test_features_and_relations_have_their_own_width(folder, method, columns):
    _, greeting = build_source(spec_of(CONFIG, method, 0, folder))
    assert greeting["columns"] == columns


# --- a teacher elsewhere --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def elsewhere(folder):
    select = edge_kd_cloud.serve_study(CONFIG, folder)
    with KnowledgeServer(lambda *_: None, {}, select=select) as server:
        yield server.address


def asked_study(config=CONFIG, method="response", seed=0):
    return edge_kd_cloud.make_study_request(config, method, seed, load("digits").digest)


@pytest.mark.parametrize(("method", "seed"), [("response", 0), ("response", 3), ("feature", 0)])
def test_a_teacher_elsewhere_serves_every_method_and_seed(folder, elsewhere, method, seed):
    source, greeting = build_source(spec_of(CONFIG, method, seed, folder))
    with KnowledgeStream(elsewhere, study_request=asked_study(method=method, seed=seed)) as stream:
        assert {k: stream.greeting[k] for k in greeting} == greeting
        assert 0 <= stream.greeting["accuracy"] <= 1
        stream.request(5, 0)
        assert bytes(stream.receive().payload) == bytes(source(0, 5, 0)[0])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            lambda: asked_study(replace(CONFIG, epochs=3)),
            "refuses: its epochs is 2, the edge's 3; start both",
        ),
        (lambda: asked_study(seed=-1), "what is asked for is none"),
        (lambda: asked_study(method="telepathy"), "methods must be different ones of"),
        (
            lambda: {**asked_study(), "method": ["response"]},
            r"methods must be .* got \['response'\]",
        ),
        (
            lambda: {**asked_study(), "method": None},
            "methods must be different ones of .* got nothing",
        ),
        (lambda: {**asked_study(), "seed": 1e9}, "what is asked for is none"),
        (lambda: {"edge-kd": [], "method": "none", "seed": 0}, "what is asked for is none"),
        (lambda: {"something": "else"}, "what is asked for is none"),
    ],
)
def test_an_edge_of_another_study_is_refused_at_once(elsewhere, asked, said):
    with pytest.raises(TransportError, match=said):
        KnowledgeStream(elsewhere, study_request=asked(), reconnect_s=60.0)


def test_the_edges_own_choices_are_no_difference(elsewhere):
    own = replace(CONFIG, alpha=0.1, temperature=2.0, measure="js", rate=0.5, momentum=0.0)
    with (
        KnowledgeStream(elsewhere, study_request=asked_study()) as plain,
        KnowledgeStream(elsewhere, study_request=asked_study(own)) as with_its_own,
    ):
        for stream in (plain, with_its_own):
            stream.request(3, 0)
        assert with_its_own.greeting == plain.greeting
        assert bytes(with_its_own.receive().payload) == bytes(plain.receive().payload)


def test_a_teacher_of_one_thing_refuses_a_study():
    with (
        KnowledgeServer(lambda *_: None, {}) as server,
        pytest.raises(TransportError, match="serves the same to every client"),
    ):
        KnowledgeStream(server.address, study_request=asked_study())


def test_a_greeting_nested_without_end_is_refused(elsewhere):
    with socket.create_connection(elsewhere, timeout=5) as client:
        send_frame(client, FrameType.HELLO, b"[" * 60_000)
        refusal = receive_frame(client)
    assert refusal.type == FrameType.REFUSAL
    assert b"its greeting is not JSON" in bytes(refusal.payload)


def test_an_absent_teacher_leaves_the_folder_free(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(TransportError, match="cannot connect"):
        run_study(CONFIG, tmp_path, seeds=[0], teacher=RemoteTeacher(address))
    assert list(tmp_path.iterdir()) == []


# --- the edge -------------------------------------------------------------------------------------


def without_dropout(net):
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_the_loss_is_alpha_ce_plus_the_rest_of_the_tempered_divergence(folder, alpha):
    spec = spec_of(replace(CONFIG, alpha=alpha), "response", 0, folder)
    known = np.random.default_rng(0).normal(size=(16, 10)).astype(np.float32)
    student = EdgeStudent(spec, shared_with(known))
    # Dropout draws its masks in the arithmetic at hand: without it float32 and float64 compare.
    without_dropout(student._net)
    student.forward(0, 0, 1)
    student.backward(0, 0, 1)
    dataset = load("digits")
    parts = edge_kd.parts_of(CONFIG, dataset, 0)
    net = build_network("edge-1", dataset.input_shape, 10, seed=derive_seed(0, "student")).double()
    rows = student._private_rows(0)
    public = dataset.images("train", parts.stream)[edge_kd.public_rows(CONFIG, 0, 0)].double()
    without_dropout(net)
    private_logits = net(dataset.images("train", parts.student)[rows].double())
    public_logits = net(public)
    labels = dataset.labels("train", parts.student)[rows]
    T = CONFIG.temperature
    p = torch.softmax(torch.from_numpy(known).double() / T, 1)
    divergence = (p * (p.log() - functional.log_softmax(public_logits / T, 1))).sum(1).mean()
    by_labels = functional.cross_entropy(private_logits, labels)
    expected = alpha * by_labels + (1 - alpha) * T**2 * divergence
    assert student.report()["loss"] == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_knowledge_of_a_batch_is_read_from_its_own_slot(folder):
    first, second = np.random.default_rng(0).normal(size=(2, 16, 10))
    both = shared_with(np.concatenate([first, second]), slots=2)
    assert loss_of(1, both, folder) == loss_of(1, shared_with(second), folder)
    assert loss_of(1, both, folder) != loss_of(1, shared_with(first), folder)


def test_without_a_teacher_the_labels_alone_count_whatever_alpha_says(folder):
    nothing = shared_with(np.zeros((16, 10)))
    alone = [loss_of(0, nothing, folder, "none", alpha=alpha) for alpha in (0.2, 1.0)]
    assert alone[0] == alone[1]


@pytest.mark.parametrize("method", edge_kd.METHODS)
def test_training_lowers_the_loss_for_every_kind_of_knowledge(folder, method):
    source, _ = build_source(spec_of(CONFIG, method, 0, folder))
    known = payload_matrix(memoryview(source(0, 0, 0)[0])).copy()
    student = EdgeStudent(spec_of(CONFIG, method, 0, folder), shared_with(known))
    losses = []
    for _ in range(25):
        student.forward(0, 0, 1)
        student.backward(0, 0, 1)
        losses.append(student.report()["loss"])
    assert min(student.report()["forward_s"], student.report()["backward_s"]) > 0
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alpha": 1.5}, "alpha must lie"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"batch": 2}, "at least 3 images"),
        ({"public_images": 8}, "at least one public batch"),
        ({"epochs": 0}, "epochs and rate"),
        ({"rate": float("inf")}, "epochs and rate"),
        ({"temperature": float("inf")}, "temperature must be positive and finite"),
        ({"momentum": 1.0}, r"momentum in \[0, 1\)"),
        ({"epochs": 99_999}, "at most 65536 cycles, got 399996"),
        ({"teacher_images": 0}, "teacher_images and teacher_epochs must be positive"),
        ({"student": "edge-9"}, r"student must be one of .*edge-1.*got 'edge-9'"),
        ({"measure": "cosine"}, r"measure must be one of ce, kl.*got 'cosine'"),
    ],
)
def test_an_impossible_configuration_is_refused(change, said):
    with pytest.raises(WorkloadError, match=said):
        replace(CONFIG, **change)


def test_an_unknown_method_is_refused():
    with pytest.raises(WorkloadError, match="ones of none, response"):
        spec_of(CONFIG, "telepathy", 0, Path())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"methods": ["none", "telepathy"]}, WorkloadError),
        ({"methods": ["none", "none"]}, WorkloadError),
        ({"methods": []}, WorkloadError),
        ({"policy": "fairness"}, UnknownPolicyError),
    ],
)
def test_a_study_that_cannot_run_is_refused_before_anything_is_written(tmp_path, arguments, error):
    with pytest.raises(error) as caught:
        run_study(CONFIG, tmp_path, **arguments)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_profile_holds_computing_and_no_waiting(tmp_path):
    kinds = ("comm", "forward", "backward")
    tasks = tuple(Task(kind, i, 0.0, 9.0) for i in range(8) for kind in kinds)
    reports = tuple({"loss": 1.0, "forward_s": 0.1 + i, "backward_s": 0.2} for i in range(8))
    live = LiveRun("comm-priority", 0, 0, 9.0, tasks, (), 0, reports)
    save_profile(EdgeRun(0.5, live, 672), CONFIG, "response", 0, tmp_path / "p.csv")
    profile = read_profile(tmp_path / "p.csv")
    assert profile.forward_s == pytest.approx([0.1 + i for i in range(8)])
    assert set(profile.backward_s) == {0.2}


# --- the real loop --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_loop_gives_the_same_weights_whatever_the_policy(folder, tmp_path):
    first = run_once(CONFIG, "response", 0, folder, policy="comm-priority")
    second = run_once(CONFIG, "response", 0, folder, policy="random")
    assert [r["loss"] for r in first.live.reports] == [r["loss"] for r in second.live.reports]
    assert first.accuracy == second.accuracy
    assert len(first.live.task_ends("comm")) == CONFIG.cycles
    assert first.comm_bytes == 16 * 10 * 4 + 32
    path = tmp_path / "profile.csv"
    save_profile(first, CONFIG, "response", 0, path)
    profile = read_profile(path)
    assert len(profile.lines) == CONFIG.cycles
    assert profile.accuracies[-1] == pytest.approx(first.accuracy, rel=1e-5)
    each = CONFIG.cycles_per_epoch
    assert profile.marks.tolist() == list(range(each, CONFIG.cycles + 1, each))
    assert first.accuracies == second.accuracies
    assert first.accuracies[CONFIG.cycles] == first.accuracy
    assert profile.forward_s.min() > 0
    assert profile.backward_s.min() > 0


@pytest.mark.slow
def test_a_study_with_a_teacher_elsewhere_is_the_same_study(folder, elsewhere, tmp_path):
    methods = ("response", "relation")
    here = run_study(CONFIG, tmp_path / "here", methods=methods, seeds=[0])
    there = run_study(
        CONFIG, tmp_path / "there", methods=methods, seeds=[0], teacher=RemoteTeacher(elsewhere)
    )
    assert there == here
    assert not (tmp_path / "there" / "teacher.pt").exists()


@pytest.mark.slow
def test_little_memory_changes_who_waits_but_no_weight(folder, monkeypatch):
    plenty = run_once(CONFIG, "response", 0, folder)
    monkeypatch.setattr(edge_kd_study, "_MEMORY_MB", 0.0)
    little = run_once(CONFIG, "response", 0, folder)
    assert little.accuracy == plenty.accuracy
    losses = [[r["loss"] for r in run.live.reports] for run in (little, plenty)]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_a_study_is_resumed_and_reports_differences_with_intervals(folder):
    arguments = {"methods": ("none", "response"), "seeds": (0, 1)}
    first = run_study(CONFIG, folder, **arguments)
    again = run_study(CONFIG, folder, **arguments)
    assert first == again == json.loads((folder / "result.json").read_text())
    assert {row["method"] for row in first["accuracy"]} == {"none", "response"}
    (difference,) = first["differences"]
    assert difference["difference"] == "response - none"
    assert difference["n"] == 2
    assert (folder / "profile-response-1.csv").exists()


def test_the_command_explains_itself_and_refuses_nonsense(tmp_path):
    result = CliRunner().invoke(command, ["--help"])
    assert "kdsim workload edge-kd" in result.output
    result = CliRunner().invoke(command, ["--alpha", "7", "-o", str(tmp_path)])
    assert isinstance(result.exception, WorkloadError)
    result = CliRunner().invoke(command, ["-o", str(tmp_path), "--methods", "none, telepathy"])
    assert "got none, telepathy" in str(result.exception)
    result = CliRunner().invoke(command, ["--serve", "a:1", "--teacher", "b:2"])
    assert (result.exit_code, "exclude each other" in result.stderr) == (2, True)


def test_an_interrupt_ends_with_130_and_names_the_folder(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(edge_kd_study, "run_study", interrupted)
    result = CliRunner().invoke(command, ["-o", str(tmp_path)])
    assert result.exit_code == 130
    assert f"{tmp_path} keeps the finished runs" in result.stderr
