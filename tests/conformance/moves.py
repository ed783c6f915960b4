"""Draws the moves of a run: what happens to it from outside, and when its timeouts pass.

The pure driver of a run tells, while a run is drawn, which attempts are in flight after each move, how many events
there are, and what falls due. So a player knows when an engine has done all that a move causes.

The order of events must not depend on the speed of a machine. So at most one thing at a time happens by itself: a short
pause before an attempt ends, `core.workflow` gives its workflow, or a timeout passes. A workflow that would have two at
once is not drawn. Between the start of a timeout and its end there are only as many moves as are made in that time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from hypothesis import reject
from hypothesis import strategies as st

from conformance.timeouts import Timed, Timeouts, attempt_name
from stepwave.v1 import workflow_pb2
from stepwave_server.core.evolve import new_run
from stepwave_server.core.messages import (
    AddSteps,
    AttemptExpanded,
    AttemptFailed,
    AttemptSucceeded,
    CancelRequested,
    Started,
    StepCompleted,
)
from stepwave_server.core.model import SECOND, WORKFLOW_ACTION, Failure, Reason
from stepwave_server.core.state import RunOptions
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.engine.temporal.driver import RunDriver
from stepwave_server.engine.temporal.driver_messages import (
    AttemptStopped,
    CancelAttempt,
    CancelTimer,
    DriverInput,
    Effect,
    Request,
    SetTimer,
    StartAttempt,
    TimerDue,
)
from stepwave_server.engine.temporal.holds import Holds
from stepwave_server.wire.workflows.workflow import Parsed, parse_step, parse_workflow

__all__ = ["Move", "Program", "draw_moves"]

T = TypeVar("T")

Draw = Callable[[st.SearchStrategy[T]], T]

MOVE_NANOS = SECOND // 1_000
"""How long a move takes at least."""

MOVE_SECONDS = 1.0
"""How long a move may take on a busy machine. While something falls due, so much is set aside for each move."""

DID = {"stop": "", "answer": "it answered all the same, too late", "raise": "it failed: raised"}
"""What an attempt does after its timeout has passed, by its outcome."""


class Move(NamedTuple):
    """One thing that happens to a run from outside.

    Attributes:
        kind: `start`, `end`, `complete`, `cancel`, `add`, or `pass`: a timeout passes.
        step_id: The step that ends or is completed.
        attempt: The attempt that ends.
        outcome: `answer`, `raise` (for good), `break` (a retry may help), or `stop`: it ends because it is cancelled.
        steps: The steps to add.
        seal: Whether no more are added.
        passes: The timeouts that pass: several if they are due at once, and the first one decides.
        sequence: The number of the last event that the move leads to.
        running: The attempts in flight then.
        cancelled: Those of them that are to be cancelled, or have passed their timeouts.
        timed: The timeouts that have begun and may pass.
        silenced: Timeouts of attempts that the move cancelled. They have no effect if the cancel comes before them.
    """

    kind: str
    step_id: str = ""
    attempt: int = 0
    outcome: str = ""
    steps: Sequence[workflow_pb2.Step] = ()
    seal: bool = False
    passes: tuple[Timed, ...] = ()
    sequence: int = 0
    running: frozenset[tuple[str, int]] = frozenset()
    cancelled: frozenset[tuple[str, int]] = frozenset()
    timed: frozenset[Timed] = frozenset()
    silenced: frozenset[Timed] = frozenset()


@dataclass
class Program:
    """A run to be played.

    Attributes:
        workflow: Its workflow.
        is_open: Whether steps may be added to it.
        moves: What happens to it, to its end.
        facts: What happens in it that not every run has, such as `attempt timeout`.
    """

    workflow: workflow_pb2.Workflow
    is_open: bool
    moves: list[Move] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)


class _Drawing:
    """Draws the moves of one run."""

    def __init__(
        self,
        draw: st.DrawFn,
        program: Program,
        additions: list[list[workflow_pb2.Step]],
        chosen: Callable[[str], workflow_pb2.Workflow | None],
    ) -> None:
        self._draw = draw
        self._program = program
        self._additions = additions
        self._chosen = chosen
        parsed = parse_workflow(program.workflow, Parsed(accepted=True))
        state = new_run(parsed, '{"x":1}', RunOptions(open=program.is_open))
        self._driver = RunDriver(state, JsonEvaluator(1 << 20), Holds(None, ""))
        self._timeouts = Timeouts(self._driver)
        self._now = SECOND
        self._cancelled: set[tuple[str, int]] = set()
        self._timed_out: set[tuple[str, int]] = set()
        self._ever_timed_out: set[tuple[str, int]] = set()
        self._hasty: set[tuple[str, int]] = set()
        self._was_cancelled = False

    def draw_all(self) -> None:
        """Draw moves to the end of the run."""
        self._take(Move("start"), Started())
        while self._driver.state.finished is None:
            moves = self._next_moves()
            if not moves:
                moves = [self._cancel()]
            self._take(*self._draw(st.sampled_from(moves)))

    def _next_moves(self) -> list[tuple[Move, DriverInput | None]]:
        """Return what may happen next. If a timeout passes soon, that is next."""
        first = self._timeouts.first()
        if not first:
            return list(self._possible())
        passes = [] if self._is_held(first[0]) else [(Move("pass", passes=first), self._passing(first[0]))]
        if self._has_time(first[0]):
            return [*self._possible(), *passes * 3]
        return passes or [
            one for one in self._possible() if one[0].kind == "end" and one[0].step_id == first[0].step_id
        ]

    def _is_held(self, timed: Timed) -> bool:
        """Say whether an attempt that has passed its own timeout holds up the total one of its step."""
        return timed.kind != "attempt" and timed.step_id in self._driver.in_flight

    def _has_time(self, timed: Timed) -> bool:
        """Say whether another move is made before a timeout passes, even on a busy machine."""
        moves = [move for move in self._program.moves[timed.armed + 1 :] if move.kind != "pass"]
        elapsed = timed.seconds - (timed.due - self._now) / SECOND
        return elapsed + (len(moves) + 2) * MOVE_SECONDS <= timed.seconds

    def _passing(self, timed: Timed) -> DriverInput | None:
        return None if timed.kind == "attempt" else TimerDue(timed.name)

    def _possible(self) -> Iterator[tuple[Move, DriverInput]]:
        for step_id, attempt in self._driver.in_flight.items():
            yield from self._ends(step_id, attempt)
        for step_id, waiting in self._driver.state.running.items():
            if waiting.waits:
                failure = Failure(Reason.ACTION_ERROR, "refused", step_id=step_id)
                yield Move("complete", step_id, outcome="answer"), StepCompleted(step_id, f'"{step_id}"')
                yield Move("complete", step_id, outcome="raise"), StepCompleted(step_id, failure=failure)
        if self._program.is_open and self._driver.state.open:
            yield self._addition()
        elif not self._was_cancelled and len(self._program.moves) > 2 and self._draw(st.integers(0, 7)) == 7:
            yield self._cancel()

    def _ends(self, step_id: str, attempt: int) -> Iterator[tuple[Move, DriverInput]]:
        if (step_id, attempt) in self._timed_out:
            for outcome, did in DID.items():
                yield Move("end", step_id, attempt, outcome), AttemptStopped(step_id, attempt, timed_out=True, did=did)
            return
        if (step_id, attempt) in self._cancelled:
            yield Move("end", step_id, attempt, "stop"), AttemptStopped(step_id, attempt, timed_out=False)
        else:
            failure = Failure(Reason.ACTION_ERROR, "raised", step_id=step_id, attempt=attempt)
            broken = Failure(Reason.UNAVAILABLE, "broken", retryable=True, step_id=step_id, attempt=attempt)
            yield Move("end", step_id, attempt, "raise"), AttemptFailed(step_id, attempt, failure)
            yield Move("end", step_id, attempt, "break"), AttemptFailed(step_id, attempt, broken)
        if (step_id, attempt) not in self._hasty:  # its answer may come too late
            for _ in range(4):
                yield Move("end", step_id, attempt, "answer"), AttemptSucceeded(step_id, attempt, f'"{step_id}"')

    def _addition(self) -> tuple[Move, DriverInput]:
        steps = self._additions[0] if self._additions else []
        seal = len(self._additions) <= 1
        parsed = Parsed(accepted=True)
        fresh = tuple(parse_step(step, "", parsed) for step in steps)
        return Move("add", steps=steps, seal=seal), Request("add", AddSteps(fresh, seal))

    def _cancel(self) -> tuple[Move, DriverInput]:
        return Move("cancel"), CancelRequested("as drawn")

    def _take(self, move: Move, given: DriverInput | None) -> None:
        self._now += MOVE_NANOS
        if move.kind == "pass":
            self._pass(move.passes)
        if given is not None:
            self._driver.take([given], self._now)
        self._was_cancelled |= move.kind == "cancel"
        if move.kind == "add":
            assert self._driver.answers["add"] is None, "the drawn addition is valid"
            self._additions[:1] = []
        self._work_off()
        self._program.moves.append(self._completed(move))

    def _pass(self, passes: Sequence[Timed]) -> None:
        """Let the time of timeouts come."""
        first = passes[0]
        self._now = first.due
        self._program.facts.append(f"{first.kind} timeout")
        for timed in passes:
            self._timeouts.end(timed.name)
        if first.kind == "attempt":
            attempt = (first.step_id, self._driver.in_flight[first.step_id])
            self._timed_out.add(attempt)
            self._ever_timed_out.add(attempt)

    def _completed(self, move: Move) -> Move:
        """Return a move with all that it leads to."""
        running = frozenset(self._driver.in_flight.items())
        self._cancelled &= running
        self._timed_out &= running
        silenced = frozenset(self._timeouts.silenced)
        self._hasty = (self._hasty | {(it.step_id, self._driver.in_flight[it.step_id]) for it in silenced}) & running
        self._timeouts.silenced.clear()
        self._timeouts.forget_ended()
        if not self._timeouts.is_ordered():
            reject()
        return move._replace(
            sequence=self._driver.state.sequence,
            running=running,
            cancelled=frozenset(self._cancelled | self._timed_out),
            timed=self._timeouts.timed,
            silenced=silenced,
        )

    def _work_off(self) -> None:
        """Let short pauses pass, and `core.workflow` give its workflows."""
        while effects := self._driver.take_effects():
            following = [found for effect in effects if (found := self._following(effect)) is not None]
            if len(following) > 1:  # their order would be that of the machine
                reject()
            for delay, given in following:
                self._now += delay
                self._driver.take([given], self._now)

    def _following(self, effect: Effect) -> tuple[int, DriverInput] | None:
        """Return what happens by itself soon, and the pause before it; `None`: nothing does."""
        match effect:
            case CancelAttempt(step_id, attempt):
                self._cancelled.add((step_id, attempt))
                self._timeouts.silence(step_id, attempt)
            case CancelTimer(name):
                self._timeouts.end(name)
            case SetTimer(name, delay) if name.startswith("backoff") and delay < SECOND:
                return delay, TimerDue(name)
            case SetTimer(name, delay):
                self._timeouts.begin(name, "".join(name.split(" ")[1:2]), len(self._program.moves), delay, self._now)
            case StartAttempt() if effect.event.action == WORKFLOW_ACTION:
                return MOVE_NANOS, self._expansion(effect)
            case StartAttempt():
                self._begin(effect)
        return None

    def _begin(self, start: StartAttempt) -> None:
        event = start.event
        assert event.deadline is not None, "every attempt of an action has one"
        name = attempt_name(event.step_id, event.attempt)
        self._timeouts.begin(name, event.step_id, len(self._program.moves), event.deadline - self._now, self._now)
        if (event.step_id, event.attempt - 1) in self._ever_timed_out:
            then = "fallback" if start.invoke.fallback else "retry"
            self._program.facts.append(f"{then} after an attempt's timeout")

    def _expansion(self, start: StartAttempt) -> DriverInput:
        """Return what `core.workflow` gives."""
        step_id, attempt = start.event.step_id, start.event.attempt
        assert isinstance(start.input, str), "it is drawn as JSON"
        message = self._chosen(start.input)
        if message is None:
            self._program.facts.append("unknown workflow")
            failure = Failure(Reason.NOT_FOUND, "not found", step_id=step_id, attempt=attempt)
            return AttemptFailed(step_id, attempt, failure)
        self._program.facts.append("chosen workflow")
        return AttemptExpanded(step_id, attempt, parse_workflow(message, Parsed(accepted=True)), '{"x":2}')


def draw_moves(
    draw: st.DrawFn,
    program: Program,
    additions: list[list[workflow_pb2.Step]],
    chosen: Callable[[str], workflow_pb2.Workflow | None],
) -> None:
    """Draw what happens to a run, to its end.

    Args:
        draw: Draws.
        program: The run. Its moves are added to it.
        additions: The steps to be added to it, in their order.
        chosen: Returns the workflow that an input of `core.workflow` asks for; `None`: there is none.
    """
    _Drawing(draw, program, additions, chosen).draw_all()
