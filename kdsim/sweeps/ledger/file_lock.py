"""The one writer of a store: a lock on the file itself, by whatever name it was opened.

The lock is an open-file-description lock on one byte that SQLite leaves alone. It belongs to the
inode, so that a symbolic link, a hard link or a bind mount leads to the same lock, it leaves no
file behind, and the system ends it with the process, however that dies.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import struct
import sys
import threading
from pathlib import Path
from typing import ClassVar

if sys.platform == "linux":
    import fcntl

#: SQLite locks bytes 2**30 .. 2**30 + 511 of its file (https://sqlite.org/lockingv3.html).
_LOCK_BYTE = 2**30 + 4096
#: What is mounted, and where: the fifth word of each line (proc_pid_mountinfo(5)).
_MOUNTS = Path("/proc/self/mountinfo")
#: l_type, l_whence, l_start, l_len, l_pid of ``struct flock``.
_FLOCK = "hhqqi0q"


class FileInUse:
    """One connection's share in a store's file, and the writer's lock if it takes that.

    Parameters
    ----------
    writing : bool
        Make the file if it is not there; only then can it be locked.
    """

    # Closing any descriptor of a file drops the locks that SQLite's connections of this process
    # hold on it (POSIX). Descriptors therefore stay open until the file's last share is closed.
    _mutex = threading.Lock()
    _shares: ClassVar[dict[tuple[int, int], int]] = {}
    _idle: ClassVar[dict[tuple[int, int], list[int]]] = {}

    def __init__(self, path: str, *, writing: bool) -> None:
        self._path = path
        self._side: sqlite3.Connection | None = None
        flags = os.O_RDWR | os.O_CREAT if writing else os.O_RDONLY
        self._descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
        facts = os.fstat(self._descriptor)
        self._file = facts.st_dev, facts.st_ino
        self._closed = False
        with self._mutex:
            self._shares[self._file] = self._shares.get(self._file, 0) + 1

    @property
    def names(self) -> int:
        """How many names (hard links) the file has."""
        return os.fstat(self._descriptor).st_nlink

    @property
    def is_mounted(self) -> bool:
        """Whether the file alone, and not its folder, is mounted under this name."""
        try:
            lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError:
            return False
        # Space, tab, newline and backslash are written as three octal digits.
        places = {
            re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split(" ")[4])
            for line in lines
        }
        return os.path.realpath(self._path) in places

    def lock(self) -> bool:
        """Become the only writer; return whether that worked."""
        if sys.platform != "linux":
            return self._lock_beside()
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _request(fcntl.F_WRLCK))
        except BlockingIOError:
            return False
        return True

    def is_locked(self) -> bool:
        """Whether another writer has the lock now; False where that cannot be asked."""
        if sys.platform != "linux":
            return False
        answer = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, _request(fcntl.F_WRLCK))
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        """Give the lock up; only after SQLite's connection has been closed."""
        if self._closed:
            return
        self._closed = True
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _request(fcntl.F_UNLCK))
        if self._side is not None:
            self._side.close()
        with self._mutex:
            idle = self._idle.setdefault(self._file, [])
            idle.append(self._descriptor)
            self._shares[self._file] -= 1
            if not self._shares[self._file]:
                for descriptor in idle:
                    os.close(descriptor)
                del self._shares[self._file], self._idle[self._file]

    def _lock_beside(self) -> bool:
        # Elsewhere a transaction in a file beside it, which goes by name and is left behind.
        self._side = sqlite3.connect(f"{self._path}-lock", timeout=0.0, isolation_level=None)
        try:
            self._side.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                return False
            raise
        return True


def _request(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, _LOCK_BYTE, 1, 0)
