"""Attempts that ask for admission on virtual time. They are named by run and number, as `a0`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stepwave_server.engine.admission.base import Admission, Permit
from stepwave_server.engine.admission.fair_queue import FairAdmission
from stepwave_server.engine.admission.limited import LimitedAdmission
from stepwave_server.engine.admission.limiter import Feedback, Limiter
from stepwave_server.engine.admission.limits import Limit
from stepwave_server.engine.admission.registry import LimiterRegistry

__all__ = ["SECOND", "Applicant", "Applicants"]

SECOND = 1_000_000_000


@dataclass(eq=False)
class Applicant:
    run_key: str
    number: int
    limiters: tuple[Limiter, ...] = ()

    def __repr__(self) -> str:
        return f"{self.run_key}{self.number}"


class Applicants:
    """Admission, on a clock that the test moves.

    Attributes:
        now: The time, in nanoseconds.
        inside: The attempts in flight, by name.
        waiting: Those that wait.
    """

    def __init__(self, *limits: Limit, places: int = 1_000, plain: bool = False) -> None:
        self.registry = LimiterRegistry(limits)
        self.admission: Admission[Applicant] = FairAdmission(places) if plain else LimitedAdmission(places)
        self.now = 0
        self.inside: dict[str, Applicant] = {}
        self.permits: dict[str, Permit] = {}
        self.waiting: dict[str, Applicant] = {}
        self._numbers: Counter[str] = Counter()

    def ask(self, run: str, count: int = 1, *, action: str = "act", key: str = "") -> Sequence[str]:
        """Let so many attempts of a run wait; return their names."""
        names = []
        for _ in range(count):
            ticket = Applicant(run, self._numbers[run], self.registry.limiters(action, key, self.now))
            self._numbers[run] += 1
            self.admission.submit(ticket)
            self.waiting[str(ticket)] = ticket
            names.append(str(ticket))
        return names

    def enter(self) -> list[str]:
        """Let in all who may; return their names in order."""
        found = []
        while (admitted := self.admission.admit(self.now)) is not None:
            ticket, permit = admitted
            name = str(ticket)
            self.permits[name] = permit
            self.inside[name] = self.waiting.pop(name)
            found.append(name)
        return found

    def end(self, *names: str, feedback: Feedback = Feedback.NOTHING, retry_after: float = 0) -> None:
        for name in names:
            del self.inside[name]
            self.admission.release(self.permits.pop(name), feedback, round(retry_after * SECOND), self.now)

    def leave(self, *names: str) -> None:
        """Let some who wait go away."""
        for name in names:
            self.admission.withdraw(self.waiting.pop(name), self.now)

    def pass_time(self, seconds: float) -> list[str]:
        """Let time pass, looking when admission asked to be looked at; return who came in."""
        found, until = [], self.now + round(seconds * SECOND)
        while (due := self.admission.next_time) is not None and due <= until:
            self.now = max(self.now, due)
            found += self.enter()
        self.now = until
        return found + self.enter()

    def why(self, name: str) -> tuple[str, str]:
        """Return what one waits for: the cause, and in a line."""
        obstacle = self.admission.obstacle(self.waiting[name], self.now)
        return obstacle.cause.name.lower(), obstacle.message
