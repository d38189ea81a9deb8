"""Disjoint parts of a data set: the cloud's, the edge's, and what arrives later.

Nothing is selected on test data: parts are drawn from the training images only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from calibration.workloads.data.datasets import Dataset, listing
from calibration.workloads.data.files import Labels
from kdsim.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint parts of a data set: who may see what.

    Attributes
    ----------
    teacher, student, stream : (k,) int64 array
        Indices into the training part: the cloud's labelled data, the edge's initial labelled
        data, and the unlabelled data that arrive later, in order of arrival.
    test : (k,) int64 array
        Indices into the test part.
    """

    teacher: Labels
    student: Labels
    stream: Labels
    test: Labels
    seed: int = field(default=0)

    def __post_init__(self) -> None:
        joined = np.concatenate([self.teacher, self.student, self.stream])
        if np.unique(joined).size != joined.size:
            raise DataError("the teacher, student and stream parts share an index")


def split(dataset: Dataset, *, teacher: int, student: int, stream: int = 0, seed: int = 0) -> Split:
    """Draw disjoint teacher, student and stream parts from the training images.

    The teacher's part comes first and does not depend on `seed`, so that one teacher serves every
    repetition; student and stream are drawn by `seed` from the rest. Each part holds its classes
    in the proportions of the training data, to within one image a class.

    Parameters
    ----------
    teacher, student, stream : int
        Number of images of each part.
    seed : int
        Seed of the student's and the stream's draw.

    Returns
    -------
    Split
        With every test image in ``test``.

    Raises
    ------
    DataError
        If the sizes exceed the pool, are negative, or leave a class of a part empty.
    """
    pool = len(dataset.train_labels)
    if min(teacher, student, stream) < 0:
        raise DataError(
            f"part sizes must not be negative, got teacher {teacher}, student {student}, "
            f"stream {stream}"
        )
    if teacher + student + stream > pool:
        raise DataError(
            f"{dataset.name}: teacher {teacher} + student {student} + stream {stream} = "
            f"{teacher + student + stream} images, but the training part holds {pool}"
        )
    everything = np.arange(pool)
    teacher_part, rest = _draw(dataset, everything, teacher, np.random.default_rng(0), "teacher")
    rng = np.random.default_rng([1, seed])
    student_part, rest = _draw(dataset, rest, student, rng, "student")
    stream_part, _ = _draw(dataset, rest, stream, rng, "stream", all_classes=False)
    return Split(teacher_part, student_part, stream_part, np.arange(len(dataset.test_labels)), seed)


def _draw(
    dataset: Dataset,
    pool: Labels,
    size: int,
    rng: np.random.Generator,
    part: str,
    *,
    all_classes: bool = True,
) -> tuple[Labels, Labels]:
    """Take `size` indices from `pool`, class by class in proportion; also return what is left."""
    labels = dataset.train_labels[pool]
    available = np.bincount(labels, minlength=dataset.classes)
    exact = available * (size / max(len(pool), 1))
    quota = np.floor(exact).astype(int)
    # Largest remainders, ties in random order, so that no class is favoured by its number.
    order = np.lexsort((rng.random(dataset.classes), quota - exact))
    quota[order[: size - quota.sum()]] += 1
    empty = np.flatnonzero(quota == 0)
    if size and all_classes and empty.size:
        raise DataError(
            f"{dataset.name}: a {part} part of {size} images has none of class {listing(empty)}; "
            f"{dataset.classes} classes need at least one image each"
        )
    shuffled = rng.permutation(pool)
    by_class = dataset.train_labels[shuffled]
    taken = np.zeros(len(shuffled), bool)
    for label, count in enumerate(quota):
        taken[np.flatnonzero(by_class == label)[:count]] = True
    return shuffled[taken], np.sort(shuffled[~taken])
