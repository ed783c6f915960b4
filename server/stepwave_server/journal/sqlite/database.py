"""The journal's file: creation, connections and migrations.

Tables, all keyed by a run's number, which is not reused while any row of the run exists:

- `runs`: what lists show of a run, whether it has ended, and whether a defect broke it.
- `definitions`: the run's header.
- `labels`: the run's labels.
- `chunks`: the run's events, those of one commit in one row. The key is made of the run's number and the sequence
  number of the first event, so that a run's rows are adjacent.
- `endings`: the sequence numbers of the run's `step_finished` events, and of those whose outputs its last event
  repeats.
- `rubbish`: garbage, the deleted runs whose events are still to be removed. Existing files have this name.
- `owner`: the server that may write. Every transaction checks its epoch.
"""

import os
import sqlite3
from pathlib import Path
from typing import Literal, TypeAlias

from stepwave_server.journal.sqlite.storage_errors import JournalIsFolder, JournalTooNew, NotAJournal, explain

__all__ = ["APPLICATION_ID", "MIGRATIONS", "Synchronous", "check_place", "connect", "create", "migrate", "open_reader"]

APPLICATION_ID = 0x53_74_65_70
"""The application id in the file's header, `Step` in ASCII, which marks a journal of Stepwave."""

Synchronous: TypeAlias = Literal["full", "normal"]

BUSY_TIMEOUT = 5.0
"""Seconds to wait for a lock that a backup or the SQLite shell may hold."""

WAL_PAGES = 1_000
"""Pages in the write-ahead log, of 4 KiB, after which it is checkpointed into the file."""

_SCHEMA_1 = """
CREATE TABLE owner (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL,
    process TEXT NOT NULL
);
INSERT INTO owner VALUES (1, 0, '');
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    run_id TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    window REAL,
    workflow_name TEXT,
    state INTEGER,
    end_time INTEGER,
    size INTEGER,
    info BLOB,
    UNIQUE (namespace, run_id)
);
CREATE INDEX runs_by_age ON runs (namespace, create_time, run_id) WHERE end_time IS NOT NULL;
CREATE TABLE labels (
    run INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE INDEX labels_by_value ON labels (key, value);
CREATE TABLE definitions (
    run INTEGER PRIMARY KEY,
    options TEXT NOT NULL,
    traceparent TEXT NOT NULL,
    tracestate TEXT NOT NULL,
    rerun_of TEXT NOT NULL,
    input BLOB NOT NULL,
    workflow BLOB NOT NULL
);
CREATE TABLE chunks (
    place INTEGER PRIMARY KEY,
    kinds BLOB NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE endings (
    run INTEGER PRIMARY KEY,
    finishes BLOB NOT NULL,
    outputs BLOB NOT NULL
);
CREATE TABLE rubbish (
    run INTEGER PRIMARY KEY
);
"""

_SCHEMA_2 = "ALTER TABLE runs ADD COLUMN broken INTEGER NOT NULL DEFAULT 0;"

MIGRATIONS: tuple[str, ...] = (_SCHEMA_1, _SCHEMA_2)
"""Scripts from each version of the schema to the next. The version is the file's `user_version`."""


def create(path: Path) -> None:
    """Create the file, readable by its owner only, and its folder, if they are missing.

    Raises:
        JournalError: The file cannot be created.
    """
    try:
        _nearest_folder(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            return
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise explain(path, error) from error


def check_place(path: Path) -> None:
    """Check that a journal can be in a file, as far as that can be seen without a change on disk.

    Raises:
        JournalError: The file or its folder cannot be written.
    """
    path = path.expanduser().resolve()
    try:
        folder = _nearest_folder(path)
        for place, access in ((folder, os.W_OK | os.X_OK), (path, os.R_OK | os.W_OK)):
            if place.exists() and not os.access(place, access):
                raise PermissionError(0, f"Permission denied: {place}")
    except OSError as error:
        raise explain(path, error) from error


def _nearest_folder(path: Path) -> Path:
    """Return the nearest folder of a journal that exists.

    Raises:
        JournalIsFolder: The journal's path is a folder.
        OSError: There is a file in place of a folder.
    """
    if path.is_dir():
        raise JournalIsFolder(path)
    nearest = next(folder for folder in path.parents if folder.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(0, f"Not a directory: {nearest} is a file")
    return nearest


def connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """Open the file for the writer, which begins and ends transactions itself.

    Raises:
        JournalError: The file cannot be opened.
    """
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path, synchronous)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise explain(path, error) from error
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, synchronous: Synchronous) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (tables or application or version):
        raise NotAJournal(path)
    if version > len(MIGRATIONS):
        raise JournalTooNew(path, version, len(MIGRATIONS))
    if not tables:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous.upper()}")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: flush the disk's own cache, too
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Migrate the file to this version's schema. Each migration is one transaction.

    Raises:
        JournalError: The file cannot be written.
    """
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            header = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
            connection.executescript(f"BEGIN IMMEDIATE; {script} {header} COMMIT;")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.rollback()
        raise explain(path, error) from error


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file for a reader."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection
