"""The writer: one thread that commits changes in groups, each in one transaction."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue

from stepwave_server.journal.base import JournalError
from stepwave_server.journal.sqlite.garbage import Garbage
from stepwave_server.journal.sqlite.group import Addition, Breakage, Detachment, Group, Removal
from stepwave_server.journal.sqlite.owner import Owner
from stepwave_server.journal.sqlite.storage_errors import JournalBroken, explain

__all__ = ["Change", "Writer"]

logger = logging.getLogger(__name__)

GATHER = 0.004
"""Seconds after which a group is committed even though more changes arrive."""

FIRST_PAUSE = 0.1
"""Seconds before the first retry of a commit. The pause doubles with every retry."""

MAX_PAUSE = 2.0
"""Longest pause between retries, in seconds."""

IDLE = 0.05
"""Seconds without a change after which garbage is collected."""

Change = Addition | Breakage | Detachment | Removal


class Writer:
    """Commits changes in the order of the calls, on a thread of its own.

    A failed commit is retried without end, because its group has had no effect yet. The writer gives up if the file is
    damaged or another server has taken it over.

    Args:
        path: The file.
        connection: The connection that writes the file; closed with the writer.
        committed: Called on the event loop with every committed group.
        trouble: Called on the event loop with the error when a commit fails, and with `None` once one succeeds again.
        observe: Called on the thread with `before-commit` and `after-commit`.

    Attributes:
        clean: Whether the previous owner ended in order.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        committed: Callable[[Group], None],
        trouble: Callable[[JournalError | None], None],
        observe: Callable[[str], None],
    ) -> None:
        self._path = path
        self._connection = connection
        self._owner = Owner(path, connection)
        self.clean = self._owner.previous_ended_cleanly
        self._end_cleanly = False
        self._garbage = Garbage(connection)
        self._committed = committed
        self._trouble = trouble
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Change | None] = SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stepwave-journal-writer", daemon=True)
        self._thread.start()

    def put(self, change: Change) -> None:
        """Queue a change."""
        self._queue.put(change)

    async def close(self, *, clean: bool) -> None:
        """Commit the queued changes without retries, and close the file.

        Args:
            clean: Whether to mark an orderly end, if everything was committed.
        """
        self._end_cleanly = clean
        self._closing.set()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            while (group := self._next()) is not None:
                if not self._persist(group):
                    return
                group.seconds = time.monotonic() - group.begin
                self._notify(self._committed, group)
            if self._end_cleanly:
                self._owner.release()
        finally:
            self._connection.close()

    def _next(self) -> Group | None:
        """Wait for a change, and return a group of all queued changes; `None`: the writer is closing."""
        change = self._wait()
        if change is None:
            return None
        group = Group(begin=time.monotonic())
        group.add(change)
        end = group.begin + GATHER
        while time.monotonic() < end:
            try:
                change = self._queue.get_nowait()
            except Empty:
                break
            if change is None:
                self._queue.put(None)
                break
            group.add(change)
        return group

    def _wait(self) -> Change | None:
        """Wait for a change, and collect garbage meanwhile."""
        busy = True
        while busy:
            try:
                return self._queue.get(timeout=IDLE)
            except Empty:
                busy = self._collect_garbage()
        return self._queue.get()

    def _collect_garbage(self) -> bool:
        """Collect some garbage, and return whether there may be more."""
        try:
            if self._garbage.remaining:
                self._transact(Group())
                return True
            return self._garbage.shrink()
        except (sqlite3.Error, JournalError):  # the next commit meets the error and reports it
            return False

    def _persist(self, group: Group) -> bool:
        """Commit a group, with retries, and return whether it is committed."""
        pause = FIRST_PAUSE
        failed = False
        while (trouble := self._attempt(group)) is not None:
            failed = True
            self._notify(self._trouble, trouble)
            if self._closing.is_set() or trouble.lasting:
                self._give_up(group, trouble)
                return False
            self._closing.wait(pause)
            pause = min(2 * pause, MAX_PAUSE)
        if failed:
            self._notify(self._trouble, None)
        return True

    def _attempt(self, group: Group) -> JournalError | None:
        """Commit a group; return the error if that fails."""
        try:
            self._transact(group)
        except JournalError as error:
            return error
        except sqlite3.Error as error:
            return explain(self._path, error)
        except Exception as error:
            logger.exception("a defect of the journal")
            return JournalBroken(self._path, error)
        return None

    def _transact(self, group: Group) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._owner.check()
            group.write(self._connection)
            if group.removals or self._garbage.remaining:
                self._garbage.collect()
            self._observe("before-commit")
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._observe("after-commit")

    def _give_up(self, group: Group, trouble: JournalError) -> None:
        """Log the changes that will not be committed. They had no effect."""
        logger.error("%s; %d changes were not committed", trouble, len(group.additions))

    def _notify(self, callback: Callable[..., None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, argument)
        except RuntimeError:  # the loop is closed
            self._closing.set()
