"""The data sets of the real workloads, in memory.

Read are the official files alone: scikit-learn's digits, Fashion-MNIST as IDX, CIFAR as the
*binary* version (never pickle), in the folder names torchvision uses. What is absent is fetched by
``fetch``; disjoint parts are drawn by ``splits``.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.workloads.data.fetch import fetch_cifar, fetch_fashion_mnist
from calibration.workloads.data.files import Images, Labels, read_cifar, read_idx
from kdsim._types import Record
from kdsim.errors import DataError

DATASETS: tuple[str, ...] = ("digits", "fashion-mnist", "cifar10", "cifar10-jpeg", "cifar100")

#: Names the folder of the data sets when `data_dir` is not given.
DATA_VARIABLE = "KDSIM_DATA"

#: scikit-learn's digits have no official test part: this many, the same for everyone, are held out.
_DIGITS_TEST = 497

_CIFAR_FOLDER = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled image data set, whole in memory.

    Attributes
    ----------
    name : str
        What results on it are labelled with, e.g. ``"cifar10-jpeg"``.
    train_images, test_images : (n, channels, height, width) uint8 array
        Pixels from 0 to `peak`.
    train_labels, test_labels : (n,) int64 array
        Class numbers from 0.
    peak : int
        The largest pixel value the format allows (255; 16 for digits).
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    classes: int
    peak: int = 255

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.ndim != 4 or labels.ndim != 1 or 0 in images.shape[1:]:
                raise DataError(
                    f"{self.name}: {part} must be images (n, channels, height, width) and labels "
                    f"(n,), got shapes {images.shape} and {labels.shape}"
                )
            if len(images) != len(labels):
                raise DataError(
                    f"{self.name}: {part} has {len(images)} images but {len(labels)} labels"
                )
            if len(labels) and not 0 <= labels.min() <= labels.max() < self.classes:
                raise DataError(
                    f"{self.name}: {part} labels must lie in 0 to {self.classes - 1}, got "
                    f"{labels.min()} to {labels.max()}"
                )
            empty = np.flatnonzero(np.bincount(labels, minlength=self.classes) == 0)
            if empty.size:
                raise DataError(
                    f"{self.name}: {part} has no image of class {listing(empty)}; every one of "
                    f"the {self.classes} classes needs at least one"
                )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                f"{self.name}: training and test images must be of one shape, got "
                f"{self.train_images.shape[1:]} and {self.test_images.shape[1:]}"
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shapes, pixels and labels: the same content gives the same digest."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(str((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @cached_property
    def normalisation(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of each channel over the training images, in pixel units."""
        # From histograms: exact, and without a float copy of all images.
        values = np.arange(256, dtype=float)
        mean, sd = [], []
        for channel in range(self.train_images.shape[1]):
            counts = np.bincount(self.train_images[:, channel].ravel(), minlength=256)
            mu = float(counts @ values / counts.sum())
            mean.append(mu)
            sd.append(math.sqrt(float(counts @ (values - mu) ** 2 / counts.sum())))
        return np.array(mean, np.float32), np.maximum(np.array(sd, np.float32), 1e-6)

    def images(self, part: str, indices: Sequence[int] | NDArray[np.int64] | None = None) -> Tensor:
        """Return normalised images (zero mean, unit deviation a channel) as a float32 tensor.

        Parameters
        ----------
        indices : (k,) int array_like, optional
            Which images; all by default.

        Returns
        -------
        (k, channels, height, width) float32 tensor
        """
        raw = self._of(part, "images")
        chosen = raw if indices is None else raw[np.asarray(indices)]
        mean, sd = self.normalisation
        scaled = (chosen.astype(np.float32) - mean[:, None, None]) / sd[:, None, None]
        return torch.from_numpy(np.ascontiguousarray(scaled))  # (k, channels, height, width)

    def labels(self, part: str, indices: Sequence[int] | NDArray[np.int64] | None = None) -> Tensor:
        """Return labels as an int64 tensor, the counterpart of :meth:`images`."""
        raw = self._of(part, "labels")
        return torch.from_numpy(raw.copy() if indices is None else raw[np.asarray(indices)])

    def _of(self, part: str, what: str) -> NDArray[Any]:
        if part not in ("train", "test"):
            raise DataError(f"part must be 'train' or 'test', got {part!r}")
        values: NDArray[Any] = getattr(self, f"{part}_{what}")
        return values


def load(name: str, data_dir: str | Path | None = None, *, download: bool = True) -> Dataset:
    """Read a data set, fetching it first when it is absent.

    Parameters
    ----------
    name : {"digits", "fashion-mnist", "cifar10", "cifar10-jpeg", "cifar100"}
        ``digits`` ships with scikit-learn and needs neither folder nor network; its 1,797 images
        are divided once and for all into 1,300 for training and 497 for testing.
        ``cifar10-jpeg`` is a part of CIFAR-10, decoded from JPEG, in CIFAR-10's folder and record
        layout: its batches may be absent or short, and results carry its name.
    data_dir : path, optional
        Folder of the data sets; else the environment variable ``KDSIM_DATA``; else pooch's cache
        folder for kdsim.
    download : bool
        Fetch absent files from the official addresses.

    Raises
    ------
    DataError
        If the name is unknown, or a file is missing, truncated, corrupt or cannot be fetched.
    """
    if name not in DATASETS:
        raise DataError(f"data set must be one of {', '.join(DATASETS)}; got {name!r}")
    if name == "digits":
        return _load_digits()
    folder = data_folder(data_dir)
    if name == "fashion-mnist":
        return _load_fashion_mnist(folder, download)
    return _load_cifar(name, folder, download)


def data_folder(data_dir: str | Path | None = None) -> Path:
    """Return the folder of the data sets; see :func:`load` for the order of precedence."""
    if data_dir is not None:
        return Path(data_dir)
    if os.environ.get(DATA_VARIABLE):
        return Path(os.environ[DATA_VARIABLE])
    import pooch  # only when neither is given: not needed to read local files

    return Path(pooch.os_cache("kdsim"))


# --- readers -------------------------------------------------------------------------------------


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits  # slow to import, and only digits need it

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]  # (1797, 1, 8, 8), 0 to 16
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = order[:_DIGITS_TEST], order[_DIGITS_TEST:]
    return Dataset("digits", images[train], labels[train], images[test], labels[test], 10, 16)


def _load_fashion_mnist(folder: Path, download: bool) -> Dataset:
    raw = folder / "FashionMNIST" / "raw"
    stems = {
        f"{part}_{what}": f"{stem}-{what}-idx{dims}-ubyte"
        for part, stem in (("train", "train"), ("test", "t10k"))
        for what, dims in (("images", 3), ("labels", 1))
    }
    absent = [stem for stem in stems.values() if _existing(raw, stem) is None]
    if absent and download:
        fetch_fashion_mnist(raw, absent)
    arrays: Record = {}
    for key, stem in stems.items():
        path = _existing(raw, stem)
        if path is None:
            raise DataError(f"{raw / stem}.gz is missing; {_where_from('fashion-mnist')}")
        arrays[key] = read_idx(path)
    for key in ("train_images", "test_images"):
        if arrays[key].ndim != 3:
            raise DataError(f"{_existing(raw, stems[key])}: expected images, got labels")
        arrays[key] = arrays[key][:, None]  # (n, 1, height, width)
    for key in ("train_labels", "test_labels"):
        arrays[key] = arrays[key].astype(np.int64)
    return Dataset("fashion-mnist", **arrays, classes=10)


def _existing(raw: Path, stem: str) -> Path | None:
    return next((p for p in (raw / f"{stem}.gz", raw / stem) if p.exists()), None)


def _load_cifar(name: str, folder: Path, download: bool) -> Dataset:
    family = "cifar100" if name == "cifar100" else "cifar10"
    raw = folder / _CIFAR_FOLDER[family]
    batches = (
        ["train.bin"] if family == "cifar100" else [f"data_batch_{k}.bin" for k in range(1, 6)]
    )
    test = "test.bin" if family == "cifar100" else "test_batch.bin"
    partial = name == "cifar10-jpeg"
    present = [b for b in [*batches, test] if (raw / b).exists()]
    absent = [b for b in [*batches, test] if b not in present]
    if absent and download and not partial:
        # A folder that holds some batches is someone's own: it is not overwritten.
        if present:
            raise DataError(
                f"{raw} holds only {', '.join(present)} of {name}; complete it, name another "
                "folder, or, for the partial JPEG-decoded copy of CIFAR-10, ask for cifar10-jpeg"
            )
        fetch_cifar(family, raw)
    elif (absent and not partial) or test in absent or len(present) == 1:
        raise DataError(f"{raw} holds no {absent[-1]}; {_where_from(name)}")
    read = [
        read_cifar(raw / b, fine=family == "cifar100")
        for b in batches
        if not partial or b in present
    ]
    test_images, test_labels = read_cifar(raw / test, fine=family == "cifar100")
    images = np.concatenate([r[0] for r in read])
    labels = np.concatenate([r[1] for r in read])
    if not partial and (len(labels), len(test_labels)) != (50_000, 10_000):
        raise DataError(
            f"{raw}: {name} has 50000 training and 10000 test images, got {len(labels)} and "
            f"{len(test_labels)}; for the partial JPEG-decoded copy ask for cifar10-jpeg"
        )
    return Dataset(
        name, images, labels, test_images, test_labels, 100 if family != "cifar10" else 10
    )


def _where_from(name: str) -> str:
    return (
        f"name the folder that holds {name} with --data-dir or {DATA_VARIABLE}, "
        "or allow the download"
    )


def listing(numbers: NDArray[np.int64]) -> str:
    """Write the first few of some numbers for a message."""
    shown = ", ".join(str(n) for n in numbers[:5])
    return shown + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
