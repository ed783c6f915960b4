"""One run in the asyncio engine: feeds the core, commits what it decides, then carries it out."""

import asyncio
import contextvars
import logging
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from opentelemetry import context as otel_context

from stepwave_server.actions import Registry
from stepwave_server.core.decide import Decision, attempt_of, decide
from stepwave_server.core.info import RunInfo, info_of
from stepwave_server.core.messages import (
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    Command,
    Event,
    Finish,
    Input,
    Interrupt,
    Invoke,
    RunFinished,
    StartTimer,
    StepFinished,
    StepRetrying,
    StepStarted,
    Timer,
    TimerFired,
)
from stepwave_server.core.model import Failure, Payload, Reason
from stepwave_server.core.resume import resume
from stepwave_server.core.state import RunState
from stepwave_server.engine.admission.base import Obstacle
from stepwave_server.engine.admission.controller import AdmissionController
from stepwave_server.engine.attempts.attempt import Attempt
from stepwave_server.engine.attempts.deadlines import Deadlines
from stepwave_server.engine.attempts.json_evaluator import JsonEvaluator
from stepwave_server.engine.attempts.table import Attempts
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.errors import RunBroken
from stepwave_server.engine.runs.commit_watermark import CommitWatermark
from stepwave_server.engine.runs.timers import Timers
from stepwave_server.engine.streams.subscribers import Subscribers
from stepwave_server.journal import Ended, Header, Journal
from stepwave_server.telemetry import RunTracer
from stepwave_server.wire.events.encode import Encoder

__all__ = ["LocalRun", "Services"]

logger = logging.getLogger(__name__)

MOST_MISSING = 20
"""Actions that a run's information names at most, of those that its steps wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a run needs of its engine.

    Attributes:
        turn: Let the run work off its inputs soon, together with those that come until then.
        entrance: Where attempts wait to start, and give back their places when they have ended, or came too late.
        deadlines: Calls the attempt's run back when it has taken longer than it may.
        abandoned: An interrupted attempt has not ended within its grace; its task may go on.
        finished: The run is under way no more: the journal keeps it.
        broke: The run met a defect: it neither decides nor acts any more, and is to be ended.
    """

    clock: Callable[[], int]
    journal: Journal
    actions: Registry
    evaluator: JsonEvaluator
    options: EngineOptions
    turn: Callable[["LocalRun"], None]
    entrance: AdmissionController
    deadlines: Deadlines[Attempt]
    abandoned: Callable[[asyncio.Task[None]], None]
    finished: Callable[["LocalRun"], None]
    broke: Callable[["LocalRun"], None]


class LocalRun:
    """A run under way.

    The order that keeps promise 1: what the core decides is appended to the journal, and only when it is committed do
    attempts start, timers run, and watchers see it. Asking admission for a place is no effect: the attempt's start is
    an event of its own.

    Attributes:
        key: What names it.
        header: What it was given.
        state: Where it stands, decided; perhaps not yet committed.
        settled: How far it is committed.
        appended: The number of the newest event that was given to the journal.
        audience: Who watches it.
        tracer: What makes its spans; `None`: nobody traces.
        attempts: What it has asked admission for, and what of that runs.
        told: How many of its attempts its watchers were told of that they wait for admission.
        paused: It was found under way, and is left alone.
        failing: It is under way to its end alone: it met a defect before.
        broken: Why it cannot go on, by a defect of the server; `None` if it can.

    Args:
        header: What it was given.
        state: Where it stands: before its first event, or folded from those that are committed.
        services: What it needs of its engine.
        tracer: What makes its spans.
        audience: Who watches it already.
        failing: Whether it met a defect before.
    """

    def __init__(
        self,
        header: Header,
        state: RunState,
        services: Services,
        tracer: RunTracer | None,
        audience: Subscribers | None = None,
        *,
        failing: bool = False,
    ) -> None:
        self.key = header.key
        self.header = header
        self.state = state
        self.tracer = tracer
        self.failing = failing
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._encoder = Encoder(header.key.run_id, state.workflow.name, header.create_time)
        self._inbox: list[Input] = []
        self._decision = Decision()
        self._timers = Timers(self._loop, lambda timer: self.tell(TimerFired(timer)))
        self.audience = audience or Subscribers(header.key.run_id, services.clock)
        self.attempts = Attempts(
            self,
            state,
            self.audience,
            actions=services.actions,
            entrance=services.entrance,
            evaluator=services.evaluator,
        )
        self.settled = CommitWatermark(state.sequence)
        self.appended = state.sequence
        self.told = 0
        self.paused = self._frozen = False
        self.broken: RunBroken | None = None

    # What others ask of it.

    def tell(self, given: Input) -> None:
        """Note what happened; the core decides on it in the run's next turn."""
        if self._frozen:
            return
        self._inbox.append(given)
        if len(self._inbox) == 1:
            self._services.turn(self)

    def resume(self) -> None:
        """Go on after a recovery: do again what is outstanding, and tell which attempts were lost with the server.

        A timer that has run out meanwhile fires first: nothing starts that it would have stopped.
        """
        self._contain(self._resume)

    def _resume(self) -> None:
        lost = list(self.state.running.values())
        now = self._services.clock()
        for command in resume(self.state, self._services.evaluator):
            if isinstance(command, Invoke):
                self.attempts.request(command)
            elif isinstance(command, StartTimer) and command.due <= now and command.timer.kind != "attempt":
                self.tell(TimerFired(command.timer))
            else:
                self._obey(command)
        for step in lost:
            self.tell(AttemptLost(step.spec.id, step.attempt))

    def freeze(self) -> None:
        """Take note of nothing more: what still happens to its attempts, as their engine ends, is not the run's."""
        self._frozen = True

    @property
    def stalled(self) -> bool:
        """Whether it can get no further here."""
        return self.paused or (
            self.broken is None and bool(self.attempts.missing) and not self.attempts and not self.state.backing
        )

    @property
    def committed(self) -> int:
        """The number of the newest event that is committed."""
        return self.settled.committed

    @property
    def kept(self) -> bool:
        """Whether the journal has events of it, or soon will."""
        return self.appended > 0 or self.committed > 0

    def committing(self) -> bool:
        """Say whether there are events that are decided and not yet committed."""
        return self.broken is None and self.state.sequence > self.settled.committed

    def info(self) -> RunInfo:
        """Return how it stands, decided; perhaps not yet committed."""
        info = info_of(self.key, self.header.create_time, self.state)
        paused = self.paused and self.state.stopping is None
        return replace(info, rerun_of=self.header.rerun_of, paused=paused, missing=self.attempts.missing[:MOST_MISSING])

    def obstacle(self, step_id: str) -> Obstacle | None:
        """Say what a step waits for at admission, if it does."""
        attempt = self.attempts.get(step_id)
        return None if attempt is None else self._services.entrance.obstacle(attempt)

    # What its attempts and admission tell it.

    def attempt_ended(self, attempt: Attempt, outcome: Input) -> None:
        """Take what an attempt came to."""
        self._contain(self._attempt_ended, attempt, outcome)

    def _attempt_ended(self, attempt: Attempt, outcome: Input) -> None:
        self._services.entrance.release(attempt, outcome)  # first: whatever else happens, its places are free
        self._services.deadlines.end(attempt, attempt.timeout)
        self.attempts.end(attempt)
        if isinstance(outcome, AttemptInterrupted) and outcome.abandoned and attempt.task is not None:
            self._services.abandoned(attempt.task)
        self.tell(outcome)

    def expired(self, attempt: Attempt) -> None:
        """Take that an attempt has taken longer than it may."""
        self.tell(TimerFired(Timer("attempt", attempt.step_id, attempt.number)))

    def show_waiting(self, attempt: Attempt, obstacle: Obstacle) -> None:
        """Show the watchers what an attempt waits for."""
        self.told += not attempt.told
        attempt.told = True
        self.audience.show_waiting(attempt.step_id, self.state.sequence, obstacle)

    def show_chunk(self, attempt: Attempt, chunk: Payload) -> None:
        """Show the watchers a chunk."""
        if self.broken is None:
            self.audience.show_chunk(attempt, self.committed, chunk)

    def show_progress(self, attempt: Attempt, fraction: float | None, message: str) -> None:
        """Show the watchers how far an attempt got."""
        if self.broken is None:
            self.audience.show_progress(attempt, self.committed, fraction, message)

    # How it goes on.

    def decide(self) -> None:
        """Let the core decide on what happened since the last time, and ask admission for what it wants to invoke."""
        inbox, self._inbox = self._inbox, []
        if self.broken is None:
            self._contain(self._decide, inbox)

    def commit(self) -> None:
        """Commit in one piece what has been decided, and carry it out when that is done."""
        decision, self._decision = self._decision, Decision()
        if self.broken is None:
            self._contain(self._commit, decision)

    def _commit(self, decision: Decision) -> None:
        if decision.events:
            first = self.state.sequence - len(decision.events) + 1
            encode = self._encoder.encode
            records = [encode(sequence, event) for sequence, event in enumerate(decision.events, start=first)]
            ended = self._ended(decision.events[-1])
            self._services.journal.append(self.key, records, partial(self._committed, decision), ended)
            self.appended = first + len(records) - 1
        elif decision.commands:
            self._carry_out(decision)

    def _ended(self, last: Event) -> Ended | None:
        if not isinstance(last, RunFinished):
            return None
        steps = self.state.steps
        finishes = array("I", (step.finish for step in self.state.by_index))
        return Ended(self.info(), finishes, array("I", (steps[step_id].finish for step_id, _ in last.outputs)))

    def _committed(self, decision: Decision) -> None:
        """Carry out what is committed now; perhaps called by the journal, whom a defect here is no business of."""
        self._contain(self._carry_out, decision)

    def _decide(self, inbox: list[Input]) -> None:
        decision = self._decision
        now = self._services.clock()
        evaluator = self._services.evaluator
        stale = self.attempts.stale
        for given in inbox:
            if stale and isinstance(given, AttemptStarted) and given.step_id in stale:
                stale.remove(given.step_id)
                continue
            events, commands = len(decision.events), len(decision.commands)
            decide(self.state, given, now, evaluator, decision)
            if len(decision.events) == events and isinstance(given, AttemptStarted):
                self.attempts.came_late(given)
            for command in decision.commands[commands:]:
                if isinstance(command, Invoke):
                    self.attempts.request(command)
            if stale and isinstance(given, AttemptStarted):  # it is this one that was told too late
                stale.discard(given.step_id)
        evaluator.forget()

    def _carry_out(self, decision: Decision) -> None:
        """Do what a decision causes, now that it is committed; if the run broke meanwhile, no more than show it."""
        self.settled.advance(len(decision.events))
        if self.tracer is not None:
            self.tracer.add(decision.events)
        if not self._frozen and self.broken is None:
            self._act(decision)
        self.audience.wake()

    def _act(self, decision: Decision) -> None:
        for event in decision.events:
            if isinstance(event, StepStarted):
                self._launch(event)
            elif self._timers and (
                isinstance(event, StepFinished) or (isinstance(event, StepRetrying) and event.fallback)
            ):
                self._timers.forget(event.step_id)
        for command in decision.commands:
            if not isinstance(command, Invoke):
                self._obey(command)

    def _launch(self, event: StepStarted) -> None:
        attempt = self.attempts.begin(event.step_id)
        attempt.start(self._loop, event, self._services.options, self._variables(event))
        self._services.deadlines.begin(attempt, attempt.timeout)

    def _variables(self, event: StepStarted) -> contextvars.Context | None:
        """Return the context in which what the action does is under its attempt's span; `None`: nobody traces."""
        if self.tracer is None:
            return None
        variables = contextvars.copy_context()
        variables.run(otel_context.attach, self.tracer.attempt_context(event.step_id, event.wave, event.attempt))
        return variables

    def _obey(self, command: Command) -> None:
        match command:
            case StartTimer():
                self._start_timer(command)
            case Interrupt():
                self._interrupt(command)
            case Finish():
                self._finish()

    def _start_timer(self, command: StartTimer) -> None:
        timer = command.timer
        if timer.kind == "attempt" or (
            timer.step_id and self.state.steps[timer.step_id].ended
        ):  # began with its attempt
            return
        self._timers.start(timer, max(0, command.due - self._services.clock()) / 1e9)

    def _interrupt(self, command: Interrupt) -> None:
        attempt = self.attempts.get(command.step_id)
        if attempt is None or attempt.number != command.attempt:
            self._interrupt_absent(command)
        elif attempt.task is not None:
            attempt.interrupt(command.failure, self._services.options.cancel_grace)
        else:
            self.attempts.withdraw(command.step_id)

    def _interrupt_absent(self, command: Interrupt) -> None:
        """End an attempt that an earlier server ran, or that waits for a server with its action; or none at all."""
        self.attempts.found_action(command.step_id)
        if attempt_of(self.state, command.step_id, command.attempt) is not None:
            self.tell(AttemptInterrupted(command.step_id, command.attempt, command.failure))

    def _finish(self) -> None:
        self._timers.close()
        self._services.finished(self)

    def _contain(self, work: Callable[..., None], *given: object) -> None:
        """Do something; a defect in it ends this run, the others go on."""
        try:
            work(*given)
        except Exception:
            self.give_up()

    def give_up(self) -> None:
        """Break, by the defect that was just caught."""
        if self.broken is None:
            self.broken = RunBroken(self.key)
            self._services.broke(self)
        else:
            logger.exception("another defect in a run that broke", extra={"run_id": self.key.run_id})

    def stop(self) -> None:
        """Let nothing more happen by itself, and interrupt what runs."""
        self._timers.close()
        self.audience.forget_all()
        failure = Failure(Reason.INTERNAL, str(self.broken))
        for attempt in self.attempts.all():
            self._interrupt(Interrupt(attempt.step_id, attempt.number, failure))
