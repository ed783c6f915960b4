"""The timeouts of a run that is drawn: which have begun, and which passes first."""

import copy
from itertools import pairwise
from typing import NamedTuple

from stepwave_server.core.model import SECOND
from stepwave_server.engine.temporal.driver import RunDriver
from stepwave_server.engine.temporal.driver_messages import TimerDue

__all__ = ["Timed", "Timeouts", "attempt_name"]

WATCHED = 60 * SECOND
"""Timeouts of this length do not pass before a run has ended."""

PASSING = 10.0
"""Seconds. Shorter timeouts pass. Longer ones are those of clean-ups."""

APART = 4 * SECOND // 10
"""Nanoseconds between two timeouts, so that they pass in the same order on every machine."""


class Timed(NamedTuple):
    """A timeout that has begun.

    Attributes:
        name: Its name: that of its timer, or the attempt.
        step_id: Its step; empty: it is the run's.
        armed: The number of the move that began it.
        seconds: Its length after that move.
        due: When it passes, in the time of the drawing.
    """

    name: str
    step_id: str
    armed: int
    seconds: float
    due: int

    @property
    def kind(self) -> str:
        """What it bounds: an `attempt`, a step in `total` or that the core runs itself (`own`), or the `run`."""
        return self.name.partition(" ")[0]


class Timeouts:
    """The timeouts of a run that have begun."""

    def __init__(self, driver: RunDriver) -> None:
        self._driver = driver
        self._timed: dict[str, Timed] = {}
        self.silenced: set[Timed] = set()

    def begin(self, name: str, step_id: str, armed: int, delay: int, now: int) -> None:
        """Note that a timeout begins, if it may pass before the run ends."""
        if delay < WATCHED:
            self._timed[name] = Timed(name, step_id, armed, delay / 1e9, now + delay)

    def end(self, name: str) -> None:
        """Note that a timeout has no meaning any more."""
        self._timed.pop(name, None)

    def silence(self, step_id: str, attempt: int) -> None:
        """Note that the attempt of a step is cancelled."""
        for name in (attempt_name(step_id, attempt), f"total {step_id}"):
            if (timed := self._timed.pop(name, None)) is not None:
                self.silenced.add(timed)

    def forget_ended(self) -> None:
        """Forget the timeouts of attempts that have ended, and those that lead to nothing any more."""
        running = {attempt_name(*attempt) for attempt in self._driver.in_flight.items()}
        for timed in list(self._timed.values()):
            if timed.kind == "attempt":
                has_meaning = timed.name in running
            else:
                has_meaning = timed.step_id in self._driver.in_flight or self._matters(timed)
            if not has_meaning:
                self.end(timed.name)

    def _matters(self, timed: Timed) -> bool:
        """Say whether a timer leads to events if it is due now."""
        evaluator = self._driver.evaluator
        trial = copy.deepcopy(self._driver, {id(evaluator): evaluator})
        trial.take([TimerDue(timed.name)], timed.due)
        return bool(trial.take_events())

    @property
    def timed(self) -> frozenset[Timed]:
        """The timeouts that may pass, or whose end changes what follows the end of an attempt."""
        return frozenset(self._timed.values())

    def first(self) -> tuple[Timed, ...]:
        """Return the timeouts that pass first: several if those of one step are due at once; an attempt's first."""
        passing = self._passing()
        due = min((timed.due for timed in passing), default=0)
        first = [timed for timed in passing if timed.due == due]
        return tuple(sorted(first, key=lambda timed: timed.kind != "attempt"))

    def is_ordered(self) -> bool:
        """Say whether timeouts pass in the same order on every machine."""
        passing = sorted((timed.due, timed.step_id) for timed in self._passing())
        return all(other[0] - one[0] >= APART or one == other for one, other in pairwise(passing))

    def _passing(self) -> list[Timed]:
        return [timed for timed in self._timed.values() if timed.seconds < PASSING]


def attempt_name(step_id: str, attempt: int) -> str:
    return f"attempt {step_id} {attempt}"
