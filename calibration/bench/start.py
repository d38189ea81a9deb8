"""Starting the bench's processes and reading from them, and the teacher among them.

What the processes do is in ``calibration.bench.processes``; the bench itself in
``calibration.bench.bench``.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing as mp
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from calibration.bench import processes as bench_processes
from calibration.bench.paced import Schedule
from calibration.link.frames import MAX_FRAME_BYTES
from calibration.link.tls import Tls
from calibration.machine.children import Child, end_children, fork_server
from calibration.machine.cores import measurement_environment
from kdsim.errors import TransportError, WorkloadError


@dataclass(frozen=True, slots=True)
class Teacher:
    """A teacher that can be reached: its address, and its process if it runs here.

    Attributes
    ----------
    address : (str, int)
    greeting : dict
        At least ``columns`` (floats per row) and ``chunk_rows`` (rows per chunk).
    pid : int or None
        None for a teacher on another machine.

    Raises
    ------
    WorkloadError
        If the greeting lacks a size, or a chunk would be larger than any frame.
    """

    address: tuple[str, int]
    greeting: dict[str, Any]
    pid: int | None = None

    def __post_init__(self) -> None:
        sizes = [self.greeting.get(name) for name in ("columns", "chunk_rows")]
        whole = [size for size in sizes if isinstance(size, int) and size > 0]
        if len(whole) < len(sizes) or 4 * math.prod(whole) > MAX_FRAME_BYTES:
            raise WorkloadError(
                f"teacher {self.address[0]}:{self.address[1]} must say columns and chunk_rows, "
                f"whole numbers of at most {MAX_FRAME_BYTES // 4} floats per chunk, got {sizes}"
            )

    @property
    def chunk_mb(self) -> float:
        """MB (1e6 bytes) of float32 values in a chunk."""
        return int(self.greeting["columns"]) * int(self.greeting["chunk_rows"]) * 4e-6


def process_context() -> mp.context.ForkServerContext | mp.context.SpawnContext:
    """Return a context whose processes start fresh, in a few milliseconds, with torch imported.

    See `calibration.machine.children.fork_server`.
    """
    with measurement_environment():
        return fork_server(
            ["calibration.bench.processes", "calibration.bench.student", "torch", "numpy"]
        )


class TeacherProcess:
    """A teacher of our own on this machine, kept for a whole collection.

    Parameters
    ----------
    source : str
        ``module:function`` that builds ``(source, greeting)`` in the process.
    spec : mapping
        JSON values passed to it.
    host, port : str, int
        Where it listens.
    tls : Tls, optional
    timeout_s : float
        How long it may take to get ready.
    """

    def __init__(
        self,
        source: str = "calibration.bench.student:logit_bank",
        spec: Mapping[str, Any] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: Tls | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self._timeout_s = timeout_s
        self._child = Child(
            process_context(),
            bench_processes.teacher_main,
            (source, dict(spec or {}), host, port, tls),
            "teacher",
        )
        said = read_message(self._child, timeout_s)
        self.teacher = Teacher((said["host"], said["port"]), said["greeting"], self._child.pid)

    def __enter__(self) -> Teacher:
        return self.teacher

    def __exit__(self, *_: object) -> None:
        self.close()

    def pace(self, schedule: Schedule | None) -> list[float]:
        """Let the teacher send each chunk when a link would have delivered it; None: at once.

        Returns
        -------
        list of float
            How many seconds later than scheduled each chunk went out that was held back under
            the schedule before.
        """
        send_message(self._child, {} if schedule is None else asdict(schedule))
        said = read_message(self._child, self._timeout_s)
        return [float(seconds) for seconds in said["late_s"]]

    def close(self) -> None:
        """End the process."""
        end_children([self._child])


def read_message(child: Child, timeout_s: float) -> dict[str, Any]:
    """Read a message; silence, an ended process and a reported failure raise errors."""
    try:
        if not child.pipe.poll(timeout_s):
            raise WorkloadError(f"the {child.name} gave no sign within {timeout_s:g} s")
        said = child.receive()
    except (EOFError, OSError) as error:
        raise WorkloadError(f"the {child.name} died ({child.how_it_ended()})") from error
    if "failure" in said:
        kind = TransportError if said.get("kind") == "transport" else WorkloadError
        raise kind(f"the {child.name}: {said['failure']}")
    return said


def send_message(child: Child, message: Mapping[str, Any]) -> None:
    """Send a message; an ended process raises an error with the failure that it reported."""
    try:
        child.send(message)
    except OSError as error:
        reason = error.strerror
        with contextlib.suppress(EOFError, OSError):
            if child.pipe.poll(0):
                reason = child.receive().get("failure", reason)
        raise WorkloadError(f"the {child.name} died: {reason}") from error
