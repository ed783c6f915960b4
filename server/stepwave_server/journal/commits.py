"""The commits of a journal: how many there were, and how long the latest took."""

from collections import deque
from collections.abc import Callable
from statistics import median

from stepwave_server.core.info import CommitInfo
from stepwave_server.core.model import SECOND

__all__ = ["Commits"]

REMEMBERED = 100
"""Commits whose duration is remembered."""


class Commits:
    """The commits of a journal on disk. A journal in memory has none.

    Attributes:
        count: Commits so far.
        events: Events in them.
        recent: Durations of the latest commits in seconds, the newest last.
        listener: Called with the events and the duration of each commit; `None`: nobody listens.
    """

    def __init__(self) -> None:
        self.count = self.events = 0
        self.recent: deque[float] = deque(maxlen=REMEMBERED)
        self.listener: Callable[[int, float], None] | None = None

    def add(self, events: int, seconds: float) -> None:
        """Add a commit.

        Args:
            events: Events in it.
            seconds: The time from its first change to its end.
        """
        self.count += 1
        self.events += events
        self.recent.append(seconds)
        if self.listener is not None:
            self.listener(events, seconds)

    def info(self) -> CommitInfo | None:
        """Return the numbers of the commits; `None`: there were none. It may be called on any thread."""
        recent = list(self.recent)
        if not recent:
            return None
        return CommitInfo(self.count, self.events, round(median(recent) * SECOND), round(max(recent) * SECOND))
