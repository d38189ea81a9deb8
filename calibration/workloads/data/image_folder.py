"""A folder of images, one folder per class, as a data set: SUN397's layout, or a user's own.

The class of an image is the path of its folder: ``a/abbey/1.jpg`` is of class ``a/abbey``. Folders
``train`` and ``test`` at the top are the two parts; without them a tenth of each class, the same
for everyone, is held out for testing. Every image is cut to its central square and scaled.

What is not here: the official data sets (``datasets``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.workloads.data.datasets import Dataset
from calibration.workloads.data.files import Images
from kdsim.errors import DataError

#: What an image's name ends with; other files are passed over.
SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".png")

#: Share of each class that is held out where the folder does not say.
_TEST_SHARE = 0.1

#: All pixels are held in memory: more is refused before anything is decoded.
_MAX_BYTES = 2**32

_LEAST_SIDE = 8


def load_image_folder(folder: Path, side: int = 64) -> Dataset:
    """Read a folder of images.

    Parameters
    ----------
    folder : path
        Holds the folders of the classes, at any depth, or ``train`` and ``test`` with them.
    side : int
        Height and width in pixels to which images are scaled, 8 or more.

    Returns
    -------
    Dataset
        RGB, named after the folder and the size; classes are numbered in the order of their names.

    Raises
    ------
    DataError
        If the folder does not hold such images, one cannot be decoded, or they would not fit into
        memory; names the file or the class.
    """
    if side < _LEAST_SIDE:
        raise DataError(f"images must be {_LEAST_SIDE} pixels wide or more, got {side}")
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder of images")
    if all((folder / part).is_dir() for part in ("train", "test")):
        train, test = (_by_class(folder / part) for part in ("train", "test"))
        apart = sorted(set(train) ^ set(test))
        if apart:
            raise DataError(f"{folder}: class {apart[0]} is in only one of train and test")
    else:
        train, test = _hold_out(_by_class(folder), folder)
    classes = sorted(train)
    if len(classes) < 2:
        raise DataError(
            f"{folder} holds {len(classes)} classes; put each class's images into a folder of its "
            f"own ({', '.join(SUFFIXES)})"
        )
    count = sum(len(paths) for part in (train, test) for paths in part.values())
    if (needed := 3 * side * side * count) > _MAX_BYTES:
        fitting = math.isqrt(_MAX_BYTES // (3 * count))
        raise DataError(
            f"{folder}: {count} images of {side} pixels take {needed / 1e9:.1f} GB of memory, the "
            f"limit is {_MAX_BYTES / 1e9:.1f}; {fitting} pixels fit"
        )
    return Dataset(
        f"{folder.resolve().name}-{side}px",
        *_read_part(train, classes, side),
        *_read_part(test, classes, side),
        classes=len(classes),
    )


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """Return each class's images, in the order of their names."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            found.setdefault(path.parent.relative_to(folder).as_posix(), []).append(path)
    if "." in found:
        raise DataError(f"{found['.'][0]} is in no class's folder")
    return found


def _hold_out(
    whole: dict[str, list[Path]], folder: Path
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Part each class's images, by their names alone."""
    train: dict[str, list[Path]] = {}
    test: dict[str, list[Path]] = {}
    for label, paths in whole.items():
        if len(paths) < 2:
            raise DataError(
                f"{folder}: class {label} has 1 image; training and testing need one each"
            )
        held = max(1, round(_TEST_SHARE * len(paths)))
        order = np.random.default_rng(0).permutation(len(paths))
        test[label] = [paths[k] for k in order[:held]]
        train[label] = [paths[k] for k in order[held:]]
    return train, test


def _read_part(
    part: dict[str, list[Path]], classes: list[str], side: int
) -> tuple[Images, NDArray[np.int64]]:
    labels = np.concatenate([np.full(len(part[c]), k) for k, c in enumerate(classes)])
    images = np.empty((len(labels), 3, side, side), np.uint8)
    for k, path in enumerate(_paths(part, classes)):
        images[k] = read_image(path, side)
    return images, labels.astype(np.int64)


def _paths(part: dict[str, list[Path]], classes: list[str]) -> Iterator[Path]:
    for label in classes:
        yield from part[label]


def read_image(path: Path, side: int) -> NDArray[np.uint8]:
    """Decode an image, cut it to its central square and scale it.

    Returns
    -------
    (3, side, side) uint8 array
        Red, green and blue; grey and palette images are converted.

    Raises
    ------
    DataError
        If the file is no image, is cut short, or would take a disproportionate amount of memory.
    """
    from PIL import Image, ImageOps  # not needed for any other data set

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                square = ImageOps.fit(file.convert("RGB"), (side, side), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError,
            Image.DecompressionBombWarning) as error:  # fmt: skip
        raise DataError(f"{path} cannot be decoded: {error}") from error
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))
