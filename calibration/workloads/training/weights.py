"""Starting weights from a file: those of a network trained before, perhaps on other classes.

A file holds a state dict that ``torch.save`` has written, with the names of our networks or, for
ResNet-18, those of torchvision. It is read without pickle's power and checked entry by entry. The
last layer is taken over if it has as many classes, and keeps its fresh weights otherwise.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from calibration.workloads.training.checkpoints import read_weights
from calibration.workloads.training.residual import ClientNetwork, ResNet18
from kdsim.errors import WorkloadError

#: Counts the batches that a BatchNorm has seen; old files lack it, and nothing depends on it here.
_COUNTER = "num_batches_tracked"

#: What torch wrote before version 1.6 begins with: a pickled number.
_LEGACY = b"\x80\x02\x8a\x0a"


@dataclass(frozen=True, slots=True)
class StartingWeights:
    """A file of weights, and what it holds.

    Attributes
    ----------
    path : str
        The file.
    sha256 : str
        Of its bytes when it was named; another content later is an error.
    """

    path: str
    sha256: str


def starting_weights(path: Path) -> StartingWeights:
    """Name a file of weights.

    Raises
    ------
    WorkloadError
        If it cannot be read, or is of torch's format before 1.6.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WorkloadError(f"weights {path} cannot be read: {error.strerror}") from error
    if content.startswith(_LEGACY):
        raise WorkloadError(
            f"weights {path} are in the format of torch before 1.6; write them again: "
            "torch.save(torch.load(OLD, weights_only=True), NEW)"
        )
    return StartingWeights(str(path), hashlib.sha256(content).hexdigest())


def start_from(network: ClientNetwork, weights: StartingWeights) -> list[str]:
    """Load a network's weights from a file.

    Parameters
    ----------
    network : ConvNet or ResNet18
        Changed in place.
    weights : StartingWeights
        From :func:`starting_weights`.

    Returns
    -------
    list of str
        The parameters that keep their fresh values: those of the last layer, if the file's has
        another number of classes or is absent.

    Raises
    ------
    WorkloadError
        If the file changed since, is damaged, or does not fit the network; names the entry.
    """
    path = Path(weights.path)
    if starting_weights(path).sha256 != weights.sha256:
        raise WorkloadError(f"weights {path} have changed since this run was set up")
    given = read_weights(path)
    if isinstance(network, ResNet18):
        given = {_own_name(name, network.stem): tensor for name, tensor in given.items()}
    own: dict[str, Tensor] = network.state_dict()
    last = f"head.{len(network.head) - 1}."
    fresh = [
        name
        for name in own
        if name.startswith(last) and (name not in given or given[name].shape != own[name].shape)
    ]
    taken = {
        name: tensor
        for name, tensor in given.items()
        if name not in fresh and not name.endswith(_COUNTER)
    }
    wanted = [name for name in own if name not in fresh and not name.endswith(_COUNTER)]
    _check_fit(path, network, own, taken, wanted)
    network.load_state_dict(taken, strict=False)
    return fresh


def _check_fit(
    path: Path,
    network: nn.Module,
    own: dict[str, Tensor],
    taken: dict[str, Tensor],
    wanted: list[str],
) -> None:
    missing = [name for name in wanted if name not in taken]
    unknown = [name for name in taken if name not in own]
    shapes = [
        f"{name} has shape {tuple(taken[name].shape)}, but {network.name} needs "
        f"{tuple(own[name].shape)}"
        for name in wanted
        if name in taken and taken[name].shape != own[name].shape
    ]
    if shapes:
        fault = shapes[0]
    elif missing:
        fault = f"{missing[0]} is missing"
    elif unknown:
        fault = f"{network.name} has no {unknown[0]}"
    else:
        return
    more = len(shapes) + len(missing) + len(unknown) - 1
    others = f" (and {more} more entries that do not fit)" if more else ""
    raise WorkloadError(f"weights {path} do not fit {network.name}: {fault}{others}")


def _own_name(name: str, stem: int) -> str:
    """Translate a name of torchvision's ResNet-18; others stay as they are."""
    parts = {"conv1.": "features.0.", "bn1.": "features.1.", "fc.": "head.2."}
    for theirs, ours in parts.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    found = re.fullmatch(r"layer([1-4])\.([01])\.(conv|bn|downsample\.)([012])\.(\w+)", name)
    if found is None:
        return name
    stage, block, kind, which, entry = found.groups()
    index = stem + 2 * (int(stage) - 1) + int(block)
    if kind == "downsample.":
        return f"features.{index}.shortcut.{which}.{entry}"
    place = {"1": "first", "2": "second"}.get(which, which)
    return f"features.{index}.{place}{'_norm' if kind == 'bn' else ''}.{entry}"
