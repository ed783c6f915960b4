"""One run of the asyncio engine: it feeds the core, commits what the core decides, then carries it out."""

import asyncio
import contextvars
import logging
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from opentelemetry import context as otel_context

from stepwave_server.actions import Registry
from stepwave_server.core.decide import Decision, attempt_of, decide, resume
from stepwave_server.core.info import RunInfo, info_of
from stepwave_server.core.messages import (
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptTimedOut,
    Command,
    Event,
    Finish,
    Input,
    Interrupt,
    RunFinished,
    StartTimer,
    StepFinished,
    StepRetrying,
    StepStarted,
    StopRequested,
    TimerFired,
)
from stepwave_server.core.model import Failure, Payload, Reason
from stepwave_server.core.state import RunState
from stepwave_server.engine.admission.base import Obstacle, Permit
from stepwave_server.engine.admission.controller import AdmissionController
from stepwave_server.engine.attempts.attempt import Attempt, AttemptState
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
"""Missing actions that a run's information names at most."""

MOST_WAITING = 100
MOST_WAITING_LIMITED = 1_000
"""Waiting steps that watchers are shown at most: on a server without limits, where they wait for a place, and with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a run needs of its engine.

    Attributes:
        clock: Nanoseconds since the epoch.
        journal: Keeps events.
        actions: The actions of the server.
        evaluator: Puts inputs together.
        options: Options of the engine.
        turn: Schedules a turn of the run: it decides on all inputs that have come until then.
        admission: Admits attempts, and takes their permits back.
        deadlines: Reports attempts whose deadline has passed.
        abandoned: Takes the task of an interrupted attempt that did not end within its grace.
        finished: Takes a run that has ended: the journal keeps it.
        broke: Takes a run that met a defect: it neither decides nor acts any more, and is to be ended.
    """

    clock: Callable[[], int]
    journal: Journal
    actions: Registry
    evaluator: JsonEvaluator
    options: EngineOptions
    turn: Callable[["LocalRun"], None]
    admission: AdmissionController[Attempt]
    deadlines: Deadlines[Attempt]
    abandoned: Callable[[asyncio.Task[None]], None]
    finished: Callable[["LocalRun"], None]
    broke: Callable[["LocalRun"], None]


class LocalRun:
    """A run under way.

    Events are appended to the journal as the core decides them. Only when they are committed do attempts start, timers
    run, and watchers see them (promise 1). A request for a place needs no commit: the start of the attempt will be an
    event of its own.

    Attributes:
        key: Its id.
        header: What it was given.
        state: Its state, decided; perhaps not yet committed.
        watermark: How far it is committed.
        appended: The number of the newest event that the journal was given.
        subscribers: Its watchers.
        tracer: Makes its spans; `None`: nobody traces.
        attempts: What it has requested of admission, and what of it runs.
        paused: It was found under way at the start of the server, and is left alone.
        failing: It met a defect before, and is only brought to its end.
        broken: Why it cannot go on: a defect of the server; `None`: it can.

    Args:
        header: What it was given.
        state: Its state: before its first event, or folded from the committed ones.
        services: What it needs of its engine.
        tracer: Makes its spans.
        subscribers: Watchers that it has already.
        failing: It met a defect before.
    """

    def __init__(
        self,
        header: Header,
        state: RunState,
        services: Services,
        tracer: RunTracer | None,
        subscribers: Subscribers | None = None,
        *,
        failing: bool = False,
    ) -> None:
        self.key = header.key
        self.header = header
        self.state = state
        self.tracer = tracer
        self.failing = failing
        self._services = services
        self._encoder = Encoder(header.key.run_id, state.workflow.name, header.create_time)
        self._inbox: list[Input | Attempt] = []
        self._decision = Decision()
        self._timers = Timers(asyncio.get_running_loop(), lambda timer: self.tell(TimerFired(timer)))
        self.subscribers = subscribers or Subscribers(header.key.run_id, services.clock)
        self.attempts = Attempts(
            self,
            state,
            self.subscribers,
            clock=services.clock,
            actions=services.actions,
            admission=services.admission,
            evaluator=services.evaluator,
        )
        self.watermark = CommitWatermark(state.sequence)
        self.appended = state.sequence
        self.paused = self._frozen = False
        self.broken: RunBroken | None = None

    # Inputs, and queries on it.

    def tell(self, given: Input) -> None:
        """Take an input. The core decides on it in the run's next turn."""
        self._put(given)

    def _put(self, given: Input | Attempt) -> None:
        if self._frozen:
            return
        self._inbox.append(given)
        if len(self._inbox) == 1:
            self._services.turn(self)

    def resume(self) -> None:
        """Go on after a recovery: do again what is outstanding, and report the attempts that the server lost.

        A timer that is due already fires first, so nothing starts that it would have stopped.
        """
        self._contain(self._resume)

    def _resume(self) -> None:
        lost = list(self.state.running.values())
        now = self._services.clock()
        outstanding = resume(self.state, self._services.evaluator)
        for command in outstanding.commands:
            if isinstance(command, StartTimer) and command.due <= now:
                self.tell(TimerFired(command.timer))
            else:
                self._obey(command)
        for invoke in outstanding.requests:
            self.attempts.request(invoke)
        for step in lost:
            self.tell(AttemptLost(step.spec.id, step.attempt))

    def stop_lost(self, failure: Failure) -> None:
        """Fail a run whose attempts were all lost, with their server or by a defect."""
        lost = list(self.state.running.values())
        self.tell(StopRequested(failure))
        for step in lost:
            self.tell(AttemptLost(step.spec.id, step.attempt))

    def freeze(self) -> None:
        """Ignore every input from now on. The engine closes, and how its attempts end is no matter of the run."""
        self._frozen = True

    @property
    def stalled(self) -> bool:
        """Whether it can get no further on this server."""
        return self.paused or (
            self.broken is None and bool(self.attempts.missing) and not self.attempts and not self.state.backing_off
        )

    @property
    def committed(self) -> int:
        """The number of the newest event that is committed."""
        return self.watermark.committed

    @property
    def kept(self) -> bool:
        """Whether the journal has events of it, or soon will."""
        return self.appended > 0 or self.committed > 0

    def committing(self) -> bool:
        """Say whether there are events that are decided and not yet committed."""
        return self.broken is None and self.state.sequence > self.watermark.committed

    def info(self) -> RunInfo:
        """Return its information, decided; perhaps not yet committed."""
        info = info_of(self.key, self.header.create_time, self.state)
        paused = self.paused and self.state.stopping is None
        return replace(info, rerun_of=self.header.rerun_of, paused=paused, missing=self.attempts.missing[:MOST_MISSING])

    def obstacle(self, step_id: str) -> Obstacle | None:
        """Return what a step waits for at admission; `None`: it does not wait there."""
        attempt = self.attempts.get(step_id)
        return None if attempt is None else self._services.admission.obstacle(attempt)

    # Reports of its attempts.

    def attempt_admitted(self, attempt: Attempt) -> None:
        """Note that an attempt has a permit. The next turn decides whether it still starts."""
        self._put(attempt)

    def attempt_timed_out(self, attempt: Attempt) -> None:
        """Note that the deadline of a running attempt has passed."""
        self.tell(AttemptTimedOut(attempt.step_id, attempt.number))

    def attempt_ended(self, attempt: Attempt, permit: Permit, outcome: Input) -> None:
        """Take the outcome of an attempt, and its permit."""
        self._contain(self._attempt_ended, attempt, permit, outcome)

    def _attempt_ended(self, attempt: Attempt, permit: Permit, outcome: Input) -> None:
        self._services.admission.release(permit, outcome)  # first: its places are free whatever else happens
        self._services.deadlines.end(attempt, attempt.timeout)
        self.attempts.end(attempt)
        if isinstance(outcome, AttemptInterrupted) and outcome.abandoned and attempt.task is not None:
            self._services.abandoned(attempt.task)
        self.tell(outcome)

    def report_waiting(self, attempt: Attempt) -> None:
        """Show watchers what an attempt waits for, unless they were shown very many."""
        most = MOST_WAITING_LIMITED if self._services.admission.limited else MOST_WAITING
        if self.subscribers.waiting_count < most:
            self._show_waiting(attempt)

    def report_still_waiting(self, attempt: Attempt) -> None:
        """Show watchers again what an attempt waits for, if they were shown it before."""
        if self.subscribers.knows_waiting(attempt.step_id):
            self._show_waiting(attempt)

    def _show_waiting(self, attempt: Attempt) -> None:
        obstacle = self._services.admission.obstacle(attempt)
        if obstacle is not None:
            self.subscribers.show_waiting(attempt.step_id, self.state.sequence, obstacle)

    def show_chunk(self, attempt: Attempt, index: int, chunk: Payload) -> None:
        """Show watchers a chunk."""
        if self.broken is None:
            self.subscribers.show_chunk(attempt.step_id, attempt.number, self.committed, index, chunk)

    def show_progress(self, attempt: Attempt, fraction: float | None, message: str) -> None:
        """Show watchers how far an attempt got."""
        if self.broken is None:
            self.subscribers.show_progress(attempt.step_id, attempt.number, self.committed, fraction, message)

    # Turns: decide, commit, carry out.

    def decide(self) -> None:
        """Let the core decide on the inputs since the last turn, and request places for the attempts that are ready."""
        inbox, self._inbox = self._inbox, []
        if self.broken is None:
            self._contain(self._decide, inbox)

    def commit(self) -> None:
        """Commit what has been decided as one piece. It is carried out when it is committed."""
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
        """Carry out what is committed now. The journal calls this, and a defect here must not reach it."""
        self._contain(self._carry_out, decision)

    def _decide(self, inbox: list[Input | Attempt]) -> None:
        now = self._services.clock()
        evaluator = self._services.evaluator
        for given in inbox:
            if isinstance(given, Attempt):
                self._decide_start(given, now)
            else:
                decide(self.state, given, now, evaluator, self._decision)
            self._request_places()
        evaluator.forget()

    def _decide_start(self, attempt: Attempt, now: int) -> None:
        """Decide whether an admitted attempt starts. One that comes too late drops its permit."""
        if attempt.state is not AttemptState.ADMITTED:  # it was withdrawn meanwhile, and its permit released
            return
        known = len(self._decision.events)
        started = AttemptStarted(attempt.step_id, attempt.number)
        decide(self.state, started, now, self._services.evaluator, self._decision)
        if len(self._decision.events) == known:
            self.attempts.withdraw(attempt)

    def _request_places(self) -> None:
        requests = self._decision.requests
        if requests:
            for invoke in requests:
                self.attempts.request(invoke)
            requests.clear()

    def _carry_out(self, decision: Decision) -> None:
        """Do what a decision causes, now that it is committed. If the run broke meanwhile, only show it."""
        self.watermark.advance(len(decision.events))
        if self.tracer is not None:
            self.tracer.add(decision.events)
        if not self._frozen and self.broken is None:
            self._act(decision)
        self.subscribers.wake()

    def _act(self, decision: Decision) -> None:
        for event in decision.events:
            if isinstance(event, StepStarted):
                attempt = self.attempts.start(event, self._services.options, self._variables(event))
                self._services.deadlines.begin(attempt, attempt.timeout)
            elif self._timers and (
                isinstance(event, StepFinished) or (isinstance(event, StepRetrying) and event.fallback)
            ):
                self._timers.forget(event.step_id)
        for command in decision.commands:
            self._obey(command)

    def _variables(self, event: StepStarted) -> contextvars.Context | None:
        """Return the context variables that put an action under its attempt's span; `None`: nobody traces."""
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
        if timer.step_id and self.state.steps[timer.step_id].ended:
            return
        self._timers.start(timer, max(0, command.due - self._services.clock()) / 1e9)

    def _interrupt(self, command: Interrupt) -> None:
        attempt = self.attempts.get(command.step_id)
        if attempt is None or attempt.number != command.attempt:
            self._interrupt_absent(command)
        elif attempt.state is AttemptState.RUNNING:
            attempt.interrupt(command.failure, self._services.options.cancel_grace)
        else:
            self.attempts.withdraw(attempt)

    def _interrupt_absent(self, command: Interrupt) -> None:
        """End an attempt of an earlier server, or one whose action is missing. Or there is no such attempt."""
        self.attempts.found_action(command.step_id)
        if attempt_of(self.state, command.step_id, command.attempt) is not None:
            self.tell(AttemptInterrupted(command.step_id, command.attempt, command.failure))

    def _finish(self) -> None:
        self._timers.close()
        self._services.finished(self)

    def _contain(self, work: Callable[..., None], *given: object) -> None:
        """Do some work. A defect in it ends this run; the others go on."""
        try:
            work(*given)
        except Exception:
            self.give_up()

    def give_up(self) -> None:
        """Break the run, by the defect that was just caught."""
        if self.broken is None:
            self.broken = RunBroken(self.key)
            self._services.broke(self)
        else:
            logger.exception("another defect in a run that broke", extra={"run_id": self.key.run_id})

    def stop(self) -> None:
        """Stop the timers, and interrupt what runs."""
        self._timers.close()
        self.subscribers.forget_all()
        failure = Failure(Reason.INTERNAL, str(self.broken))
        for attempt in self.attempts.all():
            self._interrupt(Interrupt(attempt.step_id, attempt.number, failure))
