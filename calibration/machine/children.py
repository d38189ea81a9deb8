"""Processes that must not outlive the one that started them, however it ends.

A measuring or training process runs its work in children, each at one end of a pipe of JSON
messages. A child that stayed behind after a kill would continue to use the CPU, or stay stopped
for ever. So the kernel is asked to end it with its parent, and Ctrl-C in the terminal reaches only
the parent, which ends its children in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing as mp
import multiprocessing.forkserver
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from typing import Any

from kdsim._types import Record, RecordView
from kdsim.messages import how_it_ended

#: prctl(2): the signal that a process is sent when its parent ends.
_PR_SET_PDEATHSIG = 1


def fork_server(preload: Sequence[str]) -> mp.context.ForkServerContext | mp.context.SpawnContext:
    """Return a context whose processes start fresh, in a few milliseconds, with modules imported.

    A fork server imports once and forks before any thread exists, so that every process begins
    with no OpenMP team and no allocator history. It ends when this process ends, and with it
    (see `end_with_parent`) its children. Where there is none (Windows), processes are spawned.

    Parameters
    ----------
    preload : sequence of str
        Modules to import in the server. The first call in a process decides.
    """
    if "forkserver" not in mp.get_all_start_methods():
        return mp.get_context("spawn")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    # The tracker unblocks signals when it starts, so it is started before they are blocked.
    resource_tracker.ensure_running()
    with _interrupts_held():
        multiprocessing.forkserver.ensure_running()
    return context


class Child:
    """A process that this one has started, and the pipe of JSON messages to it.

    Parameters
    ----------
    context : multiprocessing context
        See `fork_server`.
    target : callable
        Called in the process with its end of the pipe and `arguments`; it calls
        `end_with_parent` first.
    """

    def __init__(
        self,
        context: mp.context.ForkServerContext | mp.context.SpawnContext,
        target: Callable[..., None],
        arguments: Sequence[Any],
        name: str,
    ) -> None:
        self.name = name
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=target, args=(theirs, *arguments), name=name, daemon=True
        )
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid or 0

    def send(self, message: RecordView) -> None:
        """Send a message; an `OSError` says that the process has ended."""
        self.pipe.send_bytes(json.dumps(message).encode())

    def receive(self) -> Record:
        """Wait for a message; an `EOFError` or `OSError` says that the process has ended."""
        message: Record = json.loads(self.pipe.recv_bytes())
        return message

    def exit_code(self, timeout_s: float = 10.0) -> int | None:
        """Wait for the process to end; return its exit code, None if it has not ended by then."""
        self.process.join(timeout_s)
        return self.process.exitcode

    def how_it_ended(self) -> str:
        """Say how the process ended, after its pipe has."""
        code = self.exit_code()
        return "its pipe is closed, but it runs" if code is None else how_it_ended(code)


def end_children(children: Sequence[Child], *, timeout_s: float = 5.0) -> None:
    """Close the pipes, upon which the processes end, and kill those that do not in time."""
    for child in children:
        child.pipe.close()
    for child in children:
        if child.exit_code(timeout_s) is None:
            child.process.kill()
            child.exit_code(timeout_s)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block Ctrl-C; what is started inside inherits that for good, this thread gets it back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Let the kernel end this process, stopped or not, when the process that started it ends.

    To be called first in a child. The child also gets a process group of its own, so that what a
    terminal sends to the foreground group does not reach it.
    """
    _leave_fork_server()
    with contextlib.suppress(OSError):  # it may lead a group or a session already
        os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = mp.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # it ended before the kernel was asked


def _leave_fork_server() -> None:
    """Close the pipe by which the fork server sees who may still need it.

    Every child holds an end of it, so that it could start children itself. A stopped child would
    keep the server, its parent, from ending with the process that both work for.
    """
    server = multiprocessing.forkserver._forkserver
    end = getattr(server, "_forkserver_alive_fd", None)
    if end is not None:
        # The standard library offers no other way to the pipe, and no stub of it.
        setattr(server, "_forkserver_alive_fd", None)  # noqa: B010
        os.close(end)
