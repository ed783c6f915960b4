"""Random workflows, and the inputs that may come next in a run."""

import os
from collections.abc import Iterator, Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from stepwave_server.core.messages import (
    AttemptExpanded,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    AttemptTimedOut,
    Input,
    Interrupt,
    StepCompleted,
    Timer,
    TimerFired,
)
from stepwave_server.core.model import (
    SECOND,
    WAIT_ACTION,
    WORKFLOW_ACTION,
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

__all__ = [
    "CHOSEN",
    "DEEPEST",
    "answers",
    "batches",
    "failures",
    "late_inputs",
    "lost_attempts",
    "next_inputs",
    "soak",
    "step_lists",
    "workflows",
]

POLICIES = [None, None, None, retry(2), retry(3, pause=2, longest=3), retry(2, pause=0), retry(1)]
FALLBACKS: list[Payload | FallbackAction | None] = [
    *[None] * 6,
    '"kept"',
    FallbackAction("other"),
    FallbackAction("other", '"own"'),
    FallbackAction("other", None, (NOWHERE,)),
]
JOINS = [Join.ALL, Join.ALL, Join.ANY, Join.ALL_DONE]
CONDITIONS = [*[""] * 8, "true", "true", "false", "error"]
LISTS = ["[]", "[1]", "[1,2]", "[1,2,3]", "[1,2,3,4]", "error"]
SHAPES = [
    *[""] * 10,
    "wait",
    "chosen",
    "body",
    "body",
    "list",
    "list",
    "list of waits",
    "list of chosen",
    "list of bodies",
]
DEEPEST = 2
"""Workflows that are drawn in one another."""


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
def step_lists(draw: st.DrawFn, most: int = 8, depth: int = 0, *, bounded: bool = True) -> list[Step]:
    """Draw the steps of a graph, declared in any order. With a `depth`, some of them become several."""
    order = draw(st.permutations([chr(ord("a") + place) for place in range(draw(st.integers(1, most)))]))
    steps = []
    for place, step_id in enumerate(order):
        deps = draw(st.lists(st.sampled_from(order[:place]), max_size=4, unique=True)) if place else []
        shape = draw(st.sampled_from(SHAPES)) if depth else ""
        body = draw(workflows(3, depth - 1, bounded=bounded)) if "bod" in shape else None
        steps.append(
            step(
                step_id,
                *deps,
                join=draw(st.sampled_from(JOINS)),
                allow_failure=draw(st.integers(0, 4)) == 4,
                timeout=draw(st.sampled_from([None, 5])),
                bindings=(NOWHERE,) if draw(st.integers(0, 15)) == 15 else (),
                on_interrupt=OnInterrupt.FAIL if draw(st.integers(0, 4)) == 4 else OnInterrupt.RETRY,
                retry=draw(st.sampled_from(POLICIES)) if body is None else None,
                total_timeout=draw(st.sampled_from([None, None, None, 4])),
                fallback=draw(st.sampled_from(FALLBACKS)),
                when=draw(st.sampled_from(CONDITIONS)) if depth else "",
                over=draw(st.sampled_from(LISTS)) if "list" in shape else None,
                at_once=draw(st.sampled_from([0, 1, 2])) if bounded and "list" in shape else 0,
                body=body,
                action=WAIT_ACTION if "wait" in shape else WORKFLOW_ACTION if "chosen" in shape else "echo",
            )
        )
    return sorted(steps, key=lambda step: step.id)


@st.composite
def workflows(draw: st.DrawFn, most: int = 8, depth: int = DEEPEST, *, bounded: bool = True) -> Workflow:
    """Draw a workflow with any policies. With a `depth`, others are nested in it; `bounded`: some have few places."""
    steps = draw(step_lists(most, depth, bounded=bounded))
    ids = [step.id for step in steps]
    return flow(
        *steps,
        go_on=draw(st.booleans()),
        by_waves=draw(st.booleans()),
        max_parallelism=draw(st.sampled_from([0, 0, 1, 2, 3])) if bounded else 0,
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


CHOSEN = [
    flow(step("x")),
    flow(step("x"), step("y", "x"), step("z", "x", join=Join.ALL_DONE)),
    flow(step("x"), step("y", action=WAIT_ACTION), go_on=True, timeout=2, outputs=("y",)),
    flow(step("w", action=WORKFLOW_ACTION, timeout=3), step("l", over="[1,2]")),
    flow(step("x", when="false"), step("y", "x", join=Join.ALL_DONE), step("z", "x"), by_waves=True),
]
"""Workflows that an action may choose."""


def next_inputs(drive: Drive) -> Iterator[Input]:
    """Yield the inputs that attempts, admission and callers may give next."""
    for step_id in drive.waiting():
        yield AttemptStarted(step_id, drive.run.steps[step_id].attempt + 1)
    for step_id in drive.run.running:
        yield from answers(drive, step_id)
    for interrupt in _first_interrupts(drive):
        yield AttemptInterrupted(interrupt.step_id, interrupt.attempt, interrupt.failure, abandoned=False)
        yield AttemptInterrupted(interrupt.step_id, interrupt.attempt, interrupt.failure, abandoned=True)


def answers(drive: Drive, step_id: str) -> Iterator[Input]:
    """Yield what may become of a running attempt."""
    running = drive.run.running[step_id]
    attempt = running.attempt
    if running.waits:
        yield StepCompleted(step_id, f'"{step_id}"')
        yield from (StepCompleted(step_id, failure=failure) for failure in failures(step_id, attempt))
        return
    if running.spec.action == WORKFLOW_ACTION and running.original is None:
        yield from (AttemptExpanded(step_id, attempt, chosen, "7") for chosen in CHOSEN)
    else:
        yield AttemptSucceeded(step_id, attempt, f'"{step_id}"')
    yield from (AttemptFailed(step_id, attempt, failure) for failure in failures(step_id, attempt))


def failures(step_id: str, attempt: int) -> Iterator[Failure]:
    """Yield a permanent failure, a retryable one, and one with `retry_after`."""
    yield Failure(Reason.ACTION_ERROR, "broke", step_id=step_id, attempt=attempt)
    yield Failure(Reason.UNAVAILABLE, "gone", retryable=True, step_id=step_id, attempt=attempt)
    yield Failure(Reason.RATE_LIMITED, "busy", True, 3 * SECOND, step_id, attempt)


def lost_attempts(drive: Drive, *, drained: bool = False) -> list[Input]:
    """Return the inputs after a restart of the server: all running attempts are lost. A step that waits has none."""
    running = drive.run.running.items()
    return [AttemptLost(step_id, step.attempt, drained) for step_id, step in running if not step.waits]


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
        yield TimerFired(Timer("own", step_id, 7))
        if drive.run.steps[step_id].total_deadline is None:
            yield TimerFired(Timer("total", step_id))
        yield AttemptStarted(step_id, 7)
        yield AttemptFailed(step_id, 7, Failure(Reason.ACTION_ERROR, "no such attempt"))


def _first_interrupts(drive: Drive) -> list[Interrupt]:
    """Return the first interrupt command of each running attempt: an attempt keeps its first failure."""
    running = {(step_id, step.attempt) for step_id, step in drive.run.running.items()}
    ordered = [one for one in drive.interrupts() if (one.step_id, one.attempt) in running]
    return list({interrupt.step_id: interrupt for interrupt in reversed(ordered)}.values())
