"""A harness for admission on virtual time. Attempts are named by run and number, such as `a0`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepwave_server.engine.admission.base import Admission, Permit
from stepwave_server.engine.admission.fair_queue import FairAdmission
from stepwave_server.engine.admission.limited import LimitedAdmission
from stepwave_server.engine.admission.limiter import Feedback, Limiter
from stepwave_server.engine.admission.limits import Limit
from stepwave_server.engine.admission.registry import LimiterRegistry
from stepwave_server.engine.admission.shares import Shares

__all__ = ["SECOND", "AdmissionHarness", "Applicant"]

SECOND = 1_000_000_000


@dataclass(eq=False)
class Applicant:
    """An attempt that applies for admission."""

    run_key: str
    number: int
    limiters: tuple[Limiter, ...] = ()
    namespace: str = "default"

    def __repr__(self) -> str:
        return f"{self.run_key}{self.number}"


class AdmissionHarness:
    """Admission on a clock that the test moves.

    Attributes:
        now: The time in nanoseconds.
        admitted: Attempts in flight, by name.
        permits: Their permits, by name.
        waiting: Attempts that wait for admission, by name.
    """

    def __init__(
        self, *limits: Limit, places: int = 1_000, plain: bool = False, weights: Mapping[str, float] | None = None
    ) -> None:
        self.registry = LimiterRegistry(limits)
        given = weights or {}

        def weight_of(namespace: str) -> float:
            return given.get(namespace, 1.0)

        self.admission: Admission[Applicant] = (
            FairAdmission(places, Shares(weight_of)) if plain else LimitedAdmission(places, weight_of)
        )
        self.now = 0
        self.admitted: dict[str, Applicant] = {}
        self.permits: dict[str, Permit] = {}
        self.waiting: dict[str, Applicant] = {}
        self._numbers: Counter[str] = Counter()

    def submit(
        self, run: str, count: int = 1, *, action: str = "act", key: str = "", namespace: str = "default"
    ) -> Sequence[str]:
        """Submit `count` attempts of a run. Return their names."""
        names = []
        for _ in range(count):
            ticket = Applicant(run, self._numbers[run], self.registry.limiters(action, key, self.now), namespace)
            self._numbers[run] += 1
            self.admission.submit(ticket)
            self.waiting[str(ticket)] = ticket
            names.append(str(ticket))
        return names

    def admit(self) -> list[str]:
        """Admit all attempts that may start. Return their names in order."""
        found = []
        while (admitted := self.admission.admit(self.now)) is not None:
            ticket, permit = admitted
            name = str(ticket)
            self.permits[name] = permit
            self.admitted[name] = self.waiting.pop(name)
            found.append(name)
        return found

    def release(self, *names: str, feedback: Feedback = Feedback.NOTHING, retry_after: float = 0) -> None:
        """Release the permits of attempts. `retry_after` is in seconds."""
        for name in names:
            del self.admitted[name]
            self.admission.release(self.permits.pop(name), feedback, round(retry_after * SECOND), self.now)

    def withdraw(self, *names: str) -> None:
        """Withdraw waiting attempts."""
        for name in names:
            self.admission.withdraw(self.waiting.pop(name), self.now)

    def advance(self, seconds: float) -> list[str]:
        """Move the clock. Admit whenever time alone may allow it. Return the names of the admitted attempts."""
        found, until = [], self.now + round(seconds * SECOND)
        while (due := self.admission.next_time) is not None and due <= until:
            self.now = max(self.now, due)
            found += self.admit()
        self.now = until
        return found + self.admit()

    def obstacle_of(self, name: str) -> tuple[str, str]:
        """Return the cause and the message of what an attempt waits for."""
        obstacle = self.admission.obstacle(self.waiting[name], self.now)
        return obstacle.cause.name.lower(), obstacle.message
