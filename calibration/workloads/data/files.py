"""The file formats of the data sets: IDX and the binary version of CIFAR.

Both readers check a file's length against what it declares, so that a truncated download or a
damaged file is an error with the file's name and never a shorter data set. What is not here: which
files make a data set (``datasets``) and where they come from (``fetch``).
"""

from __future__ import annotations

import gzip
import math
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdsim.errors import DataError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

_IMAGE_SIDE = 32
#: Twice the largest IDX file in use (EMNIST by class, 547 MB): what a few MB of gzip expand to
#: must not fill the memory before it is refused.
_MAX_BYTES = 2**30


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or gzipped.

    Parameters
    ----------
    path : path
        The file; ``.gz`` means gzipped.

    Returns
    -------
    uint8 array
        Of the shape the header declares.

    Raises
    ------
    DataError
        If the file is missing, is not IDX of bytes, or its length contradicts its header.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            shape = _idx_shape(path, file)
            size = math.prod(shape)
            # One byte more than declared reveals a longer file without reading all it expands to.
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; delete it to fetch it again") from error
    if len(content) != size:
        got = f"{len(content)}" if len(content) < size else "more"
        raise DataError(
            f"{path} is truncated or corrupt: its header promises {size} bytes of data (shape "
            f"{shape}), got {got}; delete it to fetch it again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _idx_shape(path: Path, file: BufferedIOBase) -> tuple[int, ...]:
    """Read an IDX header: its kind, number of dimensions and their sizes."""
    start = file.read(4)
    if len(start) < 4 or start[:3] != b"\x00\x00\x08" or not 1 <= start[3] <= 4:
        raise DataError(
            f"{path} is not an IDX file of bytes: it should begin with 00 00 08 and the number of "
            f"dimensions, got {start.hex(' ') or 'nothing'}"
        )
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise DataError(
            f"{path} is truncated or corrupt: its header is cut short; delete it to fetch it again"
        )
    shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
    if math.prod(shape) > _MAX_BYTES:
        raise DataError(
            f"{path} is no data set: its header promises {math.prod(shape)} bytes (shape {shape}); "
            f"the limit is {_MAX_BYTES}"
        )
    return shape


def read_cifar(path: str | Path, *, fine: bool = False) -> tuple[Images, Labels]:
    """Read one file of the CIFAR binary version.

    Parameters
    ----------
    path : path
        The file: records of 1 label byte (CIFAR-10) or 2 (CIFAR-100: coarse, fine) and 3,072
        pixel bytes.
    fine : bool
        The file is CIFAR-100's; its fine labels are returned.

    Returns
    -------
    images : (n, 3, 32, 32) uint8 array
    labels : (n,) int64 array

    Raises
    ------
    DataError
        If the file is missing, or is empty or not a whole number of records.
    """
    path = Path(path)
    label_bytes = 2 if fine else 1
    pixels = 3 * _IMAGE_SIDE * _IMAGE_SIDE
    record = label_bytes + pixels
    try:
        length = path.stat().st_size
        if length > _MAX_BYTES:
            raise DataError(f"{path} is no data set: {length} bytes; the limit is {_MAX_BYTES}")
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if content.size == 0 or content.size % record:
        raise DataError(
            f"{path} is truncated or corrupt: its length must be a multiple of {record} bytes "
            f"(one record), got {content.size}"
        )
    records = content.reshape(-1, record)
    labels = records[:, label_bytes - 1].astype(np.int64)
    images = records[:, label_bytes:].reshape(-1, 3, _IMAGE_SIDE, _IMAGE_SIDE)
    return np.ascontiguousarray(images), labels
