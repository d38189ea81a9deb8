"""The file of a ledger: its schema, who may open it, and SQLite's errors in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdsim.errors import StoreError

APPLICATION_ID = 0x6B64736D  # "kdsm"
FORMAT = 1

_SCHEMA = """
CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    cell TEXT NOT NULL,
    position INTEGER NOT NULL,
    point TEXT NOT NULL,
    policy TEXT NOT NULL,
    source TEXT NOT NULL,
    cycles INTEGER NOT NULL,
    replications INTEGER NOT NULL,
    noisy INTEGER NOT NULL,
    varies INTEGER NOT NULL,
    bound_kind TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'done', 'failed')),
    error TEXT NOT NULL DEFAULT '',
    error_at INTEGER,
    n INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0,
    makespans BLOB,
    bounds BLOB,
    UNIQUE (point, policy)
);
CREATE INDEX runs_in_order ON runs (position);
CREATE INDEX runs_by_status ON runs (status, position);
CREATE TABLE chunks (
    run_id TEXT NOT NULL,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    makespans BLOB NOT NULL,
    bounds BLOB NOT NULL,
    seconds REAL NOT NULL,
    UNIQUE (run_id, start)
);
"""


def check_place(path: Path, mode: str) -> None:
    """Refuse a path where no store is, or where none can be."""
    try:
        folder, exists, parent = path.is_dir(), path.exists(), path.parent.is_dir()
    except (OSError, ValueError) as error:  # e.g. a name too long, a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"{path}: cannot be used: {reason}") from None
    if folder:
        raise StoreError(f"{path}: is a folder; a store is a file, e.g. {path / 'sweep.sqlite'}")
    if mode == "r" and not exists:
        raise StoreError(f"{path}: no such store")
    if not parent:
        raise StoreError(f"{path}: the folder {path.parent} does not exist")


def take_lock(path: str) -> sqlite3.Connection:
    """Become the only writer until the connection returned is closed."""
    # A transaction in a side file: it works wherever SQLite does, and the system ends it with
    # the process, however that dies. In the store itself it would keep the writer from committing.
    with translated(path):
        lock = sqlite3.connect(f"{path}-lock", timeout=0.0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise StoreError(
                    f"{path}: another sweep is writing to this store; wait for it or use another"
                ) from None
            raise
    return lock


def connect(path: str, mode: str) -> sqlite3.Connection:
    """Connect to the file for reading or for writing."""
    if mode == "w":
        return sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)
    # Opened for writing where that is allowed, so that the last reader can tidy up the log's
    # files; SQLite itself falls back to reading a file that is write-protected.
    uri = Path(path).resolve().as_uri() + "?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size:
            raise
        # A read-only folder: SQLite cannot make its shared index there. Without a log that has
        # something to say, the file alone is the whole truth.
        uri = uri.replace("?mode=rw", "?mode=ro&immutable=1")
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    return connection


def check_format(connection: sqlite3.Connection, path: str, mode: str) -> None:
    """Refuse what is no store of this format; make the tables of a new one."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application == 0 and version == 0 and tables == 0 and mode == "w":
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {FORMAT}; COMMIT;"
        )
        return
    if application != APPLICATION_ID:
        raise StoreError(f"{path}: is an SQLite file, but no kdsim store; nothing was changed")
    if version != FORMAT:
        age = "a newer" if version > FORMAT else "an older"
        raise StoreError(
            f"{path}: was written by {age} kdsim (store format {version}, this one has {FORMAT}); "
            "nothing was changed"
        )
    if mode == "w":
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo the open transaction, if SQLite has not done so itself."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


_REASONS = {
    "SQLITE_FULL": "the disk is full; what was written before is safe, run again with more room",
    "SQLITE_READONLY": "cannot be written (read-only file or folder)",
    "SQLITE_CANTOPEN": "cannot be opened (does the folder exist, and may you write to it?)",
    "SQLITE_NOTADB": "is not a store (not an SQLite file)",
    "SQLITE_CORRUPT": "is damaged; copy it and try `sqlite3 FILE .recover`",
    "SQLITE_BUSY": "is in use by another program",
    "SQLITE_LOCKED": "is in use by another program",
    "SQLITE_PERM": "may not be accessed",
    "SQLITE_AUTH": "may not be accessed",
    "SQLITE_IOERR": "cannot be read or written (input/output error)",
}


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn SQLite's errors into a `StoreError` that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        reason = next((text for key, text in _REASONS.items() if name.startswith(key)), "")
        raise StoreError(f"{path}: {reason or f'SQLite says: {error}'}") from error
