import inspect
from dataclasses import fields

import pytest
import torch
from workload_data import stripes

from calibration.workloads.aflkd.freezing import frozen_prefix
from calibration.workloads.aflkd.incremental import LessonConfig, make_lessons
from calibration.workloads.aflkd.methods import METHODS, Method, StudentConfig
from calibration.workloads.aflkd.student import train_student
from calibration.workloads.aflkd.temperature import TemperatureConfig, frozen_layers
from calibration.workloads.data.splits import split
from calibration.workloads.training.loops import TrainingConfig, fit, state_digest
from kdsim.errors import WorkloadError

DATA = stripes()
BOUNDS = TemperatureConfig()

#: Pairs of methods, and the one switch that tells them apart.
NEIGHBOURS = [
    ("fine-tune", "baseline", {"shares"}),
    ("kd", "baseline", {"temperature"}),
    ("kd-shared", "kd", {"shares"}),
    ("kd-shared", "fine-tune", {"temperature"}),
    ("kd-frozen", "sslf", {"temperature"}),
    ("kd-frozen", "kd-half", {"freezes"}),
    ("kd-frozen-t1", "kd-frozen", {"temperature"}),
    ("kd-frozen-t2", "kd-frozen", {"temperature"}),
    ("kd-frozen-t8", "kd-frozen", {"temperature"}),
    ("kd-frozen-learned", "kd-frozen", {"temperature"}),
    ("kd-half-learned", "kd-half", {"temperature"}),
    ("kd-shared-learned", "kd-shared", {"temperature"}),
    ("kd-half-learned", "kd-frozen-learned", {"freezes"}),
    ("aflkd-reverse", "kd-frozen-learned", {"freezes"}),
    ("aflkd-reverse", "kd-half-learned", {"freezes"}),
    ("aflkd-reverse-shared", "kd-shared-learned", {"freezes"}),
    ("aflkd-reverse-shared", "aflkd-reverse", {"shares"}),
    ("aflkd-fixed", "aflkd-reverse", {"temperature"}),
    ("aflkd-schedule", "aflkd-reverse", {"temperature"}),
    ("aflkd-descend", "aflkd-reverse", {"temperature"}),
    ("aflkd-clamped", "aflkd-descend", {"temperature"}),
    ("aflkd-printed", "aflkd-clamped", {"temperature"}),
]


@pytest.fixture(scope="module")
def teacher():
    from calibration.workloads.training.networks import build_network

    parts = split(DATA, teacher=60, student=3)
    network = build_network("cloud", DATA.input_shape, DATA.classes, seed=5)
    images, labels = DATA.images("train", parts.teacher), DATA.labels("train", parts.teacher)
    fit(network, images, labels, TrainingConfig(epochs=6, batch_size=8), seed=0)
    return network.eval().requires_grad_(False)


def student(teacher, method, *, net="edge-2", rate=0.01, epochs=3, temperature=BOUNDS, seed=0):
    parts = split(DATA, teacher=60, student=24, seed=seed)
    lessons = make_lessons(DATA, parts, teacher, LessonConfig((24,)), seed=seed)
    training = TrainingConfig(epochs=epochs, batch_size=8, learning_rate=rate)
    config = StudentConfig(method, training, temperature=temperature)
    test = DATA.images("test"), DATA.labels("test")
    return train_student(net, teacher, lessons, test, config, seed=seed)


# --- the switches --------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other", "switches"), NEIGHBOURS)
def test_neighbours_differ_in_one_switch(one, other, switches):
    a, b = METHODS[one], METHODS[other]
    differing = {f.name for f in fields(Method) if getattr(a, f.name) != getattr(b, f.name)}
    assert differing == switches
    if switches == {"temperature"} and a.distils and b.distils:
        given_a, given_b = (m.temperature_config(BOUNDS) for m in (a, b))
        changed = {
            f.name for f in fields(given_a) if getattr(given_a, f.name) != getattr(given_b, f.name)
        }
        # A learned temperature starts at random; without a learning rate there is no momentum.
        assert len(changed - {"initial", "momentum"}) <= 1
        assert changed


def test_every_method_is_reached_from_a_neighbour():
    assert {name for pair in NEIGHBOURS for name in pair[:2]} == set(METHODS)


@pytest.mark.parametrize("m", [3, 5, 10])
def test_how_many_layers_each_rule_freezes(m):
    for temperature in (1.0, 4.0, 7.5, 10.0):
        counts = {n: x.layers(m, temperature, BOUNDS) for n, x in METHODS.items()}
        assert counts["baseline"] == counts["kd"] == counts["kd-shared-learned"] == 0
        assert counts["sslf"] == counts["kd-frozen"] == counts["kd-frozen-learned"] == m
        assert counts["kd-half"] == counts["kd-half-learned"] == -(-m // 2)
        assert counts["aflkd-reverse"] == counts["aflkd-fixed"] == frozen_layers(temperature, m)


def test_n_cannot_follow_a_temperature_that_is_not_there():
    with pytest.raises(WorkloadError, match="no temperature to follow"):
        Method("frozen", "adaptive").layers(3, None, BOUNDS)


# --- what they do to a network -------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_network_starts_with_what_its_method_shares(teacher, method):
    # No step moves a weight: what is the cloud's afterwards was the cloud's at the start.
    run = student(teacher, method, rate=1e-12, epochs=1, temperature=TemperatureConfig(initial=4.0))
    switches = METHODS[method]
    frozen = run.epochs[0].frozen_layers
    shared = {"nothing": 0, "frozen": frozen, "all": 5}[switches.shares]
    own = [p.clone() for p in frozen_prefix(run.network, 5).parameters()]
    cloud = list(frozen_prefix(teacher, 5).parameters())
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(own, cloud, strict=True)]
    of_shared = len(list(frozen_prefix(run.network, shared).parameters())) if shared else 0
    convolutions = [k for k, p in enumerate(own) if p.dim() == 4]  # BatchNorms start alike
    assert all(same[:of_shared])
    assert not any(same[k] for k in convolutions if k >= of_shared)


def test_no_frozen_layer_moves_and_every_other_does(teacher):
    for method in ("kd-half", "kd-frozen", "kd-shared"):
        run = student(teacher, method)
        n = run.epochs[-1].frozen_layers
        cloud = state_digest(frozen_prefix(teacher, 5)[: len(frozen_prefix(teacher, n))])
        assert n == {"kd-half": 3, "kd-frozen": 5, "kd-shared": 0}[method]
        if n:
            assert state_digest(frozen_prefix(run.network, n)) == cloud
        for ours, theirs in zip(
            run.network.features[len(frozen_prefix(teacher, n)) :].parameters(),
            teacher.features[len(frozen_prefix(teacher, n)) :].parameters(),
            strict=False,
        ):
            assert not torch.equal(ours, theirs)


def test_the_temperature_moves_only_where_it_is_learned(teacher):
    for method, switches in METHODS.items():
        run = student(teacher, method)
        course = [epoch.temperature for epoch in run.epochs]
        if not switches.distils:
            assert course == [None] * 3
        else:
            learned = switches.temperature["policy"] in ("reverse", "descend", "schedule")
            assert (len(set(course)) > 1) == learned, method


def test_fixed_temperatures_are_those_of_their_names(teacher):
    for method, value in (("kd-frozen", 4), ("kd-frozen-t1", 1), ("kd-frozen-t8", 8)):
        assert {e.temperature for e in student(teacher, method, epochs=1).epochs} == {value}


def test_learned_temperatures_share_their_random_start(teacher):
    slow = TemperatureConfig(learning_rate=1e-9)
    starts = {
        method: student(teacher, method, epochs=1, temperature=slow).epochs[0].temperature
        for method in ("kd-frozen-learned", "kd-half-learned", "aflkd-reverse", "aflkd-fixed")
    }
    assert max(starts.values()) - min(starts.values()) < 1e-3


def test_distillation_is_worth_nothing_at_weight_zero(teacher):
    parts = split(DATA, teacher=60, student=24)
    lessons = make_lessons(DATA, parts, teacher, LessonConfig((24,)), seed=0)
    training = TrainingConfig(epochs=2, batch_size=8)
    test = DATA.images("test"), DATA.labels("test")
    digests = [
        state_digest(
            train_student(
                "edge-2", teacher, lessons, test,
                StudentConfig(method, training, distillation_weight=weight), seed=0,
            ).network
        )
        for method, weight in (("sslf", 1.0), ("kd-frozen", 0.0), ("kd-frozen", 1.0))
    ]  # fmt: skip
    assert digests[0] == digests[1] != digests[2]


def test_eq_1_adds_lambda_times_the_soft_loss_to_the_hard_one(teacher):
    """Not a mixture: lambda = 3 triples the soft loss and leaves the hard one as it is."""
    losses = {}
    for weight in (0.0, 1.0, 3.0):
        parts = split(DATA, teacher=60, student=24)
        lessons = make_lessons(DATA, parts, teacher, LessonConfig((24,)), seed=0)
        training = TrainingConfig(epochs=1, batch_size=24, learning_rate=1e-12)
        config = StudentConfig("kd-frozen", training, distillation_weight=weight)
        test = DATA.images("test"), DATA.labels("test")
        run = train_student("edge-2", teacher, lessons, test, config, seed=0)
        losses[weight] = run.epochs[0].loss
    soft = losses[1.0] - losses[0.0]
    assert soft > 1e-4
    assert losses[3.0] - losses[0.0] == pytest.approx(3 * soft, rel=1e-4)


def test_the_table_of_methods_is_read_only():
    with pytest.raises(TypeError):
        METHODS["baseline"] = METHODS["sslf"]
    assert inspect.isclass(Method)
