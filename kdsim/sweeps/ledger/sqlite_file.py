"""The file of a store: its schema and checksums, how it is opened, SQLite's errors in our words."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdsim.errors import StoreError
from kdsim.sweeps.ledger.file_lock import FileInUse

APPLICATION_ID = 0x6B64736D  # "kdsm"
#: 1: kdsim 0.1. 2: a checksum in every row, and the table of sessions.
FORMAT = 2

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
#: What format 2 adds. `arrays` is the checksum of makespans and bounds, `checksum` that of the
#: row's other columns with it, so that a row can be sealed anew without reading its arrays.
_ADDED = """
ALTER TABLE runs ADD COLUMN arrays BLOB;
ALTER TABLE runs ADD COLUMN checksum BLOB;
ALTER TABLE chunks ADD COLUMN checksum BLOB;
CREATE TABLE sessions (
    started REAL NOT NULL,
    updated REAL NOT NULL,
    ended REAL,
    done INTEGER NOT NULL
);
"""
_RUN_CHECKSUM = (
    "row_checksum(run_id, cell, position, point, policy, source, cycles, replications, noisy, "
    "varies, bound_kind, status, error, error_at, n, seconds, arrays)"
)
_CHUNK_CHECKSUM = "row_checksum(run_id, start, stop, seconds, array_checksum(makespans, bounds))"
#: SQL conditions: whether the columns of a row, beside its arrays, are as they were written.
RUN_IS_SOUND = f"checksum IS {_RUN_CHECKSUM}"
CHUNK_IS_SOUND = f"checksum IS {_CHUNK_CHECKSUM}"
#: SQL statements that seal rows; a WHERE clause may follow.
SEAL_RUNS = f"UPDATE runs SET checksum = {_RUN_CHECKSUM}"
SEAL_CHUNKS = f"UPDATE chunks SET checksum = {_CHUNK_CHECKSUM}"


def row_checksum(*values: object) -> bytes:
    """Hash the values of a row: damage is noticed, intent is not."""
    return _hash(repr(values).encode(errors="surrogatepass")).digest()


def array_checksum(makespans: bytes, bounds: bytes) -> bytes:
    """Hash a run's arrays."""
    digest = _hash(b"")
    for blob in (makespans, bounds):
        digest.update(len(blob).to_bytes(8) + blob)
    return digest.digest()


def stored_array_checksum(db: sqlite3.Connection, row: int) -> bytes:
    """Return `array_checksum` of a run without having all of it in memory."""
    digest = _hash(b"")
    for column in ("makespans", "bounds"):
        with db.blobopen("runs", column, row, readonly=True) as blob:
            digest.update(len(blob).to_bytes(8))
            while part := blob.read(2**20):
                digest.update(part)
    return digest.digest()


def _hash(data: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=12)


def manifest_checksum(rows: Mapping[str, str]) -> str:
    """Return the checksum of a manifest's other entries."""
    return row_checksum(*sorted(rows.items(), key=repr)).hex()


@dataclass(frozen=True, slots=True)
class StoreFile:
    """A store's file while it is open.

    Attributes
    ----------
    use : FileInUse or None
        This connection's share in the file; None in memory.
    sealed : bool
        Whether rows carry checksums: in stores of kdsim 0.1, opened for reading, they do not.
    is_new : bool
        Whether there was no such file before.
    """

    path: str
    db: sqlite3.Connection
    use: FileInUse | None
    sealed: bool
    is_new: bool = False

    @property
    def is_being_written(self) -> bool:
        """Whether another writer has the file now."""
        return self.use is not None and self.use.is_locked()

    @property
    def log(self) -> Path:
        """Where SQLite keeps what is not yet in the file."""
        return Path(f"{Path(self.path).resolve()}-wal")

    def close(self, *, remove: bool = False) -> None:
        """Close the connection, remove the file if asked to, then give up the lock."""
        self.db.close()
        if remove:
            Path(self.path).unlink(missing_ok=True)
        if self.use is not None:
            self.use.close()


def open_file(path: str, mode: str) -> StoreFile:
    """Open a store's file; see `kdsim.sweeps.ledger.store.Store.open`."""
    use, is_new = None, False
    if path != ":memory:":
        check_place(Path(path), mode)
        is_new = not Path(path).exists()
        with translated(path):
            use = FileInUse(path, writing=mode == "w")
    connection = None
    try:
        with translated(path):
            if use is not None and mode == "w":
                _become_writer(use, path)
            connection = connect(path, mode)
            version = check_format(connection, path, mode)
    except BaseException:
        if connection is not None:
            connection.close()
        if use is not None:
            use.close()
        raise
    return StoreFile(path, connection, use, version == FORMAT, is_new)


def _become_writer(use: FileInUse, path: str) -> None:
    if use.names > 1:
        raise StoreError(
            f"{path}: is a hard link, one of {use.names} names of the file; SQLite's log goes by "
            "name, and two names of one store destroy it: make a copy and use that"
        )
    if use.is_mounted:
        raise StoreError(
            f"{path}: is mounted as a single file; SQLite's log goes by name, and beside this one "
            "it is lost or belongs to another name: mount the folder that holds the store"
        )
    if not use.lock():
        raise StoreError(
            f"{path}: another sweep is writing to this store; wait for it or use another"
        )


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


def connect(path: str, mode: str) -> sqlite3.Connection:
    """Connect to the file for reading or for writing."""
    connection = _connect(path, mode)
    connection.create_function("row_checksum", -1, row_checksum, deterministic=True)
    connection.create_function("array_checksum", 2, array_checksum, deterministic=True)
    return connection


def _connect(path: str, mode: str) -> sqlite3.Connection:
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
    except BaseException:
        connection.close()
        raise
    return connection


def check_format(connection: sqlite3.Connection, path: str, mode: str) -> int:
    """Refuse what is no store that can be used here; make the tables of a new one.

    Returns
    -------
    int
        The format of the file, 1 or 2. One of format 1 must be upgraded before it is written.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application == 0 and version == 0 and tables == 0 and mode == "w":
        _use_log(connection)
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} {_ADDED} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {FORMAT}; COMMIT;"
        )
        return FORMAT
    if application != APPLICATION_ID:
        raise StoreError(f"{path}: is an SQLite file, but no kdsim store; nothing was changed")
    if not 1 <= version <= FORMAT:
        age = "a newer" if version > FORMAT else "an older"
        raise StoreError(
            f"{path}: was written by {age} kdsim (store format {version}, this one has {FORMAT}); "
            "nothing was changed"
        )
    if mode == "w":
        _use_log(connection)
    return version


def upgrade(file: StoreFile) -> StoreFile:
    """Bring a file of format 1 to the present one; its rows and manifest get checksums."""
    db = file.db
    rows = dict(db.execute("SELECT key, value FROM manifest").fetchall())
    if rows:
        rows["runs"] = str(db.execute("SELECT count(*) FROM runs").fetchone()[0])
    db.executescript(f"BEGIN IMMEDIATE; {_ADDED}")
    db.execute("UPDATE runs SET arrays = array_checksum(makespans, bounds) WHERE status = 'done'")
    db.execute(SEAL_RUNS)
    db.execute(SEAL_CHUNKS)
    if rows:
        entries = {"runs": rows["runs"], "checksum": manifest_checksum(rows)}
        db.executemany("INSERT OR REPLACE INTO manifest VALUES (?, ?)", entries.items())
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")
    Path(f"{file.path}-lock").unlink(missing_ok=True)  # left behind by kdsim 0.1
    return StoreFile(file.path, db, file.use, sealed=True)


def _use_log(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo the open transaction, if SQLite has not done so itself."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


_DAMAGED = "is damaged; restore it from a copy, or run the sweep again into another store"
_REASONS = {
    "SQLITE_FULL": "the disk is full; what was written before is safe, run again with more room",
    "SQLITE_READONLY": "cannot be written (read-only file or folder)",
    "SQLITE_CANTOPEN": "cannot be opened (does the folder exist, and may you write to it?)",
    "SQLITE_NOTADB": "is not a store (not an SQLite file)",
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_BUSY": "is in use by another program",
    "SQLITE_LOCKED": "is in use by another program",
    "SQLITE_PERM": "may not be accessed",
    "SQLITE_AUTH": "may not be accessed",
    "SQLITE_IOERR": "cannot be read or written (input/output error)",
}


def damaged(path: str, what: object) -> StoreError:
    """Make the error for content that is not what was written."""
    return StoreError(f"{path}: {_DAMAGED} ({what})")


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn the errors of SQLite and of the file into a `StoreError` that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        reason = next((text for key, text in _REASONS.items() if name.startswith(key)), "")
        if not reason and not isinstance(error, sqlite3.ProgrammingError):
            # A table or column that is missing, text that is not UTF-8: not what we write.
            raise damaged(path, f"SQLite says: {error}") from error
        raise StoreError(f"{path}: {reason or f'SQLite says: {error}'}") from error
    except UnicodeDecodeError as error:  # raised by Python's sqlite3 for a message of SQLite's
        raise damaged(path, "text that is not UTF-8") from error
    except PermissionError as error:
        raise StoreError(f"{path}: {_REASONS['SQLITE_READONLY']}") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be used: {error.strerror or error}") from error
