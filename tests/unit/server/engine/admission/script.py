"""A desk at which attempts ask for admission on virtual time: they are called by run and number, as `a0`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stepwave_server.engine.admission.base import Admission, FairAdmission, Held
from stepwave_server.engine.admission.limited import LimitedAdmission
from stepwave_server.engine.admission.limiter import Feedback, Limiter
from stepwave_server.engine.admission.limits import Limit
from stepwave_server.engine.admission.registry import LimiterRegistry

__all__ = ["SECOND", "Desk", "Waits"]

SECOND = 1_000_000_000


@dataclass(eq=False)
class Waits:
    run_key: str
    number: int
    gates: tuple[Limiter, ...] = ()
    withdrawn: bool = False
    held: tuple[Held, ...] = ()

    def __repr__(self) -> str:
        return f"{self.run_key}{self.number}"


class Desk:
    """Admission, and the clock that it is told.

    Attributes:
        now: The time, in nanoseconds.
        inside: The attempts in flight, by name.
        waiting: Those that wait.
    """

    def __init__(self, *limits: Limit, places: int = 1_000, plain: bool = False) -> None:
        self.book = LimiterRegistry(limits)
        self.admission: Admission[Waits] = FairAdmission(places) if plain else LimitedAdmission(places)
        self.now = 0
        self.inside: dict[str, Waits] = {}
        self.waiting: dict[str, Waits] = {}
        self._numbers: Counter[str] = Counter()

    def ask(self, run: str, count: int = 1, *, action: str = "act", key: str = "") -> Sequence[str]:
        """Let so many attempts of a run wait; return their names."""
        names = []
        for _ in range(count):
            ticket = Waits(run, self._numbers[run], self.book.gates(action, key, self.now))
            self._numbers[run] += 1
            self.admission.submit(ticket)
            self.waiting[str(ticket)] = ticket
            names.append(str(ticket))
        return names

    def enter(self) -> list[str]:
        """Let in all who may; return their names in order."""
        found = []
        while (ticket := self.admission.admit(self.now)) is not None:
            name = str(ticket)
            self.inside[name] = self.waiting.pop(name)
            found.append(name)
        return found

    def end(self, *names: str, verdict: Feedback = Feedback.NOTHING, retry_after: float = 0) -> None:
        for name in names:
            self.admission.release(self.inside.pop(name), verdict, round(retry_after * SECOND), self.now)

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
