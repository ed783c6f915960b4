"""The upper limit of a journal on disk: sequential SQLite commits, one small row for each step of a chain."""

import sqlite3
from contextlib import closing
from pathlib import Path


def commit(folder: Path, count: int, size: int) -> None:
    """Commit rows to a new file, one by one, with the durability of the server's journal: a flushed write-ahead log.

    Args:
        folder: The folder of the file.
        count: The number of rows.
        size: The size of a row in bytes.
    """
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
