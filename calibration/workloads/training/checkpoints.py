"""Checkpoints: tensors and plain values on disk, written atomically and read without pickle.

Each carries the identity of its run, so that a run never resumes from another one's weights.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdsim._types import Record, RecordView
from kdsim.errors import WorkloadError
from kdsim.output_file import write_output

#: A network's weights and buffers by name.
StateDict = dict[str, Tensor]

_FORMAT = 1


class CheckpointError(WorkloadError):
    """A checkpoint cannot be written; the one before it is intact."""

    exit_code = 1


def save_checkpoint(path: Path, state: RecordView, identity: RecordView) -> None:
    """Write a checkpoint so that the one before it survives any failure.

    Parameters
    ----------
    path : path
        Its file; absent folders are made.
    state : mapping
        Tensors, numbers, strings and lists and dicts of them.
    identity : mapping
        What the run is; :func:`load_checkpoint` refuses a checkpoint of another one.

    Raises
    ------
    CheckpointError
        If it cannot be written, for example on a full disk.
    """
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, "identity": dict(identity), "state": dict(state)}, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_output(path, buffer.getvalue(), failure=CheckpointError)
    except (OSError, CheckpointError) as error:
        kept = f"; the last good checkpoint is kept at {path}" if path.exists() else ""
        raise CheckpointError(f"checkpoint {error}{kept}") from error


def load_checkpoint(path: Path, identity: RecordView) -> Record:
    """Read a checkpoint of the run that `identity` describes.

    Returns
    -------
    dict
        The state that :func:`save_checkpoint` was given.

    Raises
    ------
    WorkloadError
        If the file is damaged, is no checkpoint, or belongs to another run (the first difference
        is named).
    """
    content = _checked(path, f"checkpoint {path}", "; delete it to start again")
    if (
        not isinstance(content, dict)
        or content.get("format") != _FORMAT
        or not all(isinstance(content.get(part), dict) for part in ("identity", "state"))
    ):
        raise WorkloadError(
            f"{path} is not a checkpoint of format {_FORMAT}; delete it to start again"
        )
    for where, wanted, got in differences(dict(identity), content["identity"]):
        raise WorkloadError(
            f"checkpoint {path} belongs to another run: {where} was {got!r}, now {wanted!r}; "
            "delete it or name another folder"
        )
    state: Record = content["state"]
    return state


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict of finite tensors that ``torch.save`` has written.

    Raises
    ------
    WorkloadError
        If the file is damaged, or holds anything else; names the entry.
    """
    content = _checked(path, str(path), "")
    if not isinstance(content, dict) or not content:
        raise WorkloadError(f"{path}: holds {type(content).__name__}, not a state dict of tensors")
    for name, tensor in content.items():
        if not isinstance(name, str):
            raise WorkloadError(f"{path}: a state dict names its tensors, got the key {name!r:.40}")
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            kind = type(tensor).__name__
            raise WorkloadError(f"{path}: {name!r:.60} must be a dense tensor, got {kind}")
        if not bool(torch.isfinite(tensor).all()):
            raise WorkloadError(f"{path}: {name!r:.60} holds NaN or infinite values")
    return dict(content)


def _checked(path: Path, what: str, remedy: str) -> Any:
    """Read a file of ``torch.save`` without pickle's power, every checksum verified first."""
    try:
        # torch checks no checksum on reading: a flipped bit would be a slightly other weight.
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise zipfile.BadZipFile("it is compressed, which torch.save never does")
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WorkloadError(f"{what}: no such file") from error
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
        pickle.UnpicklingError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WorkloadError(
            f"{what} is damaged or not a file that torch.save has written ({reason:.200}){remedy}"
        ) from error


def restore(path: Path, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights into a network; `path` names their file in the error.

    Raises
    ------
    WorkloadError
        If names or shapes do not fit.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise WorkloadError(f"{path}: the weights do not fit the network: {error}") from error


def differences(
    wanted: RecordView, got: RecordView, prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs between two trees of plain values: dotted name, wanted, got."""
    for key in sorted({*wanted, *got}):
        a, b = wanted.get(key), got.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}", a, b


def snapshot(network: nn.Module) -> StateDict:
    """Copy a network's weights and buffers, so that later training does not move them."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
