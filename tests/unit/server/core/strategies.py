"""Random workflows, and the inputs that may come next in a run."""

import os
from collections.abc import Iterator, Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from stepwave_server.core.messages import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    AttemptTimedOut,
    Input,
    Interrupt,
    Timer,
    TimerFired,
)
from stepwave_server.core.model import (
    SECOND,
    Failure,
    FallbackAction,
    Join,
    OnInterrupt,
    Payload,
    Reason,
    Step,
    Workflow,
)
from unit.server.core.build import NOWHERE, flow, retry, step
from unit.server.core.driver import Drive

__all__ = ["batches", "failures", "late_inputs", "lost_attempts", "next_inputs", "soak", "step_lists", "workflows"]

POLICIES = [None, None, None, retry(2), retry(3, pause=2, longest=3), retry(2, pause=0), retry(1)]
FALLBACKS: list[Payload | FallbackAction | None] = [
    *[None] * 6,
    '"kept"',
    FallbackAction("other"),
    FallbackAction("other", '"own"'),
    FallbackAction("other", None, (NOWHERE,)),
]
JOINS = [Join.ALL, Join.ALL, Join.ANY, Join.ALL_DONE]


def soak(examples: int) -> settings:
    """Return settings for this many examples, always the same. `SOAK=20` in the environment: 20 times as many, new."""
    factor = int(os.environ.get("SOAK", "0"))
    return settings(
        max_examples=examples * max(1, factor),
        derandomize=not factor,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


@st.composite
def step_lists(draw: st.DrawFn, most: int = 8) -> list[Step]:
    """Draw the steps of a graph, declared in any order."""
    order = draw(st.permutations([chr(ord("a") + place) for place in range(draw(st.integers(1, most)))]))
    steps = []
    for place, step_id in enumerate(order):
        deps = draw(st.lists(st.sampled_from(order[:place]), max_size=4, unique=True)) if place else []
        steps.append(
            step(
                step_id,
                *deps,
                join=draw(st.sampled_from(JOINS)),
                allow_failure=draw(st.integers(0, 4)) == 4,
                timeout=draw(st.sampled_from([None, 5])),
                bindings=(NOWHERE,) if draw(st.integers(0, 15)) == 15 else (),
                on_interrupt=OnInterrupt.FAIL if draw(st.integers(0, 4)) == 4 else OnInterrupt.RETRY,
                retry=draw(st.sampled_from(POLICIES)),
                total_timeout=draw(st.sampled_from([None, None, None, 4])),
                fallback=draw(st.sampled_from(FALLBACKS)),
            )
        )
    return sorted(steps, key=lambda step: step.id)


@st.composite
def workflows(draw: st.DrawFn, most: int = 8) -> Workflow:
    """Draw a workflow with any policies."""
    steps = draw(step_lists(most))
    ids = [step.id for step in steps]
    return flow(
        *steps,
        go_on=draw(st.booleans()),
        by_waves=draw(st.booleans()),
        max_parallelism=draw(st.sampled_from([0, 0, 1, 2, 3])),
        timeout=draw(st.sampled_from([None, None, 3])),
        outputs=tuple(draw(st.lists(st.sampled_from(ids), max_size=2, unique=True))),
        retry=draw(st.sampled_from([None, None, None, retry(2)])),
    )


@st.composite
def batches(draw: st.DrawFn, steps: Sequence[Step]) -> list[tuple[Step, ...]]:
    """Draw the additions of a planner: all steps, in parts, in any order."""
    rest = list(draw(st.permutations(steps)))
    parts = []
    while rest:
        size = draw(st.integers(1, len(rest)))
        parts.append(tuple(rest[:size]))
        rest = rest[size:]
    return parts


def next_inputs(drive: Drive) -> Iterator[Input]:
    """Yield the inputs that attempts and admission may give next."""
    for step_id in drive.waiting():
        yield AttemptStarted(step_id, drive.run.steps[step_id].attempt + 1)
    for step_id, running in drive.run.running.items():
        yield AttemptSucceeded(step_id, running.attempt, f'"{step_id}"')
        for failure in failures(step_id, running.attempt):
            yield AttemptFailed(step_id, running.attempt, failure)
    for interrupt in _first_interrupts(drive):
        yield AttemptInterrupted(interrupt.step_id, interrupt.attempt, interrupt.failure, abandoned=False)
        yield AttemptInterrupted(interrupt.step_id, interrupt.attempt, interrupt.failure, abandoned=True)


def failures(step_id: str, attempt: int) -> Iterator[Failure]:
    """Yield a permanent failure, a retryable one, and one with `retry_after`."""
    yield Failure(Reason.ACTION_ERROR, "broke", step_id=step_id, attempt=attempt)
    yield Failure(Reason.UNAVAILABLE, "gone", retryable=True, step_id=step_id, attempt=attempt)
    yield Failure(Reason.RATE_LIMITED, "busy", True, 3 * SECOND, step_id, attempt)


def lost_attempts(drive: Drive) -> list[Input]:
    """Return the inputs after a restart of the server: all running attempts are lost."""
    return [AttemptLost(step_id, step.attempt) for step_id, step in drive.run.running.items()]


def late_inputs(drive: Drive) -> Iterator[Input]:
    """Yield inputs that come too late or too early, and so change nothing."""
    for step_id in drive.run.steps:
        if step_id not in drive.waiting():
            yield AttemptStarted(step_id, 1)
        if step_id not in drive.run.running:
            yield AttemptSucceeded(step_id, 1, '"late"')
            yield AttemptLost(step_id, 1)
            yield AttemptTimedOut(step_id, 1)
        yield TimerFired(Timer("backoff", step_id, 7))
        if drive.run.steps[step_id].total_deadline is None:
            yield TimerFired(Timer("total", step_id))
        yield AttemptStarted(step_id, 7)
        yield AttemptFailed(step_id, 7, Failure(Reason.ACTION_ERROR, "no such attempt"))


def _first_interrupts(drive: Drive) -> list[Interrupt]:
    """Return the first interrupt command of each running attempt: an attempt keeps its first failure."""
    running = {(step_id, step.attempt) for step_id, step in drive.run.running.items()}
    ordered = [one for one in drive.interrupts() if (one.step_id, one.attempt) in running]
    return list({interrupt.step_id: interrupt for interrupt in reversed(ordered)}.values())
