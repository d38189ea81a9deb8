"""What a study of AFLKD compares: its configuration, and presets for each data set.

Nouns only; the runs are made by ``aflkd_study``.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field

from calibration.workloads.aflkd.incremental import LessonConfig, check_sizes
from calibration.workloads.aflkd.methods import METHODS, StudentConfig
from calibration.workloads.checks import check_choice, check_least
from calibration.workloads.training.loops import TrainingConfig
from kdsim._types import Record
from kdsim.errors import WorkloadError

EDGE_NETWORKS: tuple[str, ...] = ("edge-1", "edge-2", "edge-3")

#: Baseline, SSLF and AFLKD as the paper's equation has it and as it is stable.
DEFAULT_METHODS: tuple[str, ...] = ("baseline", "sslf", "aflkd-reverse", "aflkd-descend")


@dataclass(frozen=True, slots=True)
class StudyConfig:
    """What a study compares, and on what.

    Attributes
    ----------
    data : str
        Name of the data set, see ``datasets.load``.
    nets, methods : tuple of str
        Edge networks and methods.
    sizes : tuple of int
        Images seen after the initial training and after each update.
    seeds : int
        Repetitions, seeds 0 to ``seeds - 1``; each gives every method the same images, initial
        weights, batch order and start of T.
    short_seeds, short_size : int
        The last `short_seeds` of them stop once they have seen `short_size` images (0: none do).
    teachers : int
        Cloud networks, each trained with its own initial weights, order and dropout on the same
        images; every seed meets every teacher.
    teacher_images : int
        Training images of the cloud; the students draw from the rest.
    teacher_sees : {"own", "everything"}
        What the cloud is trained on: its own images, or, as in the paper, all images, those of the
        students and of the test included.
    teacher : TrainingConfig
        Training of the cloud.
    student : StudentConfig
        Training of the edge; its method is replaced by each of `methods`.
    update : {"new", "cumulative"}
        What an update trains on; see ``incremental.LessonConfig``.
    label_noise, teacher_noise, holdout : float
    stream_labels : {"cloud", "true"}
        See ``incremental.LessonConfig``.
    """

    data: str = "digits"
    nets: tuple[str, ...] = ("edge-1", "edge-2")
    methods: tuple[str, ...] = DEFAULT_METHODS
    sizes: tuple[int, ...] = (100, 200)
    seeds: int = 3
    teacher_images: int = 600
    teacher: TrainingConfig = field(default_factory=TrainingConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    update: str = "new"
    label_noise: float = 0.0
    teacher_noise: float = 0.0
    holdout: float = 0.0
    stream_labels: str = "cloud"
    teachers: int = 1
    teacher_sees: str = "own"
    short_seeds: int = 0
    short_size: int = 0

    def __post_init__(self) -> None:
        check_sizes(self.sizes)
        _check_names("networks", self.nets, EDGE_NETWORKS)
        _check_names("methods", self.methods, tuple(METHODS))
        check_least(self, seeds=1, teacher_images=1, teachers=1)
        check_choice("teacher_sees", self.teacher_sees, ("own", "everything"))
        if not 0 <= self.short_seeds <= self.seeds:
            raise WorkloadError(
                f"short_seeds must lie in 0 to seeds ({self.seeds}), got {self.short_seeds}"
            )
        if self.short_seeds and self.short_size not in self.sizes:
            raise WorkloadError(
                f"short_size must be one of the sizes {self.sizes}, got {self.short_size}"
            )
        if self.student.safeguard and not self.holdout:
            raise WorkloadError("the teacher safeguard needs held-out labels: set holdout above 0")
        if self.teacher_noise and self.student.training.augment:
            raise WorkloadError(
                "teacher noise is drawn once an image, but with augmentation the cloud answers "
                "each batch anew; use one of them"
            )
        self.lessons(distil=True)  # its own checks

    def lessons(self, *, distil: bool) -> LessonConfig:
        """Return how the training sets of a method are made."""
        return LessonConfig(
            self.sizes,
            self.update,
            distil,
            self.holdout,
            self.label_noise,
            self.teacher_noise,
            self.stream_labels,
        )

    def sizes_of(self, seed: int) -> tuple[int, ...]:
        """Return the sizes that a seed goes through."""
        if seed < self.seeds - self.short_seeds:
            return self.sizes
        return tuple(size for size in self.sizes if size <= self.short_size)

    def identity(self) -> Record:
        """Return what every run of the study depends on: not which runs there are."""
        config = asdict(self)
        for key in ("nets", "methods", "seeds", "teachers", "short_seeds", "short_size"):
            del config[key]
        del config["student"]["method"]
        # Tuples become lists, as they are read back.
        plain: Record = json.loads(json.dumps(config))
        return plain


def _check_names(what: str, given: tuple[str, ...], known: Collection[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown or not given or len(set(given)) != len(given):
        raise WorkloadError(
            f"{what} must be different ones of {', '.join(known)}; got {', '.join(given) or 'none'}"
        )


#: Sizes, teacher and epochs that fit each data set. The paper trains its cloud network for 20
#: (Fashion-MNIST) or 100 epochs (CIFAR) on training *and* test data; ours sees neither test data
#: nor a student's images, and fewer epochs of a falling learning rate reach its plateau.
PRESETS: dict[str, StudyConfig] = {
    "digits": StudyConfig(teacher=TrainingConfig(epochs=12, decay="cosine")),
    "fashion-mnist": StudyConfig(
        data="fashion-mnist",
        sizes=(500, 1000),
        seeds=5,
        teacher_images=20_000,
        teacher=TrainingConfig(epochs=8, decay="cosine"),
    ),
    "cifar10-jpeg": StudyConfig(
        data="cifar10-jpeg",
        sizes=(500, 1000, 1500, 2000),
        seeds=5,
        teacher_images=11_000,
        teacher=TrainingConfig(epochs=45, decay="cosine", augment=True),
        student=StudentConfig(training=TrainingConfig(epochs=20)),
    ),
    "cifar10": StudyConfig(
        data="cifar10",
        sizes=tuple(range(500, 5001, 500)),
        seeds=5,
        teacher_images=40_000,
        teacher=TrainingConfig(epochs=60, decay="cosine", augment=True),
        student=StudentConfig(training=TrainingConfig(epochs=20)),
    ),
    "cifar100": StudyConfig(
        data="cifar100",
        sizes=tuple(range(500, 5001, 500)),
        seeds=5,
        teacher_images=40_000,
        teacher=TrainingConfig(epochs=100, decay="cosine", augment=True),
        student=StudentConfig(training=TrainingConfig(epochs=20)),
    ),
}
