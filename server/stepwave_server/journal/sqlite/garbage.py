"""What is left of forgotten runs: deleted little by little, so that nobody waits for it."""

import sqlite3

__all__ = ["Garbage"]

ROWS = 250
"""Chunks that are deleted in one transaction."""

PAGES = 1_000
"""Pages, of 4 KiB, that are given back to the disk in one go."""

MOST_FREE = 4_000
"""Pages that may be empty: they will be filled again."""

_DELETE = """
DELETE FROM chunks WHERE place IN (
    SELECT place FROM rubbish JOIN chunks ON place >= run << 32 AND place < (run + 1) << 32 LIMIT ?
)
"""

_FORGET = """
DELETE FROM rubbish WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE place >= run << 32 AND place < (run + 1) << 32)
"""


class Garbage:
    """Deletes the events of runs that are forgotten.

    Attributes:
        left: Whether there are any.

    Args:
        connection: What writes the file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.left = self._any()

    def sweep(self) -> None:
        """Delete some, within a transaction."""
        self.left = True
        if self._connection.execute(_DELETE, (ROWS,)).rowcount < ROWS:
            self._connection.execute(_FORGET)
            self.left = self._any()

    def shrink(self) -> bool:
        """Give some empty pages back to the disk if there are many; say whether there may be more."""
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        if free <= MOST_FREE:
            return False
        self._connection.execute(f"PRAGMA incremental_vacuum({min(PAGES, free - MOST_FREE)})").fetchall()
        return True

    def _any(self) -> bool:
        return self._connection.execute("SELECT 1 FROM rubbish LIMIT 1").fetchone() is not None
