"""Random runs whose outcomes are released one at a time, in a drawn order.

The pure driver of a run tells, while a run is drawn, which attempts are in flight after each move, and how many events
there are. So a player knows when an engine has done all that a move causes.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.server.build import fallback_to, flow, items, payload, retry, seconds, step
from stepwave.v1 import workflow_pb2
from stepwave_server.core.evolve import new_run
from stepwave_server.core.messages import (
    AddSteps,
    AttemptFailed,
    AttemptSucceeded,
    CancelRequested,
    Started,
    StepCompleted,
)
from stepwave_server.core.model import SECOND, Failure, Reason
from stepwave_server.core.state import RunOptions
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.engine.temporal.driver import RunDriver
from stepwave_server.engine.temporal.driver_messages import (
    AttemptStopped,
    CancelAttempt,
    DriverInput,
    Request,
    SetTimer,
    TimerDue,
)
from stepwave_server.engine.temporal.holds import Holds
from stepwave_server.wire.workflows.workflow import Parsed, parse_step, parse_workflow

__all__ = ["Move", "Program", "draw_programs", "draw_race_free_workflows"]

T = TypeVar("T")

LONG = workflow_pb2.Retry(max_attempts=3, initial_backoff=seconds(600), max_backoff=seconds(600), jitter=0)
"""Retries with a backoff that is not over before the run ends."""

POLICIES = [None, None, None, retry(2, jitter=0), retry(3, 0.02, jitter=0), LONG]
JOINS = [workflow_pb2.JOIN_ALL, workflow_pb2.JOIN_ALL, workflow_pb2.JOIN_ANY, workflow_pb2.JOIN_ALL_DONE]
SHAPES = [*["acts"] * 7, "wait", "list", "list of waits", "body", "list of bodies"]


class Move(NamedTuple):
    """One thing that happens to a run from outside.

    Attributes:
        kind: `start`, `end`, `complete`, `cancel` or `add`.
        step_id: The step that ends or is completed.
        attempt: The attempt that ends.
        outcome: `answer`, `raise` (for good), `break` (a retry may help), or `stop`: it ends because it is cancelled.
        steps: The steps to add.
        seal: Whether no more are added.
        sequence: The number of the last event that the move leads to.
        running: The attempts in flight then.
        cancelled: Those of them that are to be cancelled.
    """

    kind: str
    step_id: str = ""
    attempt: int = 0
    outcome: str = ""
    steps: Sequence[workflow_pb2.Step] = ()
    seal: bool = False
    sequence: int = 0
    running: frozenset[tuple[str, int]] = frozenset()
    cancelled: frozenset[tuple[str, int]] = frozenset()


@dataclass
class Program:
    """A run to be played.

    Attributes:
        workflow: Its workflow.
        is_open: Whether steps may be added to it.
        moves: What happens to it, to its end.
    """

    workflow: workflow_pb2.Workflow
    is_open: bool
    moves: list[Move] = field(default_factory=list)


@st.composite
def _steps(draw: st.DrawFn, most: int, depth: int, prefix: str = "") -> list[workflow_pb2.Step]:
    ids = [f"{prefix}{chr(ord('a') + place)}" for place in range(draw(st.integers(1, most)))]
    found = []
    for place, step_id in enumerate(ids):
        after = draw(st.lists(st.sampled_from(ids[:place]), max_size=3, unique=True)) if place else []
        shape = draw(st.sampled_from(SHAPES)) if depth else "acts"
        body = draw(_workflows(3, depth - 1)) if "bod" in shape else None
        found.append(
            step(
                step_id,
                "core.wait" if "wait" in shape else "acts",
                after=after,
                join=draw(st.sampled_from(JOINS)) if after else workflow_pb2.JOIN_UNSPECIFIED,
                allow_failure=draw(st.integers(0, 3)) == 3,
                retry=draw(st.sampled_from(POLICIES)) if shape in ("acts", "list") else None,
                fallback=draw(_fallbacks()) if shape in ("acts", "list", "body") else None,
                when=draw(_conditions(after)) if depth else "",
                over=items(*range(draw(st.integers(0, 3))), at_once=draw(st.integers(0, 2)))
                if "list" in shape
                else None,
                body=body,
            )
        )
    return found


def _fallbacks() -> st.SearchStrategy[workflow_pb2.Fallback | None]:
    kept = workflow_pb2.Fallback(value=payload("kept"))
    return st.sampled_from([None, None, None, None, kept, fallback_to("other")])


def _conditions(after: Sequence[str]) -> st.SearchStrategy[str]:
    told = [f'deps.{after[0]}.output == "{after[0]}"'] if after else []
    return st.sampled_from([*[""] * 8, "1 < 2", "2 < 1", "input.nowhere", *told])


@st.composite
def _workflows(draw: st.DrawFn, most: int, depth: int) -> workflow_pb2.Workflow:
    return flow(
        *draw(_steps(most, depth)),
        scheduling=draw(st.sampled_from([workflow_pb2.SCHEDULING_EAGER, workflow_pb2.SCHEDULING_WAVE])),
        failure_policy=draw(
            st.sampled_from([workflow_pb2.FAILURE_POLICY_CONTINUE, workflow_pb2.FAILURE_POLICY_FAIL_FAST])
        ),
        max_parallelism=draw(st.sampled_from([0, 0, 1, 2])),
    )


class _Drawing:
    """Draws the moves of one run."""

    def __init__(self, draw: st.DrawFn, program: Program, additions: list[list[workflow_pb2.Step]]) -> None:
        self._draw = draw
        self._program = program
        self._additions = additions
        parsed = parse_workflow(program.workflow, Parsed(accepted=True))
        state = new_run(parsed, '{"x":1}', RunOptions(open=program.is_open))
        self._driver = RunDriver(state, JsonEvaluator(1 << 20), Holds(None, ""))
        self._now = SECOND
        self._cancelled: set[tuple[str, int]] = set()
        self._was_cancelled = False

    def draw_all(self) -> None:
        """Draw moves to the end of the run."""
        self._take(Move("start"), Started())
        while self._driver.state.finished is None:
            moves = list(self._possible())
            if not moves:
                moves = [self._cancel()]
            self._take(*self._draw(st.sampled_from(moves)))

    def _possible(self) -> Iterator[tuple[Move, DriverInput]]:
        for step_id, attempt in self._driver.in_flight.items():
            if (step_id, attempt) in self._cancelled:
                yield Move("end", step_id, attempt, "stop"), AttemptStopped(step_id, attempt, timed_out=False)
            else:
                failure = Failure(Reason.ACTION_ERROR, "raised", step_id=step_id, attempt=attempt)
                broken = Failure(Reason.UNAVAILABLE, "broken", retryable=True, step_id=step_id, attempt=attempt)
                yield Move("end", step_id, attempt, "raise"), AttemptFailed(step_id, attempt, failure)
                yield Move("end", step_id, attempt, "break"), AttemptFailed(step_id, attempt, broken)
            for _ in range(4):
                yield Move("end", step_id, attempt, "answer"), AttemptSucceeded(step_id, attempt, f'"{step_id}"')
        for step_id, waiting in self._driver.state.running.items():
            if waiting.waits:
                failure = Failure(Reason.ACTION_ERROR, "refused", step_id=step_id)
                yield Move("complete", step_id, outcome="answer"), StepCompleted(step_id, f'"{step_id}"')
                yield Move("complete", step_id, outcome="raise"), StepCompleted(step_id, failure=failure)
        if self._program.is_open and self._driver.state.open:
            yield self._addition()
        elif not self._was_cancelled and len(self._program.moves) > 2 and self._draw(st.integers(0, 7)) == 7:
            yield self._cancel()

    def _addition(self) -> tuple[Move, DriverInput]:
        steps = self._additions[0] if self._additions else []
        seal = len(self._additions) <= 1
        parsed = Parsed(accepted=True)
        fresh = tuple(parse_step(step, "", parsed) for step in steps)
        return Move("add", steps=steps, seal=seal), Request("add", AddSteps(fresh, seal))

    def _cancel(self) -> tuple[Move, DriverInput]:
        return Move("cancel"), CancelRequested("as drawn")

    def _take(self, move: Move, given: DriverInput) -> None:
        self._now += SECOND
        self._driver.take([given], self._now)
        self._was_cancelled |= move.kind == "cancel"
        if move.kind == "add":
            assert self._driver.answers["add"] is None, "the drawn addition is valid"
            self._additions[:1] = []
        self._work_off()
        running = frozenset(self._driver.in_flight.items())
        self._cancelled &= running
        sequence = self._driver.state.sequence
        moved = move._replace(sequence=sequence, running=running, cancelled=frozenset(self._cancelled))
        self._program.moves.append(moved)

    def _work_off(self) -> None:
        """Let short backoffs pass."""
        while effects := self._driver.take_effects():
            for effect in effects:
                if isinstance(effect, CancelAttempt):
                    self._cancelled.add((effect.step_id, effect.attempt))
                elif isinstance(effect, SetTimer) and effect.delay < SECOND:
                    assert effect.name.startswith("backoff"), effect
                    self._now += effect.delay
                    self._driver.take([TimerDue(effect.name)], self._now)


@st.composite
def _programs(draw: st.DrawFn) -> Program:
    is_open = draw(st.integers(0, 3)) == 3
    workflow = draw(_workflows(7, 2))
    additions: list[list[workflow_pb2.Step]] = []
    if is_open:
        workflow.scheduling = workflow_pb2.SCHEDULING_EAGER
        additions = [draw(_steps(3, 1, prefix)) for prefix in "xy"[: draw(st.integers(0, 2))]]
    program = Program(workflow, is_open)
    _Drawing(draw, program, additions).draw_all()
    return program


def draw_programs(count: int) -> list[Program]:
    """Draw random runs, always the same. `SOAK=20` in the environment: 20 times as many, new ones."""
    return _draw(_programs(), count)


def draw_race_free_workflows(count: int) -> list[workflow_pb2.Workflow]:
    """Draw workflows in which the order of outcomes changes nothing but the order of events; see `draw_programs`."""
    return _draw(_workflows(7, 2).map(_without_races), count)


def _without_races(workflow: workflow_pb2.Workflow) -> workflow_pb2.Workflow:
    workflow.failure_policy = workflow_pb2.FAILURE_POLICY_CONTINUE
    for spec in workflow.steps:
        if spec.join == workflow_pb2.JOIN_ANY:
            spec.join = workflow_pb2.JOIN_ALL
        if spec.action == "core.wait":
            spec.action = "acts"
        if spec.retry == LONG:
            spec.retry.CopyFrom(retry(3, 0.02, jitter=0))
        if spec.HasField("workflow"):
            _without_races(spec.workflow)
    return workflow


def _draw(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    factor = int(os.environ.get("SOAK", "0"))
    found: list[T] = []

    @settings(
        max_examples=count * max(1, factor),
        derandomize=not factor,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(one: T) -> None:
        found.append(one)

    draw()
    return found
