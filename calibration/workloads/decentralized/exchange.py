"""Who learns from whom: exchange graphs, their traffic, and pools of stale checkpoints.

What is *not* here: how predictions reach another process (``processes``) and what a client does
with them (``decentralized``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from calibration.workloads.training.checkpoints import StateDict
from kdsim.errors import WorkloadError

GRAPHS = ("complete", "ring", "star")


@dataclass(frozen=True, slots=True)
class ExchangeGraph:
    """A directed graph among clients: ``teachers[k]`` are those that client k learns from.

    Attributes
    ----------
    name : str
        How it was asked for, e.g. ``"ring"`` or a file name.
    teachers : tuple of tuple of int
        Sorted, without k itself; may be empty.
    """

    name: str
    teachers: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        for learner, chosen in enumerate(self.teachers):
            wrong = [j for j in chosen if not 0 <= j < self.clients or j == learner]
            if wrong:
                raise WorkloadError(
                    f"exchange graph {self.name!r}: client {learner} cannot learn from "
                    f"{wrong[0]}; clients are 0 to {self.clients - 1} and learn from others"
                )

    @property
    def clients(self) -> int:
        """Number of clients."""
        return len(self.teachers)

    @property
    def edges(self) -> int:
        """Number of (teacher, learner) pairs: the predictions that travel in a round."""
        return sum(len(chosen) for chosen in self.teachers)

    def learners(self, teacher: int) -> tuple[int, ...]:
        """Return the clients that learn from `teacher`."""
        return tuple(k for k, chosen in enumerate(self.teachers) if teacher in chosen)


def exchange_graph(name: str, clients: int) -> ExchangeGraph:
    """Build a graph by name, or read it from a file.

    Parameters
    ----------
    name : str
        ``"complete"`` (each learns from all others), ``"ring"`` (from both neighbours),
        ``"star"`` (client 0 from all, all from client 0), or the path of a text file with one
        edge ``teacher learner`` a line; ``#`` begins a comment.
    clients : int
        Number of clients, at least 1.

    Raises
    ------
    WorkloadError
        For an unknown name, an unreadable file (names file and line), or no clients.

    Examples
    --------
    >>> exchange_graph("ring", 4).teachers
    ((1, 3), (0, 2), (1, 3), (0, 2))
    """
    if clients < 1:
        raise WorkloadError(f"the number of clients must be at least 1, got {clients}")
    everyone = range(clients)
    if name == "complete":
        return _graph(name, clients, ((j, k) for k in everyone for j in everyone if j != k))
    if name == "ring":
        around = (((k + step) % clients, k) for k in everyone for step in (-1, 1))
        return _graph(name, clients, ((j, k) for j, k in around if j != k))
    if name == "star":
        spokes = range(1, clients)
        return _graph(name, clients, [(0, k) for k in spokes] + [(k, 0) for k in spokes])
    if not Path(name).is_file():
        raise WorkloadError(
            f"exchange graph must be one of {', '.join(GRAPHS)} or a file of edges; got {name!r}"
        )
    return _graph(name, clients, _read_edges(Path(name), clients))


def _graph(name: str, clients: int, edges: Iterable[tuple[int, int]]) -> ExchangeGraph:
    teachers: list[set[int]] = [set() for _ in range(clients)]
    for teacher, learner in edges:
        teachers[learner].add(teacher)
    return ExchangeGraph(name, tuple(tuple(sorted(chosen)) for chosen in teachers))


def _read_edges(path: Path, clients: int) -> list[tuple[int, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WorkloadError(
            f"exchange graph {path} must be text in UTF-8, got the byte "
            f"{error.object[error.start]:#04x} at position {error.start}"
        ) from error
    except OSError as error:
        raise WorkloadError(f"exchange graph {path} cannot be read: {error.strerror}") from error
    edges = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        # No client has a number of ten digits, and Python refuses to convert thousands of them.
        ends = [int(f) for f in fields if f.isdecimal() and f.isascii() and len(f) < 10]
        if len(fields) != 2 or len(ends) != 2 or max(ends) >= clients or ends[0] == ends[1]:
            raise WorkloadError(
                f"{path}:{number}: an edge is two different clients of 0 to {clients - 1}, "
                f"'teacher learner'; got {line.strip()!r:.80}"
            )
        edges.append((ends[0], ends[1]))
    return edges


@dataclass(frozen=True, slots=True)
class Traffic:
    """Payload bytes that one round moves, summed over all clients.

    Attributes
    ----------
    predictions : int
        Logits sent from teachers to learners.
    samples : int
        Private samples sent to the teachers that are to judge them; none for a shared pool.
    checkpoints : int
        Weights fetched into rolling pools.
    """

    predictions: int = 0
    samples: int = 0
    checkpoints: int = 0

    @property
    def total(self) -> int:
        """All bytes of the round."""
        return self.predictions + self.samples + self.checkpoints

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.predictions + other.predictions,
            self.samples + other.samples,
            self.checkpoints + other.checkpoints,
        )


def received_bytes(
    teachers: int, batch: int, classes: int, sample_values: int, *, distil_on: str
) -> Traffic:
    """Count what one learner's synchronous round moves: float32 logits in, and samples out.

    Both cases of the decentralised loss need the same bytes: averaging predictions happens at the
    learner.

    Parameters
    ----------
    batch, classes, sample_values : int
        Samples per batch, logits per sample, numbers per sample.
    distil_on : {"public", "private"}
        A public sample is known to everyone; a private one must be sent to each teacher.
    """
    outgoing = 4 * teachers * batch * sample_values if distil_on == "private" else 0
    return Traffic(predictions=4 * teachers * batch * classes, samples=outgoing)


@dataclass(slots=True)
class CheckpointPool:
    """A client's rolling pool of others' checkpoints; the newest displaces the oldest.

    Attributes
    ----------
    capacity : int
        Checkpoints kept.
    entries : list of (int, int, dict)
        Owner, the step of its checkpoint, and the weights; oldest first.
    """

    capacity: int
    entries: list[tuple[int, int, StateDict]] = field(default_factory=list)

    def add(self, owner: int, step: int, state: StateDict) -> None:
        """Take in a checkpoint."""
        self.entries.append((owner, step, state))
        del self.entries[: -self.capacity]

    def draw(self, count: int, rng: np.random.Generator) -> list[tuple[int, int, StateDict]]:
        """Draw up to `count` different entries."""
        size = min(count, len(self.entries))
        return [self.entries[i] for i in rng.choice(len(self.entries), size=size, replace=False)]


def supplier(graph: ExchangeGraph, learner: int, refresh: int, seed: int) -> int | None:
    """Choose whose checkpoint `learner` fetches at its n-th refresh, None without teachers.

    The choice depends on the arguments alone, so that every process knows without a message who
    has to send.
    """
    teachers = graph.teachers[learner]
    if not teachers:
        return None
    return teachers[int(np.random.default_rng([seed, learner, refresh]).integers(len(teachers)))]


def state_bytes(state: StateDict) -> int:
    """Count the payload bytes of a checkpoint."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def pack_state(state: StateDict) -> Tensor:
    """Flatten a checkpoint into one byte tensor, in the order of its entries."""
    return torch.cat([t.contiguous().reshape(-1).view(torch.uint8) for t in state.values()])


def unpack_state(packed: Tensor, like: StateDict) -> StateDict:
    """Undo :func:`pack_state` for a checkpoint with the names, shapes and dtypes of `like`."""
    state, start = {}, 0
    for name, tensor in like.items():
        stop = start + tensor.numel() * tensor.element_size()
        # A copy, because a view of another dtype needs aligned storage.
        piece = packed[start:stop].clone().view(tensor.dtype)
        state[name] = piece.reshape(tensor.shape)
        start = stop
    return state
