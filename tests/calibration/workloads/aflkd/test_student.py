import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_data import stripes

from calibration.workloads.aflkd import student as aflkd
from calibration.workloads.aflkd.freezing import frozen_prefix, prefix_features
from calibration.workloads.aflkd.incremental import LessonConfig, make_lessons
from calibration.workloads.aflkd.robustness import (
    confidence_weights,
    corrupt_logits,
    flip_labels,
    safeguarded_weight,
)
from calibration.workloads.aflkd.student import METHODS, StudentConfig, frozen_layers, train_student
from calibration.workloads.aflkd.temperature import TemperatureConfig
from calibration.workloads.data.splits import split
from calibration.workloads.training.loops import TrainingConfig, fit, state_digest
from calibration.workloads.training.networks import build_network
from kdsim.errors import WorkloadError

DATA = stripes()
SIZES = (24, 40)


@pytest.fixture(scope="module")
def teacher():
    parts = split(DATA, teacher=60, student=3)
    network = build_network("cloud", DATA.input_shape, DATA.classes, seed=5)
    images, labels = DATA.images("train", parts.teacher), DATA.labels("train", parts.teacher)
    fit(network, images, labels, TrainingConfig(epochs=12, batch_size=8), seed=0)
    return network.eval().requires_grad_(False)


def lessons(teacher, *, sizes=SIZES, seed=0, **options):
    parts = split(DATA, teacher=60, student=sizes[0], stream=sizes[-1] - sizes[0], seed=seed)
    return make_lessons(DATA, parts, teacher, LessonConfig(sizes, **options), seed=seed)


def student(teacher, *, net="edge-1", epochs=3, seed=0, given=None, run=None, **options):
    training = TrainingConfig(epochs=epochs, batch_size=8, **(run or {}).pop("training", {}))
    return train_student(
        net,
        teacher,
        given or lessons(teacher),
        (DATA.images("test"), DATA.labels("test")),
        StudentConfig(training=training, **options),
        seed=seed,
        **(run or {}),
    )


# --- the methods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_leaves_the_teacher_bitwise_unchanged(teacher, method):
    before = state_digest(teacher)
    run = student(teacher, method=method)
    assert state_digest(teacher) == before
    assert [(e.size, e.epoch) for e in run.epochs] == [(s, k) for s in SIZES for k in (1, 2, 3)]
    assert run.test_accuracy(24) > 0.3
    assert all((e.test_accuracy is not None) == (e.epoch == 3) for e in run.epochs)


def test_the_baseline_freezes_nothing_and_sslf_everything(teacher):
    assert {e.frozen_layers for e in student(teacher, method="baseline").epochs} == {0}
    run = student(teacher, method="sslf", net="edge-2")
    assert {e.frozen_layers for e in run.epochs} == {5}
    cloud = frozen_prefix(teacher, 5)
    assert state_digest(frozen_prefix(run.network, 5)) == state_digest(cloud)


@pytest.mark.parametrize("method", ["aflkd-reverse", "aflkd-descend"])
def test_n_follows_eq_17_from_the_temperature_of_the_epoch_before(teacher, method):
    fast = TemperatureConfig(initial=3.0, learning_rate=10.0)
    run = student(teacher, method=method, temperature=fast, epochs=5)
    assert run.epochs[0].frozen_layers == frozen_layers(3.0, 3)
    for previous, epoch in zip(run.epochs, run.epochs[1:], strict=False):
        assert epoch.frozen_layers == frozen_layers(previous.temperature, 3)
    assert len({e.frozen_layers for e in run.epochs}) > 1


def test_a_schedule_thaws_layer_after_layer(teacher):
    run = student(teacher, method="aflkd-schedule", net="edge-2", epochs=4)
    assert [e.frozen_layers for e in run.epochs] == [5, 3, 2, 0] * 2
    assert [e.temperature for e in run.epochs[:4]] == [1.0, 4.0, 7.0, 10.0]


@pytest.mark.parametrize("refreeze", ["cloud", "keep"])
def test_what_a_layer_holds_when_it_freezes_again(teacher, refreeze):
    cooling = TemperatureConfig(initial=10.0, final=1.0)
    run = student(
        teacher, method="aflkd-schedule", temperature=cooling, refreeze=refreeze, epochs=4
    )
    assert run.epochs[-1].frozen_layers == 3
    same = state_digest(frozen_prefix(run.network, 3)) == state_digest(frozen_prefix(teacher, 3))
    assert same == (refreeze == "cloud")


def test_runs_of_one_seed_are_pairs(teacher):
    # No epoch has moved the baseline's first weights yet, SSLF's head starts from the same ones.
    config = {"training": {"learning_rate": 1e-12}}
    heads = [
        student(teacher, method=m, epochs=1, run=dict(config)).network.head[1].weight
        for m in ("baseline", "sslf", "aflkd-reverse")
    ]
    torch.testing.assert_close(heads[0], heads[1])
    torch.testing.assert_close(heads[0], heads[2])
    starts = [
        student(teacher, method=m, epochs=1, run=dict(config)).epochs[0].temperature
        for m in ("aflkd-reverse", "aflkd-descend")
    ]
    assert starts[0] == pytest.approx(starts[1], abs=0.2)


# --- exactness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sslf", "aflkd-reverse", "aflkd-schedule"])
def test_cached_features_change_nothing(teacher, method):
    cached = student(teacher, method=method, curve=True)
    for other in (
        student(teacher, method=method, curve=True, cache=False),
        student(teacher, method=method, curve=True, cache_limit_mb=1e-6),
    ):
        assert state_digest(other.network) == state_digest(cached.network)
        assert other.epochs == cached.epochs


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("method", ["baseline", "aflkd-reverse", "aflkd-schedule"])
@pytest.mark.parametrize("after", [2, 3, 4])
def test_resume_gives_the_run_that_was_never_interrupted(teacher, tmp_path, method, after):
    seen = []

    def stop(record):
        seen.append(record)
        if len(seen) == after:
            raise StopHereError

    where = {"checkpoint": tmp_path / "run.pt", "checkpoint_every_s": 0.0}
    hot = TemperatureConfig(initial=6.0, learning_rate=2.0)
    options = {"method": method, "temperature": hot, "training": {"augment": True}}
    training = options.pop("training")
    with pytest.raises(StopHereError):
        student(teacher, run={**where, "training": dict(training), "on_epoch": stop}, **options)
    resumed = student(teacher, run={**where, "training": dict(training)}, **options)
    whole = student(teacher, run={"training": dict(training)}, **options)
    assert state_digest(resumed.network) == state_digest(whole.network)
    assert resumed.epochs == whole.epochs
    assert resumed.weights == whole.weights
    for which in ("downlink_bytes", "uplink_bytes"):
        assert [getattr(c, which) for c in resumed.cycles] == [
            getattr(c, which) for c in whole.cycles
        ]


def test_a_checkpoint_of_another_method_is_refused(teacher, tmp_path):
    where = {"checkpoint": tmp_path / "run.pt", "checkpoint_every_s": 0.0}
    student(teacher, method="sslf", run=dict(where))
    with pytest.raises(WorkloadError, match=r"config\.method was 'sslf', now 'baseline'"):
        student(teacher, method="baseline", run=dict(where))


# --- lessons and bytes ---------------------------------------------------------------------------


def test_streamed_images_carry_the_clouds_labels_and_initial_ones_the_true(teacher):
    first, second = lessons(teacher)
    parts = split(DATA, teacher=60, student=24, stream=16, seed=0)
    assert torch.equal(first.labels, DATA.labels("train", parts.student))
    assert torch.equal(second.labels, second.teacher_logits.argmax(1))
    assert torch.equal(second.images, DATA.images("train", parts.stream))


def test_bytes_are_pixels_up_and_labels_and_logits_down(teacher):
    pixels, logits = 8 * 8, 4 * 3
    first, second = lessons(teacher)
    assert (first.bytes_up.sum(), first.bytes_down.sum()) == (24 * pixels, 24 * logits)
    assert (second.bytes_up.sum(), second.bytes_down.sum()) == (16 * pixels, 16 * (logits + 1))
    first, second = lessons(teacher, distil=False)
    assert first.bytes_up.sum() == first.bytes_down.sum() == 0
    assert (second.bytes_up.sum(), second.bytes_down.sum()) == (16 * pixels, 16)


def test_a_cumulative_update_sends_only_what_is_new(teacher):
    _, second = lessons(teacher, update="cumulative")
    assert len(second.images) == 40
    assert (second.bytes_up > 0).tolist() == [False] * 24 + [True] * 16


def test_cycles_carry_the_bytes_in_the_epoch_in_which_images_travel(teacher):
    given_ = lessons(teacher)
    run = student(teacher, given=given_, epochs=2)
    received, sent = Counter(), Counter()
    for cycle in run.cycles:
        received[cycle.epoch] += cycle.downlink_bytes
        sent[cycle.epoch] += cycle.uplink_bytes
    down = [int(x.bytes_down.sum()) for x in given_]
    assert received == {1: down[0], 2: 0, 3: down[1], 4: 0}
    assert sent == {1: 24 * 64, 2: 0, 3: 16 * 64, 4: 0}
    assert [c.cycle for c in run.cycles] == list(range(1, len(run.cycles) + 1))
    augmented = student(teacher, given=given_, epochs=2, run={"training": {"augment": True}})
    assert sum(c.downlink_bytes for c in augmented.cycles) == 2 * sum(down)


def test_cycles_hold_the_seconds_of_the_frozen_prefix(teacher, monkeypatch):
    clock = SimpleNamespace(ahead=0.0, monotonic=time.monotonic)
    clock.perf_counter = lambda: time.perf_counter() + clock.ahead

    def slow(*arguments, **options):
        clock.ahead += 1000.0
        return prefix_features(*arguments, **options)

    monkeypatch.setattr(aflkd, "time", clock)
    monkeypatch.setattr(aflkd, "prefix_features", slow)
    run = student(teacher, method="sslf")
    by_epoch = [[c.forward_s for c in run.cycles if c.epoch == e] for e in range(1, 7)]
    # Each lesson's first epoch computes the features, a batch of 8 its share of them.
    assert [sum(seconds) >= 1000 for seconds in by_epoch] == [True, False, False] * 2
    assert by_epoch[0] == pytest.approx([1000 / 3] * 3, rel=0.1)
    assert by_epoch[3] == pytest.approx([1000 / 2] * 2, rel=0.1)


def test_lessons_that_the_split_cannot_fill_are_refused(teacher):
    parts = split(DATA, teacher=60, student=24, stream=4)
    with pytest.raises(WorkloadError, match="need 24 student and 16 stream images, got 24 and 4"):
        make_lessons(DATA, parts, teacher, LessonConfig(SIZES), seed=0)
    for sizes in ((), (0, 5), (5, 5)):
        with pytest.raises(WorkloadError, match="sizes must be positive and rise"):
            LessonConfig(sizes)


# --- imperfect teachers --------------------------------------------------------------------------


@given(share=st.floats(0, 1), classes=st.integers(2, 10), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_noise_hits_exactly_its_share(share, classes, seed):
    labels = torch.arange(50) % classes
    flipped = flip_labels(labels, share, classes, generator=torch.Generator().manual_seed(seed))
    assert int((flipped != labels).sum()) == round(share * 50)
    assert 0 <= int(flipped.min()) <= int(flipped.max()) < classes
    logits = torch.nn.functional.one_hot(labels, classes).float()
    wrong = corrupt_logits(logits, share, generator=torch.Generator().manual_seed(seed))
    assert int((wrong.argmax(1) != labels).sum()) == round(share * 50)
    torch.testing.assert_close(wrong.sort(1).values, logits.sort(1).values)


def test_weights_grow_with_confidence_and_average_one():
    logits = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    weights = confidence_weights(logits)
    assert weights[0] == 0
    assert weights[1] < weights[2]
    assert float(weights.mean()) == pytest.approx(1.0)
    assert confidence_weights(torch.zeros(4, 3)).tolist() == [1.0] * 4


def test_the_safeguard_scales_lambda_by_agreement_above_chance():
    labels = torch.arange(10) % 2
    right = torch.nn.functional.one_hot(labels, 2).float()
    assert safeguarded_weight(2.0, right, labels) == 2.0
    assert safeguarded_weight(2.0, right.flip(1), labels) == 0.0
    half = torch.where(torch.arange(10)[:, None] < 4, right.flip(1), right)
    assert safeguarded_weight(2.0, half, labels) == pytest.approx(0.4)


def test_a_corrupted_teacher_loses_its_say_under_the_safeguard(teacher):
    """The answers are made, not trained: what a network learns depends on a CPU's arithmetic."""
    given = lessons(teacher, holdout=0.25)
    assert len(given[0].images) == 18
    right = [torch.eye(DATA.classes)[lesson.holdout_labels] for lesson in given]
    wrong = [corrupt_logits(answers, 1.0, generator=torch.Generator()) for answers in right]
    for made, weight in ((right, 1.0), (wrong, 0.0)):
        answered = [replace(x, holdout_logits=a) for x, a in zip(given, made, strict=True)]
        run = student(teacher, given=answered, epochs=1, safeguard=True)
        assert run.weights == pytest.approx([weight, weight])


def test_teacher_noise_reaches_the_held_out_answers_too(teacher):
    honest = lessons(teacher, holdout=0.25)[0].holdout_logits
    noisy = lessons(teacher, holdout=0.25, teacher_noise=1.0)[0].holdout_logits
    assert torch.equal(noisy, honest.roll(1, dims=1))


def test_confidence_weighting_changes_the_training_and_stays_finite(teacher):
    plain = student(teacher, epochs=1)
    weighted = student(teacher, epochs=1, confidence_weighting=True)
    assert state_digest(plain.network) != state_digest(weighted.network)
    assert np.isfinite([e.loss for e in weighted.epochs]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method must be one of baseline, fine-tune, sslf"),
        ({"distillation_weight": -1.0}, "not negative"),
        ({"refreeze": "never"}, "refreeze must be"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(WorkloadError, match=message):
        StudentConfig(**options)
