"""The studies of AFLKD whose records are committed, and the shorter forms of some."""

from __future__ import annotations

from dataclasses import replace

from calibration.workloads.aflkd.config import EDGE_NETWORKS, PRESETS, StudyConfig
from calibration.workloads.aflkd.methods import METHODS
from calibration.workloads.aflkd.temperature import TemperatureConfig

_STEPS_OF_500 = tuple(range(500, 5001, 500))

_CIFAR = PRESETS["cifar10-jpeg"]

#: SSLF on edge-1 at 2,000 CIFAR images reached 40 % where the paper has 59.7. This is that set-up:
#: half the epochs of the paper, one update of 1,500 images on which alone it trains, a teacher
#: stopped at epoch 21 of a schedule of 45.
_SSLF = replace(
    _CIFAR,
    nets=("edge-1",),
    methods=("sslf",),
    sizes=(500, 2000),
    teacher_images=11_000,
    teacher=replace(_CIFAR.teacher, epochs=21, horizon=45),
    student=replace(_CIFAR.student, training=replace(_CIFAR.student.training, epochs=10)),
)
#: A tenth of the step: the fully connected head has 8.4 million weights on unscaled features.
_SMALL_STEPS = replace(_SSLF.student, training=replace(_SSLF.student.training, learning_rate=0.001))
_TWENTY_EPOCHS = replace(_SSLF.student, training=replace(_SSLF.student.training, epochs=20))
_BOTH = replace(_SMALL_STEPS, training=replace(_SMALL_STEPS.training, epochs=20))

STUDIES: dict[str, StudyConfig] = {
    # The paper's table 3, to 5,000 images, with every method.
    "fashion-mnist": replace(
        PRESETS["fashion-mnist"],
        nets=EDGE_NETWORKS,
        methods=tuple(METHODS),
        sizes=_STEPS_OF_500,
        seeds=5,
        short_seeds=2,
        short_size=1000,
        teachers=3,
    ),
    # Every method where a run takes a second: 8x8 images that ship with scikit-learn.
    "digits": replace(
        PRESETS["digits"], nets=("edge-1", "edge-2"), methods=tuple(METHODS), seeds=5, teachers=3
    ),
    # On so few images T hardly moves: with ten times its rate, n does change.
    "digits-fast-t": replace(
        PRESETS["digits"],
        nets=("edge-1", "edge-2"),
        methods=(
            "sslf",
            "kd-frozen",
            "kd-frozen-learned",
            "kd-half-learned",
            "aflkd-fixed",
            "aflkd-reverse",
            "aflkd-descend",
        ),
        seeds=5,
        teachers=3,
        student=replace(
            PRESETS["digits"].student, temperature=TemperatureConfig(learning_rate=0.1)
        ),
    ),
    # The first column of the table, with weaker teachers: what a share of one core does in an hour.
    "small-fashion-mnist": replace(
        PRESETS["fashion-mnist"],
        nets=EDGE_NETWORKS,
        methods=tuple(METHODS),
        sizes=(500, 1000),
        seeds=3,
        short_seeds=3,
        short_size=500,
        teachers=3,
        teacher=replace(PRESETS["fashion-mnist"].teacher, epochs=3),
    ),
    # The same at a third of the step, at which KD with all layers frozen trains, too (rates.json).
    "slow-fashion-mnist": replace(
        PRESETS["fashion-mnist"],
        nets=EDGE_NETWORKS,
        methods=tuple(METHODS),
        sizes=(500, 1000),
        seeds=5,
        teachers=3,
        teacher=replace(PRESETS["fashion-mnist"].teacher, epochs=3),
        student=replace(
            PRESETS["fashion-mnist"].student,
            training=replace(PRESETS["fashion-mnist"].student.training, learning_rate=0.003),
        ),
    ),
    # The same to 5,000 images, with the methods that the paper's claims are about.
    "long-fashion-mnist": replace(
        PRESETS["fashion-mnist"],
        nets=EDGE_NETWORKS,
        methods=(
            "baseline",
            "sslf",
            "kd-half-learned",
            "kd-frozen-learned",
            "aflkd-reverse",
            "aflkd-descend",
        ),
        sizes=(500, 1000, 2000, 5000),
        seeds=5,
        short_seeds=2,
        short_size=1000,
        teachers=3,
        teacher=replace(PRESETS["fashion-mnist"].teacher, epochs=3),
        student=replace(
            PRESETS["fashion-mnist"].student,
            training=replace(PRESETS["fashion-mnist"].student.training, learning_rate=0.003),
        ),
    ),
    # One change each to the set-up above, then several that lead towards the paper's.
    "sslf-base": _SSLF,
    "sslf-weak": replace(_SSLF, teacher=replace(_CIFAR.teacher, epochs=4)),
    "sslf-epochs": replace(_SSLF, student=_TWENTY_EPOCHS),
    "sslf-rate": replace(_SSLF, student=_SMALL_STEPS),
    "sslf-steps": replace(_SSLF, sizes=(500, 1000, 1500, 2000)),
    "sslf-cumulative": replace(_SSLF, update="cumulative"),
    "sslf-labels": replace(_SSLF, stream_labels="true"),
    "sslf-together": replace(_SSLF, update="cumulative", student=_BOTH),
    "sslf-teacher": replace(_SSLF, teacher=_CIFAR.teacher),
    "sslf-leak": replace(_SSLF, teacher=_CIFAR.teacher, teacher_sees="everything"),
    "sslf-paper": replace(
        _SSLF,
        sizes=(500, 1000, 1500, 2000),
        update="cumulative",
        student=_TWENTY_EPOCHS,
        teacher=_CIFAR.teacher,
        teacher_sees="everything",
    ),
    # At the step of sslf-rate, which explains most of what SSLF lacked: all methods anew.
    "slow-cifar10-jpeg": replace(
        _SSLF,
        methods=("baseline", "sslf", "kd-frozen-learned", "aflkd-reverse", "aflkd-descend"),
        student=_SMALL_STEPS,
    ),
    # The paper's table 2, with the methods that its claims are about.
    "cifar10-jpeg": replace(
        _CIFAR,
        nets=EDGE_NETWORKS,
        methods=(
            "baseline",
            "sslf",
            "kd-shared",
            "kd-frozen",
            "kd-frozen-learned",
            "aflkd-fixed",
            "aflkd-reverse",
            "aflkd-descend",
        ),
        sizes=_STEPS_OF_500,
        seeds=3,
        teachers=3,
        teacher_images=10_000,
    ),
}
