"""A simulation of admission to a service whose capacity changes, in virtual time.

`python -m tests.benchmarks.capacity` prints the used share of the capacity and the number of refused calls, for an
adaptive limit and for fixed limits. The simulation is deterministic: equal arguments give equal figures.
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
CALL_TIME = 100 * MILLISECOND
REFUSAL_TIME = 5 * MILLISECOND
INITIAL_BACKOFF = 500 * MILLISECOND
MAX_BACKOFF = 30_000 * MILLISECOND


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of the service with a constant capacity.

    Attributes:
        calls: The number of calls that the service answers in the phase.
        capacity: The maximum number of concurrent calls.
    """

    calls: int
    capacity: int


PHASES = (Phase(600, 8), Phase(800, 32), Phase(600, 4))


@dataclass(frozen=True, slots=True)
class Figures:
    """The outcome of a simulation.

    Attributes:
        answered: The number of answered calls.
        refused: The number of refused calls.
        seconds: The duration in virtual seconds.
        used: The used share of the service's capacity, over time.
    """

    answered: int
    refused: int
    seconds: float
    used: float

    @property
    def refused_share(self) -> float:
        """The refused share of all calls."""
        return self.refused / (self.answered + self.refused)


@dataclass(eq=False, slots=True)
class _Call:
    """A call: the request for admission."""

    run_key: Hashable
    limiters: tuple[Limiter, ...]
    namespace: str = "default"
    permit: Permit = field(default_factory=Permit)
    served: bool = False
    backoff: int = INITIAL_BACKOFF


@dataclass(slots=True)
class _Service:
    """A service that answers calls up to its capacity and refuses the others quickly."""

    phases: Sequence[Phase]
    answered: int = 0
    refused: int = 0
    busy: int = 0
    used: float = 0.0
    offered: float = 0.0
    now: int = 0

    @property
    def capacity(self) -> int:
        answered = self.answered
        for phase in self.phases:
            if answered < phase.calls:
                return phase.capacity
            answered -= phase.calls
        return 0

    def advance(self, now: int) -> None:
        capacity = self.capacity
        self.used += min(self.busy, capacity) * (now - self.now)
        self.offered += capacity * (now - self.now)
        self.now = now


@dataclass(slots=True)
class _Simulation:
    bound: Bound
    service: _Service
    random: random.Random
    admission: LimitedAdmission[_Call] = field(default_factory=lambda: LimitedAdmission(1_000))
    queue: list[tuple[int, int, _Call, Callable[[_Call, int], None]]] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=count)

    def run(self, runs: int, calls: int) -> None:
        registry = LimiterRegistry([Limit(actions="service", total=self.bound)])
        for number in range(calls):
            self.admission.submit(_Call(number % runs, registry.limiters("service", "", 0)))
        self.begin(0)
        while self.queue:
            now, _, call, handler = heapq.heappop(self.queue)
            self.service.advance(now)
            handler(call, now)
            self.begin(now)

    def schedule(self, time: int, call: _Call, handler: Callable[[_Call, int], None]) -> None:
        heapq.heappush(self.queue, (time, next(self.numbers), call, handler))

    def begin(self, now: int) -> None:
        """Start the calls that are admitted. The service refuses those beyond its capacity."""
        while (admitted := self.admission.admit(now)) is not None:
            call, permit = admitted
            call.permit = permit
            call.served = self.service.busy < self.service.capacity
            self.service.busy += call.served
            duration = round(CALL_TIME * self.random.uniform(0.5, 1.5)) if call.served else REFUSAL_TIME
            self.schedule(now + duration, call, self.end)

    def end(self, call: _Call, now: int) -> None:
        """End a call with an answer, or with a refusal. A refused call is tried again after a pause."""
        self.admission.release(call.permit, Feedback.SUCCEEDED if call.served else Feedback.REFUSED, 0, now)
        if call.served:
            self.service.busy -= 1
            self.service.answered += 1
        else:
            self.service.refused += 1
            self.schedule(now + call.backoff, call, self.retry)
            call.backoff = min(2 * call.backoff, MAX_BACKOFF)

    def retry(self, call: _Call, now: int) -> None:
        self.admission.submit(call)


def simulate(bound: Bound, *, phases: Sequence[Phase] = PHASES, runs: int = 20, seed: int = 1) -> Figures:
    """Simulate the calls of all phases.

    Args:
        bound: The limit on the calls.
        phases: The phases of the service.
        runs: The number of runs that make the calls.
        seed: The seed of the durations of calls.
    """
    service = _Service(phases)
    simulation = _Simulation(bound, service, random.Random(seed))
    simulation.run(runs, sum(phase.calls for phase in phases))
    return Figures(
        answered=service.answered,
        refused=service.refused,
        seconds=service.now / 1e9,
        used=service.used / service.offered,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate with several limits, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.capacity", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the seed of the durations of calls (default: 1)")
    options = parser.parse_args(arguments)
    bounds = {"adaptive": Bound(adaptive=Adaptive())}
    bounds |= {f"fixed at {limit}": Bound(concurrency=limit) for limit in (4, 8, 16, 32)}
    phases = " → ".join(str(phase.capacity) for phase in PHASES)
    lines = [f"capacity {phases} during {sum(phase.calls for phase in PHASES):,} calls", ""]
    lines.append(f"{'limit':<12} {'used':>6} {'refused':>8} {'of calls':>9} {'seconds':>8}")
    for name, bound in bounds.items():
        figures = simulate(bound, seed=options.seed)
        used, refused = f"{figures.used:>6.0%}", f"{figures.refused:>8,} {figures.refused_share:>9.1%}"
        lines.append(f"{name:<12} {used} {refused} {figures.seconds:>8.1f}")
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
