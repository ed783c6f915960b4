"""Where attempts wait to start: admission and its clock, who is let in, and who is told what they wait for."""

import asyncio
from collections.abc import Sequence
from itertools import islice

from stepwave_server.core.explanation import Waiting
from stepwave_server.core.info import LimitInfo, RunKey
from stepwave_server.core.messages import AttemptFailed, AttemptStarted, AttemptSucceeded, Input
from stepwave_server.core.model import Reason
from stepwave_server.engine.admission.base import Admission, FairAdmission, Obstacle
from stepwave_server.engine.admission.limited import LimitedAdmission
from stepwave_server.engine.admission.limiter import Feedback, Limiter
from stepwave_server.engine.admission.limits import Limit
from stepwave_server.engine.admission.registry import LimiterRegistry
from stepwave_server.engine.attempts.attempt import Attempt

__all__ = ["AdmissionController"]

MOST_TOLD = 1_000
MOST_TOLD_PLAIN = 100
"""Steps of a run of which its watchers are told that they wait; for nothing but a place of the server, fewer."""

MOST_GROUPS = 20
MOST_NAMED = 20
"""What the steps of a run wait for, and how many steps are named for each."""


class AdmissionController:
    """Lets attempts start as admission says, on the loop's clock.

    Attributes:
        limited: Whether anything is limited but the whole; where nothing is, time does not matter.

    Args:
        loop: The loop whose clock counts.
        places: Attempts in flight at once.
        limits: What actions are allowed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, places: int, limits: Sequence[Limit]) -> None:
        self._loop = loop
        self.limited = bool(limits)
        self._book = LimiterRegistry(limits)
        self._admission: Admission[Attempt] = LimitedAdmission(places) if limits else FairAdmission(places)
        self._most_told = MOST_TOLD if limits else MOST_TOLD_PLAIN
        self._fresh: list[Attempt] = []
        self._paused: set[Limiter] = set()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """How many attempts are in flight now."""
        return self._admission.in_flight

    def keyed(self, action: str) -> bool:
        """Say whether an action is limited by keys."""
        return self._book.keyed(action)

    def gates(self, action: str, key: str) -> tuple[Limiter, ...]:
        """Return what an attempt of an action must pass; it is to be submitted before the next is asked for."""
        return self._book.gates(action, key, self._now())

    def submit(self, attempt: Attempt) -> None:
        """Let an attempt wait for its turn."""
        attempt.queued = True
        self._admission.submit(attempt)
        self._fresh.append(attempt)

    def withdraw(self, attempt: Attempt) -> None:
        """Let an attempt wait no more, if it does."""
        if attempt.queued:
            attempt.queued = False
            self._admission.withdraw(attempt, self._now())

    def release(self, attempt: Attempt, outcome: Input | None) -> None:
        """Give back an attempt's places, if it has any; `outcome`: what it came to, `None`: it never started."""
        if not attempt.admitted:
            return
        attempt.admitted = False
        if not attempt.gates:
            self._admission.release(attempt, Feedback.NOTHING, 0, 0)
            return
        verdict, retry_after = _verdict(outcome)
        if retry_after:
            self._paused.update(gate for gate in attempt.gates if gate.adaptive is not None)
        self._admission.release(attempt, verdict, retry_after, self._now())

    def cling(self) -> None:
        """Count an attempt in flight that has ended for its run."""
        self._admission.in_flight += 1

    def let_go(self) -> None:
        """Count it no more."""
        self._admission.in_flight -= 1

    def admit(self) -> None:
        """Let in all who may start now, and tell the watchers of others what they wait for."""
        now = self._now() if self.limited else 0
        admission = self._admission
        while (attempt := admission.admit(now)) is not None:
            attempt.queued, attempt.admitted = False, True
            attempt.run.tell(AttemptStarted(attempt.step_id, attempt.number))
        if self.limited:
            self._tell(now)
            self._set_alarm(now)
        elif admission.in_flight >= admission.limit:
            self._tell(now)
        else:
            self._fresh.clear()

    def obstacle(self, attempt: Attempt) -> Obstacle | None:
        """Say what an attempt waits for, if it does."""
        return self._admission.obstacle(attempt, self._now()) if attempt.queued else None

    def waiting(self, key: RunKey) -> list[Waiting]:
        """Return what steps of a run wait for, the most frequent first."""
        found: dict[Obstacle, tuple[int, list[str]]] = {}
        for group in self._admission.waiting(key, self._now()):
            size, step_ids = found.get(group.obstacle, (0, []))
            step_ids += [attempt.step_id for attempt in islice(group.tickets, MOST_NAMED - len(step_ids))]
            found[group.obstacle] = size + group.size, step_ids
        ordered = sorted(found.items(), key=lambda item: -item[1][0])[:MOST_GROUPS]
        return [Waiting(it.cause, it.message, size, tuple(ids), it.limit) for it, (size, ids) in ordered]

    def limits(self, action: str, clock: int) -> list[LimitInfo]:
        """Return what an action is allowed, and how that stands; `clock` is the time since the epoch."""
        now = self._now()
        return [info for state in self._book.covering(action) for info in state.infos(now, clock)]

    def close(self) -> None:
        """Let nothing more happen by itself."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _now(self) -> int:
        return round(self._loop.time() * 1e9)

    def _tell(self, now: int) -> None:
        fresh, self._fresh = self._fresh, []
        paused, self._paused = self._paused, set()
        for attempt in fresh:
            if attempt.queued and attempt.run.told < self._most_told:
                attempt.run.show_waiting(attempt, self._admission.obstacle(attempt, now))
        for gate in paused:
            for attempt in self._admission.waiting_at(gate):
                if attempt.told:
                    attempt.run.show_waiting(attempt, self._admission.obstacle(attempt, now))

    def _set_alarm(self, now: int) -> None:
        """Come back when time alone lets somebody in."""
        due = self._admission.next_time
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if due is not None:
            self._alarm = self._loop.call_later((due - now) / 1e9, self.admit)


def _verdict(outcome: Input | None) -> tuple[Feedback, int]:
    """Return what an attempt's end says of the service behind it, and how long that asked to be left alone."""
    if isinstance(outcome, AttemptSucceeded):
        return Feedback.SUCCEEDED, 0
    if isinstance(outcome, AttemptFailed) and outcome.failure.reason is Reason.RATE_LIMITED:
        return Feedback.REFUSED, outcome.failure.retry_after or 0
    return Feedback.NOTHING, 0
