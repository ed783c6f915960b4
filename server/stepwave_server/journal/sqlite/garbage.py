"""Garbage collection: the events of deleted runs are removed in small parts, so that no commit waits for it."""

import sqlite3

__all__ = ["Garbage"]

ROWS = 250
"""Chunks removed in one transaction."""

PAGES = 1_000
"""Pages, of 4 KiB, returned to the disk at once."""

MAX_FREE_PAGES = 4_000
"""Free pages that the file keeps, because later commits fill them."""

_DELETE_CHUNKS = """
DELETE FROM chunks WHERE place IN (
    SELECT place FROM rubbish JOIN chunks ON place >= run << 32 AND place < (run + 1) << 32 LIMIT ?
)
"""

_DELETE_COLLECTED = """
DELETE FROM rubbish WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE place >= run << 32 AND place < (run + 1) << 32)
"""


class Garbage:
    """Removes the events of deleted runs.

    Attributes:
        remaining: Whether there is garbage.

    Args:
        connection: The connection that writes the file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.remaining = self._exists()

    def collect(self) -> None:
        """Remove some garbage, within a transaction."""
        self.remaining = True
        if self._connection.execute(_DELETE_CHUNKS, (ROWS,)).rowcount < ROWS:
            self._connection.execute(_DELETE_COLLECTED)
            self.remaining = self._exists()

    def shrink(self) -> bool:
        """Return some free pages to the disk if there are many, and return whether there may be more."""
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        if free <= MAX_FREE_PAGES:
            return False
        self._connection.execute(f"PRAGMA incremental_vacuum({min(PAGES, free - MAX_FREE_PAGES)})").fetchall()
        return True

    def _exists(self) -> bool:
        return self._connection.execute("SELECT 1 FROM rubbish LIMIT 1").fetchone() is not None
