"""Fetch data sets from their official addresses, verified against their published checksums.

A file is downloaded under a temporary name and moved in place when its checksum fits, so that a
broken download never looks like data. What is not here: reading (``datasets``).
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdsim.errors import DataError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

#: MD5 sums as published beside the data sets.
_FASHION_MNIST_MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
_CIFAR_ARCHIVE = {
    "cifar10": ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    "cifar100": ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
}

#: A stalled server must not hang a run; pooch hands this to requests (connect and read, seconds).
_TIMEOUT_S = 30


def fetch_fashion_mnist(folder: Path, stems: Sequence[str]) -> None:
    """Download the named IDX files of Fashion-MNIST into `folder`.

    Raises
    ------
    DataError
        If a file cannot be fetched or its checksum is wrong.
    """
    for stem in stems:
        name = f"{stem}.gz"
        fetch_file(_FASHION_MNIST_URL + name, f"md5:{_FASHION_MNIST_MD5[stem]}", folder / name)


def fetch_cifar(family: str, folder: Path) -> None:
    """Download the binary version of CIFAR-10 or CIFAR-100 and unpack its files into `folder`.

    Raises
    ------
    DataError
        If the archive cannot be fetched or unpacked, or its checksum is wrong.
    """
    name, md5 = _CIFAR_ARCHIVE[family]
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / name
        fetch_file(_CIFAR_URL + name, f"md5:{md5}", archive, home=folder)
        unpack_files(archive, folder)


def fetch_file(url: str, known_hash: str, target: Path, *, home: Path | None = None) -> None:
    """Download one file with a progress bar and verify it.

    Parameters
    ----------
    known_hash : str
        Algorithm and hexadecimal digest, e.g. ``"md5:8d4f..."``.
    target : path
        Where it goes; absent folders are made. Left untouched on failure.
    home : path, optional
        The folder in which a user would put the file's content by hand; that of `target` by
        default.

    Raises
    ------
    DataError
        If the server cannot be reached, answers with an error, or sends other content.
    """
    import pooch  # requests and its friends are not needed to read local files
    import requests

    downloader = pooch.HTTPDownloader(progressbar=_RichBar(target.name), timeout=_TIMEOUT_S)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(
            url, known_hash, fname=target.name, path=target.parent, downloader=downloader
        )
    except ValueError as error:
        # pooch says "hash of downloaded file does not match" this way, and removes the file.
        raise DataError(f"{url} was fetched but its checksum is wrong: {error}") from error
    except (requests.RequestException, OSError) as error:
        raise DataError(
            f"{url} cannot be fetched: {error}; put its content into {home or target.parent} "
            "yourself, or name the folder of the data sets with --data-dir or KDSIM_DATA"
        ) from error


def unpack_files(archive: Path, folder: Path) -> None:
    """Unpack the plain files of a tar archive into one flat folder.

    Names lose their folders, so that no member can be written elsewhere. Everything is unpacked
    in a folder of its own and moved out when it is whole: a stop on the way leaves no short file.

    Raises
    ------
    DataError
        If the archive is corrupt or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=folder) as scratch,
            tarfile.open(archive) as tar,
        ):
            for member in tar:
                source = tar.extractfile(member) if member.isfile() else None
                if source is not None:
                    (Path(scratch) / Path(member.name).name).write_bytes(source.read())
            for path in Path(scratch).iterdir():
                path.replace(folder / path.name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive} cannot be unpacked into {folder}: {error}") from error


class _RichBar:
    """The few methods that pooch calls on a progress bar, on top of rich, on standard error."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.total: float = 0
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def update(self, size: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._progress.start()
            self._task = self._progress.add_task(self.name, total=self.total or None)
        if self._task is not None:
            self._progress.advance(self._task, size)

    def reset(self) -> None:
        """Pooch resets before it completes the bar: nothing to do, the bar is at its end."""

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
