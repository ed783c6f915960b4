"""The limit on disk: as many commits of one small row as a chain has steps, one after the other, by SQLite alone."""

import sqlite3
from contextlib import closing
from pathlib import Path


def commit(folder: Path, count: int, size: int) -> None:
    """Commit rows of so many bytes in a new file, each as safe as the server's own: write-ahead log, flushed."""
    file = folder / "bare.db"
    file.unlink(missing_ok=True)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE chunks (place INTEGER PRIMARY KEY, kinds BLOB, data BLOB)")
        row = (b"\0\0\0", bytes(size))
        for _ in range(count):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO chunks (kinds, data) VALUES (?, ?)", row)
            connection.execute("COMMIT")
