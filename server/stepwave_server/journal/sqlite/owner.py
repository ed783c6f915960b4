"""Ownership of a journal: one server at a time may write. A lock keeps a second server out; an epoch fences the first.

An owner that ends in order removes its name from the file. If the next owner finds a name, there was a crash.

The lock is on a file beside the journal, apart from the locks of SQLite. It is released when its process ends, even if
children that an action forked go on. Where locks do not work, as on some network disks, the epoch in the file still
stops an earlier owner.
"""

import fcntl
import os
import socket
import sqlite3
from pathlib import Path

from stepwave_server.journal.sqlite.storage_errors import JournalInUse, JournalTaken, explain

__all__ = ["Lock", "Owner"]


_descriptors: set[int] = set()
"""File descriptors of the locks that this process holds."""


def _close_inherited() -> None:
    """Close the descriptors that a forked child shares with its parent. The parent keeps its locks."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_inherited)


class Lock:
    """The lock on a journal, held until it is released.

    Args:
        path: The journal's file.

    Raises:
        JournalError: Another server holds the lock, or its file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise explain(path, error) from error
        _descriptors.add(self._file)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, _this_process().encode(), 0)
        except BlockingIOError as error:
            owner = os.pread(self._file, 1_000, 0).decode(errors="replace")
            self.release()
            raise JournalInUse(path, owner) from error
        except OSError as error:
            self.release()
            raise explain(path, error) from error

    def release(self) -> None:
        """Release the lock."""
        if self._file in _descriptors:
            _descriptors.discard(self._file)
            os.close(self._file)


class Owner:
    """This server's ownership of a journal. Each owner begins an epoch.

    Args:
        path: The journal's file.
        connection: The connection that writes the file.

    Attributes:
        previous_ended_cleanly: Whether the owner before, if there was one, ended in order.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            (earlier,) = connection.execute("SELECT process FROM owner").fetchone()
            self.previous_ended_cleanly = not earlier
            connection.execute("UPDATE owner SET epoch = epoch + 1, process = ?", (_this_process(),))
            (self._epoch,) = connection.execute("SELECT epoch FROM owner").fetchone()
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise explain(path, error) from error

    def check(self) -> None:
        """Check, within a transaction, that this server is still the owner.

        Raises:
            JournalTaken: Another server has begun an epoch.
        """
        epoch, process = self._connection.execute("SELECT epoch, process FROM owner").fetchone()
        if epoch != self._epoch:
            raise JournalTaken(self._path, process or "another server")

    def release(self) -> None:
        """Mark an orderly end, unless the file cannot be written or has another owner now."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self.check()
            self._connection.execute("UPDATE owner SET process = ''")
            self._connection.execute("COMMIT")
        except (sqlite3.Error, JournalTaken):
            if self._connection.in_transaction:
                self._connection.rollback()


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
