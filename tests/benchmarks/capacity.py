"""A service whose capacity changes while calls go to it, through admission alone, on virtual time.

`python -m tests.benchmarks.capacity` prints how much of it is used, and how many calls it refuses, with an adaptive
limit and with fixed ones. Nothing in it is drawn by the process: equal arguments, equal figures.
"""

import argparse
import heapq
import random
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count

from stepwave_server.engine.admission.base import Permit
from stepwave_server.engine.admission.limited import LimitedAdmission
from stepwave_server.engine.admission.limiter import Feedback, Limiter
from stepwave_server.engine.admission.limits import Adaptive, Bound, Limit
from stepwave_server.engine.admission.registry import LimiterRegistry

__all__ = ["PHASES", "Figures", "Phase", "simulate"]

MILLISECOND = 1_000_000
CALL = 100 * MILLISECOND
REFUSAL = 5 * MILLISECOND
FIRST_BACKOFF = 500 * MILLISECOND
MAX_BACKOFF = 30_000 * MILLISECOND


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of calls that the service answers with one capacity: how many it bears at once."""

    calls: int
    capacity: int


PHASES = (Phase(600, 8), Phase(800, 32), Phase(600, 4))


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it.

    Attributes:
        answered: Calls that were answered.
        refused: Calls that were refused.
        seconds: How long it took, on virtual time.
        used: The share of the service's capacity that was used, by time.
    """

    answered: int
    refused: int
    seconds: float
    used: float

    @property
    def refused_share(self) -> float:
        """The share of all calls that was refused."""
        return self.refused / (self.answered + self.refused)


@dataclass(eq=False, slots=True)
class _Call:
    """One call: what waits for admission."""

    run_key: Hashable
    limiters: tuple[Limiter, ...]
    permit: Permit = field(default_factory=Permit)
    served: bool = False
    backoff: int = FIRST_BACKOFF


@dataclass(slots=True)
class _Service:
    """Answers as many calls at once as it can, and refuses the others soon."""

    phases: Sequence[Phase]
    answered: int = 0
    refused: int = 0
    busy: int = 0
    spent: float = 0.0
    offered: float = 0.0
    now: int = 0

    @property
    def capacity(self) -> int:
        left = self.answered
        for phase in self.phases:
            if left < phase.calls:
                return phase.capacity
            left -= phase.calls
        return 0

    def pass_time(self, now: int) -> None:
        capacity = self.capacity
        self.spent += min(self.busy, capacity) * (now - self.now)
        self.offered += capacity * (now - self.now)
        self.now = now


@dataclass(slots=True)
class _Simulation:
    bound: Bound
    service: _Service
    random: random.Random
    admission: LimitedAdmission[_Call] = field(default_factory=lambda: LimitedAdmission(1_000))
    due: list[tuple[int, int, _Call, Callable[[_Call, int], None]]] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=count)

    def run(self, runs: int, calls: int) -> None:
        registry = LimiterRegistry([Limit(actions="service", total=self.bound)])
        for number in range(calls):
            self.admission.submit(_Call(number % runs, registry.limiters("service", "", 0)))
        self.begin(0)
        while self.due:
            now, _, call, happens = heapq.heappop(self.due)
            self.service.pass_time(now)
            happens(call, now)
            self.begin(now)

    def later(self, when: int, call: _Call, happens: Callable[[_Call, int], None]) -> None:
        heapq.heappush(self.due, (when, next(self.numbers), call, happens))

    def begin(self, now: int) -> None:
        """Let calls start whose turn it is: what the service cannot bear it refuses."""
        while (admitted := self.admission.admit(now)) is not None:
            call, permit = admitted
            call.permit = permit
            call.served = self.service.busy < self.service.capacity
            self.service.busy += call.served
            took = round(CALL * self.random.uniform(0.5, 1.5)) if call.served else REFUSAL
            self.later(now + took, call, self.end)

    def end(self, call: _Call, now: int) -> None:
        """Take an answer, or a refusal: then the call comes again after a pause, as retries do."""
        self.admission.release(call.permit, Feedback.SUCCEEDED if call.served else Feedback.REFUSED, 0, now)
        if call.served:
            self.service.busy -= 1
            self.service.answered += 1
        else:
            self.service.refused += 1
            self.later(now + call.backoff, call, self.again)
            call.backoff = min(2 * call.backoff, MAX_BACKOFF)

    def again(self, call: _Call, now: int) -> None:
        self.admission.submit(call)


def simulate(bound: Bound, *, phases: Sequence[Phase] = PHASES, runs: int = 20, seed: int = 1) -> Figures:
    """Make as many calls as the phases have, from so many runs, bounded so."""
    service = _Service(phases)
    simulation = _Simulation(bound, service, random.Random(seed))
    simulation.run(runs, sum(phase.calls for phase in phases))
    return Figures(service.answered, service.refused, service.now / 1e9, service.spent / service.offered)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.capacity", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what draws how long calls take (default: 1)")
    options = parser.parse_args(arguments)
    bounds = {"adaptive": Bound(adaptive=Adaptive())}
    bounds |= {f"fixed at {most}": Bound(concurrency=most) for most in (4, 8, 16, 32)}
    phases = " → ".join(str(phase.capacity) for phase in PHASES)
    lines = [f"capacity {phases} during {sum(phase.calls for phase in PHASES):,} calls", ""]
    lines.append(f"{'limit':<12} {'used':>6} {'refused':>8} {'of calls':>9} {'seconds':>8}")
    for name, bound in bounds.items():
        it = simulate(bound, seed=options.seed)
        lines.append(f"{name:<12} {it.used:>6.0%} {it.refused:>8,} {it.refused_share:>9.1%} {it.seconds:>8.1f}")
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
