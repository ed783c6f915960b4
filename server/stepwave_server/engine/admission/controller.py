"""Admission on the event loop's clock. It admits attempts, and reports what the others wait for."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Generic, Protocol, TypeVar

from stepwave_server.core.explanation import Waiting
from stepwave_server.core.info import LimitInfo, RunKey
from stepwave_server.core.messages import AttemptFailed, AttemptSucceeded, Input
from stepwave_server.core.model import Reason
from stepwave_server.engine.admission.base import Admission, Obstacle, Permit, Ticket
from stepwave_server.engine.admission.fair_queue import FairAdmission
from stepwave_server.engine.admission.limited import LimitedAdmission
from stepwave_server.engine.admission.limiter import Feedback, Limiter
from stepwave_server.engine.admission.limits import Limit
from stepwave_server.engine.admission.registry import LimiterRegistry
from stepwave_server.engine.admission.shares import Shares, WeightOf, equal_weights

__all__ = ["AdmissionController", "Applicant"]

logger = logging.getLogger(__name__)

MAX_GROUPS = 20
"""Maximum number of groups of waiting steps in a run's information."""

MAX_NAMED = 20
"""Maximum number of steps that a group names."""


class Applicant(Ticket, Protocol):
    """An attempt as the controller sees it."""

    @property
    def step_id(self) -> str:
        """The id of the step."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether it still waits for admission."""
        ...

    def admit(self, permit: Permit) -> None:
        """Take a permit. The attempt may start."""
        ...

    def report_waiting(self) -> None:
        """Report to watchers that it waits."""
        ...

    def report_still_waiting(self) -> None:
        """Report again to watchers what it waits for, if that was reported before."""
        ...


A = TypeVar("A", bound=Applicant)


class AdmissionController(Generic[A]):
    """Admits attempts.

    Attributes:
        limited: Whether there are limits beside the server's own bound. Without them, time does not matter.

    Args:
        loop: The event loop, whose clock measures the time.
        places: The bound of attempts in flight.
        limits: The limits of actions.
        namespaces: How many attempts of a namespace may be in flight. Others have no bound. `None`: none ever has one.
        weight_of: Returns the weight of a namespace, for its share of the places.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        places: int,
        limits: Sequence[Limit],
        namespaces: Mapping[str, int] | None = None,
        weight_of: WeightOf = equal_weights,
    ) -> None:
        self._loop = loop
        self._limiters = LimiterRegistry(limits, namespaces)
        self.limited = bool(self._limiters)
        self._admission: Admission[A] = (
            LimitedAdmission(places, weight_of) if self.limited else FairAdmission(places, Shares(weight_of))
        )
        self._submitted: list[A] = []
        self._paused: set[Limiter] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """Attempts in flight now."""
        return self._admission.in_flight

    def keyed(self, action: str) -> bool:
        """Return whether an action is limited by keys."""
        return self._limiters.keyed(action)

    def limiters(self, action: str, key: str, namespace: str) -> tuple[Limiter, ...]:
        """Return the limiters of an attempt of an action. Submit the attempt before the next call."""
        return self._limiters.limiters(action, key, self._now(), namespace)

    def bound_namespaces(self, namespaces: Mapping[str, int]) -> None:
        """Replace the bounds of namespaces, and admit what they let start now.

        A controller without limits and bounds stays without them: its attempts have no limiters.
        """
        if not self.limited:
            if namespaces:
                logger.warning("the max_attempts of namespaces holds from the next start: none was set at this start")
            return
        now = self._now()
        for limiter in self._limiters.bound_namespaces(namespaces):
            self._admission.review(limiter, now)
        self.admit()

    def submit(self, attempt: A) -> None:
        """Put an attempt into the queue."""
        self._admission.submit(attempt)
        self._submitted.append(attempt)

    def withdraw(self, attempt: A) -> None:
        """Take an attempt that was submitted and not admitted out of the queue."""
        self._admission.withdraw(attempt, self._now())

    def occupy(self) -> Permit:
        """Take a place for work that goes on after its attempt has ended."""
        return self._admission.occupy()

    def release(self, permit: Permit, outcome: Input | None = None) -> None:
        """Take a permit back; `outcome`: the attempt's end, `None`: it never started."""
        if not permit.places:
            self._admission.release(permit, Feedback.NOTHING, 0, 0)
            return
        feedback, retry_after = _feedback(outcome)
        if retry_after:
            self._paused.update(limiter for limiter, _ in permit.places if limiter.adaptive is not None)
        self._admission.release(permit, feedback, retry_after, self._now())

    def admit(self) -> None:
        """Admit every attempt that may start now, and report what the others wait for."""
        now = self._now() if self.limited else 0
        admission = self._admission
        while (admitted := admission.admit(now)) is not None:
            attempt, permit = admitted
            attempt.admit(permit)
        if self.limited:
            self._report()
            self._set_timer(now)
        elif admission.in_flight >= admission.limit:
            self._report()
        else:
            self._submitted.clear()

    def obstacle(self, attempt: A) -> Obstacle | None:
        """Return what an attempt waits for; `None`: it does not wait."""
        return self._admission.obstacle(attempt, self._now()) if attempt.waiting else None

    def waiting(self, key: RunKey) -> list[Waiting]:
        """Return what the steps of a run wait for, the most frequent first."""
        found: dict[Obstacle, tuple[int, list[str]]] = {}
        for group in self._admission.waiting(key, self._now()):
            size, step_ids = found.get(group.obstacle, (0, []))
            step_ids += [attempt.step_id for attempt in islice(group.tickets, MAX_NAMED - len(step_ids))]
            found[group.obstacle] = size + group.size, step_ids
        ordered = sorted(found.items(), key=lambda item: -item[1][0])[:MAX_GROUPS]
        return [Waiting(it.cause, it.message, size, tuple(ids), it.limit) for it, (size, ids) in ordered]

    def limits(self, action: str, clock: int) -> list[LimitInfo]:
        """Return the limits of an action, and their state now; `clock` is the time since the epoch."""
        now = self._now()
        return [info for limit in self._limiters.covering(action) for info in limit.infos(now, clock)]

    def all_limits(self, clock: int) -> list[LimitInfo]:
        """Return all limits, and their state now; `clock` is the time since the epoch. Any thread may call it."""
        return self._limiters.infos(self._now(), clock) if self.limited else []

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _now(self) -> int:
        return round(self._loop.time() * 1e9)

    def _report(self) -> None:
        submitted, self._submitted = self._submitted, []
        paused, self._paused = self._paused, set()
        for attempt in submitted:
            if attempt.waiting:
                attempt.report_waiting()
        for limiter in paused:
            for attempt in self._admission.waiting_at(limiter):
                attempt.report_still_waiting()

    def _set_timer(self, now: int) -> None:
        """Admit again when time alone allows an attempt to start."""
        due = self._admission.next_time
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_later((due - now) / 1e9, self.admit)


def _feedback(outcome: Input | None) -> tuple[Feedback, int]:
    """Return the feedback of an attempt's outcome, and the pause in nanoseconds that the service asked for."""
    if isinstance(outcome, AttemptSucceeded):
        return Feedback.SUCCEEDED, 0
    if isinstance(outcome, AttemptFailed) and outcome.failure.reason is Reason.RATE_LIMITED:
        return Feedback.REFUSED, outcome.failure.retry_after or 0
    return Feedback.NOTHING, 0
