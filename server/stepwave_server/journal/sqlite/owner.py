"""Who may write: one server at a time. A lock keeps a second one out, an epoch one that lost the lock.

An owner that ends in order takes its name out of the file. Where the next one finds a name, there was a crash.

The lock is on a file beside the journal, so that it stands whatever SQLite does with its own. It goes with the process
that holds it, though children that an action forked may live on. Where locks are not kept, as on some network disks,
the epoch in the file still stops an earlier owner.
"""

import fcntl
import os
import socket
import sqlite3
from pathlib import Path

from stepwave_server.journal.sqlite.storage_errors import JournalInUse, JournalTaken, explain

__all__ = ["Lock", "Owner"]


_held: set[int] = set()
"""The descriptors of this process's locks."""


def _let_go() -> None:
    """Give up, in a forked child, the descriptors that share the locks of its parent, which keeps them."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


class Lock:
    """The lock on a journal, held until it is released.

    Args:
        path: The journal's file.

    Raises:
        JournalError: Another server holds it, or it cannot be had.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise explain(path, error) from error
        _held.add(self._file)
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
        """Let another server have it."""
        if self._file in _held:
            _held.discard(self._file)
            os.close(self._file)


class Owner:
    """This server's claim to a journal: the epoch that it began.

    Args:
        path: The journal's file.
        connection: What writes it.

    Attributes:
        follows_orderly_end: Whether the owner before, if there was one, ended in order.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            (earlier,) = connection.execute("SELECT process FROM owner").fetchone()
            self.follows_orderly_end = not earlier
            connection.execute("UPDATE owner SET epoch = epoch + 1, process = ?", (_this_process(),))
            (self._epoch,) = connection.execute("SELECT epoch FROM owner").fetchone()
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise explain(path, error) from error

    def check(self) -> None:
        """Make sure, within a transaction, that no other server has begun an epoch since.

        Raises:
            JournalTaken: One has.
        """
        epoch, process = self._connection.execute("SELECT epoch, process FROM owner").fetchone()
        if epoch != self._epoch:
            raise JournalTaken(self._path, process or "another server")

    def leave(self) -> None:
        """Note an orderly end, unless the file cannot be written or has another owner now."""
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
