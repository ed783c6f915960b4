"""The one thread that writes: takes what is asked for in groups, and commits each in one transaction."""

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

__all__ = ["Item", "Writer"]

logger = logging.getLogger(__name__)

GATHER = 0.004
"""Seconds after which a group is committed, though more is being asked for."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds between attempts to commit, when that fails."""

IDLE = 0.05
"""Seconds without anything to commit, after which rubbish is swept."""

Item = Addition | Breakage | Detachment | Removal


class Writer:
    """Commits in the order of the calls, on a thread of its own.

    A group that cannot be committed is tried again for ever, for nothing of it has had an effect yet; unless the file
    is damaged or another server has taken it over.

    Args:
        path: The file.
        connection: What writes it; closed with this.
        committed: Called on the event loop with every group that is committed.
        trouble: Called on the event loop with why commits fail; with `None` once they succeed again.
        observe: Called with `before-commit` and `after-commit` on the thread.

    Attributes:
        clean: Whether the owner before this one left in order.
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
        self.clean = self._owner.follows_orderly_end
        self._leave = False
        self._rubbish = Garbage(connection)
        self._committed = committed
        self._trouble = trouble
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="stepwave-journal-writer", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Ask for something to be committed."""
        self._queue.put(item)

    async def close(self, *, clean: bool) -> None:
        """Commit what was asked for, as far as that succeeds at once, and close the file.

        Args:
            clean: Note that this was an orderly end, if all was committed.
        """
        self._leave = clean
        self._closing.set()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        try:
            while (group := self._next()) is not None:
                if not self._persist(group):
                    return
                self._tell(self._committed, group)
            if self._leave:
                self._owner.leave()
        finally:
            self._connection.close()

    def _next(self) -> Group | None:
        """Wait for something to commit, and take all that is there; `None`: there will be no more."""
        item = self._wait()
        if item is None:
            return None
        group = Group()
        group.add(item)
        end = time.monotonic() + GATHER
        while time.monotonic() < end:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if item is None:
                self._queue.put(None)
                break
            group.add(item)
        return group

    def _wait(self) -> Item | None:
        """Wait for something to commit; tidy up meanwhile."""
        busy = True
        while busy:
            try:
                return self._queue.get(timeout=IDLE)
            except Empty:
                busy = self._tidy()
        return self._queue.get()

    def _tidy(self) -> bool:
        """Do some of what can wait; say whether there is more."""
        try:
            if self._rubbish.left:
                self._transact(Group())
                return True
            return self._rubbish.shrink()
        except (sqlite3.Error, JournalError):  # whatever is wrong, the next commit meets it, and tells
            return False

    def _persist(self, group: Group) -> bool:
        """Commit a group, however often that must be tried; say whether it is committed."""
        pause = FIRST_PAUSE
        troubled = False
        while (trouble := self._attempt(group)) is not None:
            troubled = True
            self._tell(self._trouble, trouble)
            if self._closing.is_set() or trouble.lasting:
                self._give_up(group, trouble)
                return False
            self._closing.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        if troubled:
            self._tell(self._trouble, None)
        return True

    def _attempt(self, group: Group) -> JournalError | None:
        """Commit a group; return what was in the way."""
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
            if group.removals or self._rubbish.left:
                self._rubbish.sweep()
            self._observe("before-commit")
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._observe("after-commit")

    def _give_up(self, group: Group, trouble: JournalError) -> None:
        """Stop for good: what was not committed had no effect, and nobody has seen it."""
        logger.error("%s; %d changes were not committed", trouble, len(group.additions))

    def _tell(self, told: Callable[..., None], what: object) -> None:
        try:
            self._loop.call_soon_threadsafe(told, what)
        except RuntimeError:  # the loop is closed: nobody listens
            self._closing.set()
