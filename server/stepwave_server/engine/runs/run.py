"""One run of the asyncio engine. It feeds the core, commits the core's decisions, and carries them out."""

import asyncio
import contextvars
import logging
from array import array
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from stepwave_server.actions import Registry
from stepwave_server.actions.code_location import current_line
from stepwave_server.core.decide import Decision, attempt_of, decide
from stepwave_server.core.explanation import AttemptExplanation, Waiting
from stepwave_server.core.info import RunInfo, RunKey, info_of
from stepwave_server.core.inputs import input_of
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
from stepwave_server.core.model import WAIT_ACTION, Failure, Payload, Reason
from stepwave_server.core.resume import resume
from stepwave_server.core.state import RunState, StepState
from stepwave_server.engine.admission.base import EXTERNAL, Obstacle, Permit, server_full
from stepwave_server.engine.admission.controller import AdmissionController
from stepwave_server.engine.attempts.attempt import Attempt, AttemptState
from stepwave_server.engine.attempts.deadlines import Deadlines
from stepwave_server.engine.attempts.nested import NestedWorkflows
from stepwave_server.engine.attempts.table import Attempts
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.errors import RunBroken
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.engine.runs.commit_watermark import CommitWatermark
from stepwave_server.engine.runs.timers import Timers
from stepwave_server.engine.runs.waits import BEING_INTERRUPTED, MAX_MISSING, grouped, waits_of
from stepwave_server.engine.runs.watcher_reports import WatcherReports
from stepwave_server.engine.streams.logs import LogStore, RunLog
from stepwave_server.engine.streams.subscribers import Subscribers
from stepwave_server.journal import Ended, Header, Journal
from stepwave_server.telemetry import RunTelemetry
from stepwave_server.wire.events.encode import Encoder

__all__ = ["LocalRun", "Services"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of the engine that its runs share, and its callbacks.

    Attributes:
        clock: Returns the time in nanoseconds since the epoch.
        journal: The journal.
        actions: The actions of the server.
        evaluator: The evaluator of inputs.
        options: Options of the engine.
        admission: Admits attempts, and takes their permits back.
        deadlines: The timeouts of running attempts.
        logs: What actions log.
        nested: The workflows that attempts may choose.
        add_steps: Adds steps that an action gives to a run, and seals it if the last argument is true.
        request_turn: Called by a run that has inputs to decide on.
        on_abandoned: Called with the task of an interrupted attempt that did not end within its grace.
        on_finished: Called with a run that has ended.
        on_broken: Called with a run that is broken by a defect. It must be ended.
    """

    clock: Callable[[], int]
    journal: Journal
    actions: Registry
    evaluator: JsonEvaluator
    options: EngineOptions
    admission: AdmissionController[Attempt]
    deadlines: Deadlines[Attempt]
    logs: LogStore
    nested: NestedWorkflows
    add_steps: Callable[[RunKey, object, bool], Coroutine[Any, Any, None]]
    request_turn: Callable[["LocalRun"], None]
    on_abandoned: Callable[[asyncio.Task[None]], None]
    on_finished: Callable[["LocalRun"], None]
    on_broken: Callable[["LocalRun"], None]


class LocalRun:
    """A run under way.

    Events are appended to the journal as the core decides them. Effects wait for the commit: attempts start, timers run
    and watchers see the events only then. A request for a place needs no commit, because the start of the attempt will
    be an event of its own.

    Attributes:
        key: Its key.
        header: Its definition.
        state: Its state. The newest events may not be committed yet.
        watermark: Its commit watermark.
        appended: The sequence number of the newest event appended to the journal.
        subscribers: Its subscribers.
        log: What its attempts log.
        reports: The reports of its attempts to watchers.
        telemetry: Observes its committed events.
        attempts: Its attempts that wait for admission or run.
        paused: Whether the server recovered it without continuing it.
        failing: Whether a defect broke it before, so that it is only ended.
        broken: The defect of the server that broke it; `None`: it is not broken.

    Args:
        services: The shared parts of the engine.
        replaced: The broken run that it replaces, whose subscribers and log it takes over; `None`: it replaces none.
    """

    def __init__(
        self,
        header: Header,
        state: RunState,
        services: Services,
        telemetry: RunTelemetry,
        replaced: "LocalRun | None" = None,
        *,
        failing: bool = False,
    ) -> None:
        self.key = header.key
        self.header = header
        self.state = state
        self.telemetry = telemetry
        self.failing = failing
        self._services = services
        self._encoder = Encoder(header.key.run_id, state.workflow.name, header.create_time)
        self._inbox: list[Input | Attempt] = []
        self._decision = Decision()
        self._timers = Timers(asyncio.get_running_loop(), lambda timer: self.feed(TimerFired(timer)))
        self.watermark = CommitWatermark(state.sequence)
        self.subscribers: Subscribers
        self.log: RunLog
        if replaced is None:
            self.subscribers = Subscribers(header.key.run_id, services.clock)
            self.log = services.logs.open(header.key)
        else:
            self.subscribers, self.log = replaced.subscribers, replaced.log
        self.reports = WatcherReports(self.subscribers, services.admission, state, self.watermark)
        self.attempts = Attempts(
            self,
            state,
            self.subscribers,
            clock=services.clock,
            actions=services.actions,
            admission=services.admission,
            evaluator=services.evaluator,
        )
        self.appended = state.sequence
        self.paused = self._frozen = False
        self.broken: RunBroken | None = None

    # Inputs.

    def feed(self, given: Input | Attempt) -> None:
        """Add an input, or an admitted attempt. The core decides on it in the run's next turn."""
        if self._frozen:
            return
        self._inbox.append(given)
        if len(self._inbox) == 1:
            self._services.request_turn(self)

    def resume(self) -> None:
        """Continue after a recovery: carry out the outstanding commands, and report the lost attempts.

        Timers that are already due fire first, so that no attempt starts that they would have stopped.
        """
        self._contain(self._resume)

    def _resume(self) -> None:
        lost = [step for step in self.state.running.values() if not step.waits]
        now = self._services.clock()
        outstanding = resume(self.state, self._services.evaluator)
        for command in outstanding.commands:
            if isinstance(command, StartTimer) and command.due <= now:
                self.feed(TimerFired(command.timer))
            else:
                self._execute(command)
        for invoke in outstanding.requests:
            self.attempts.request(invoke)
        drained = self._services.journal.clean
        for step in lost:
            self.feed(AttemptLost(step.id, step.attempt, drained))
        for step in self.state.running.values():
            if step.waits:
                self._show_external(step)

    def fail(self, failure: Failure) -> None:
        """End the run with a failure. Its running attempts are lost, by a restart or by a defect."""
        lost = list(self.state.running.values())
        self.feed(StopRequested(failure))
        for step in lost:
            self.feed(AttemptLost(step.id, step.attempt))

    def freeze(self) -> None:
        """Ignore all inputs from now on. The engine closes, and the ends of attempts must not become events."""
        self._frozen = True

    # Queries.

    @property
    def nested(self) -> NestedWorkflows:
        """The workflows that its attempts may choose."""
        return self._services.nested

    @property
    def stalled(self) -> bool:
        """Whether it makes no progress on this server, and the next server can continue it as well.

        It is paused, its actions are missing, or its journal is durable and it waits for someone: to complete a step,
        or to add steps.
        """
        if self.paused:
            return True
        if self.broken is not None or self.attempts or self.state.backing_off:
            return False
        waits = self.state.idle or any(step.waits for step in self.state.running.values())
        return (waits and self._services.journal.durable) or bool(self.attempts.missing)

    @property
    def committed(self) -> int:
        """The sequence number of the newest committed event."""
        return self.watermark.committed

    @property
    def kept(self) -> bool:
        """Whether events of it were appended to the journal."""
        return self.appended > 0 or self.committed > 0

    def committing(self) -> bool:
        """Return whether it has events that are not committed yet."""
        return self.broken is None and self.state.sequence > self.watermark.committed

    def info(self) -> RunInfo:
        """Return its information. The newest events may not be committed yet."""
        header = self.header
        return info_of(
            self.key,
            header.create_time,
            self.state,
            rerun_of=header.rerun_of,
            paused=self.paused and self.state.stopping is None,
            missing=self.attempts.missing[:MAX_MISSING],
            workflow_digest=header.workflow_digest,
            created_by=header.created_by,
        )

    def obstacle(self, step_id: str) -> Obstacle | None:
        """Return what a ready step waits for: admission, its missing action, or the bound of the server."""
        attempt = self.attempts.get(step_id)
        if attempt is not None and (obstacle := self._services.admission.obstacle(attempt)) is not None:
            return obstacle
        if (missing := self.attempts.missing_of(step_id)) is not None:
            return missing.obstacle
        if self.paused or step_id in self.state.queued:
            return None
        return server_full(self._services.options.max_attempts_in_flight)

    def waiting_since(self, step_id: str) -> int | None:
        """Return when a step began to wait for its missing action; `None`: it does not."""
        missing = self.attempts.missing_of(step_id)
        return None if missing is None else missing.since

    def explain_attempt(self, step_id: str) -> AttemptExplanation | None:
        """Explain the attempt of a step; `None`: its start is not committed, or an earlier server ran it."""
        attempt = self.attempts.get(step_id)
        if attempt is None or attempt.task is None:
            return None
        message = BEING_INTERRUPTED if attempt.interrupted else ""
        where = current_line(attempt.task) if self._services.options.tracebacks else None
        return AttemptExplanation(since=attempt.since, message=message, where=where)

    def input_of(self, step: StepState) -> Payload:
        """Return the input of a step's next attempt, or of the one that waits to be completed.

        Raises:
            EvaluationFailed: It has no input.
        """
        return input_of(self.state, step, self._services.evaluator)

    def waiting(self) -> list[Waiting]:
        """Return the steps that wait for a place of the run itself, or to be completed, grouped by that."""
        return [] if self.paused else grouped(waits_of(self.state))

    # Reports of its attempts.

    def add_steps(self, steps: object, *, seal: bool) -> Coroutine[Any, Any, None]:
        """Add steps that the action of an attempt gives."""
        return self._services.add_steps(self.key, steps, seal)

    def attempt_admitted(self, attempt: Attempt) -> None:
        """Take the report that an attempt has a permit. The next turn decides whether it still starts."""
        self.feed(attempt)

    def attempt_timed_out(self, attempt: Attempt) -> None:
        """Take the report that the deadline of a running attempt has passed."""
        self.feed(AttemptTimedOut(attempt.step_id, attempt.number))

    def attempt_ended(self, attempt: Attempt, permit: Permit, outcome: Input) -> None:
        """Take the outcome of an attempt, and its permit."""
        self._contain(self._attempt_ended, attempt, permit, outcome)

    def _attempt_ended(self, attempt: Attempt, permit: Permit, outcome: Input) -> None:
        self._services.admission.release(permit, outcome)  # first, so that a defect below keeps no place
        self._services.deadlines.end(attempt, attempt.timeout)
        self.attempts.end(attempt)
        if isinstance(outcome, AttemptInterrupted) and outcome.abandoned and attempt.task is not None:
            self._services.on_abandoned(attempt.task)
        self.feed(outcome)

    # Turns: decide, commit, carry out.

    def decide(self) -> None:
        """Let the core decide on the inputs since the last turn, and request places for ready attempts."""
        inbox, self._inbox = self._inbox, []
        if self.broken is None:
            self._contain(self._decide, inbox)

    def commit(self) -> None:
        """Append the decision of this turn to the journal. It is carried out when it is committed."""
        decision, self._decision = self._decision, Decision()
        if self.broken is None:
            self._contain(self._commit, decision)

    def _commit(self, decision: Decision) -> None:
        if decision.events:
            first = self.state.sequence - len(decision.events) + 1
            encode = self._encoder.encode
            records = [encode(sequence, event) for sequence, event in enumerate(decision.events, start=first)]
            ended = self._ended(decision.events[-1])
            committed = partial(self._contain, self._carry_out, decision)  # a defect in it must not reach the journal
            self._services.journal.append(self.key, records, committed, ended)
            self.appended = first + len(records) - 1
        elif decision.commands:
            self._carry_out(decision)

    def _ended(self, last: Event) -> Ended | None:
        """Return the journal's summary of the run; `None`: the run has not ended."""
        if not isinstance(last, RunFinished):
            return None
        steps = self.state.steps
        return Ended(
            info=self.info(),
            finishes=array("I", (step.finish for step in self.state.by_index)),
            outputs=array("I", (steps[step_id].finish for step_id, _ in last.outputs)),
        )

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
        """Decide whether an admitted attempt starts. If it comes too late, its permit is released."""
        if attempt.state is not AttemptState.ADMITTED:  # it was withdrawn, and its permit released
            return
        count = len(self._decision.events)
        started = AttemptStarted(attempt.step_id, attempt.number)
        decide(self.state, started, now, self._services.evaluator, self._decision)
        if len(self._decision.events) == count:
            self.attempts.withdraw(attempt)

    def _request_places(self) -> None:
        requests = self._decision.requests
        if requests:
            for invoke in requests:
                self.attempts.request(invoke)
            requests.clear()

    def _carry_out(self, decision: Decision) -> None:
        """Carry out a decision that is committed. If the run is broken meanwhile, only its events are shown."""
        self.watermark.advance(len(decision.events))
        self.telemetry.add(decision.events)
        if not self._frozen and self.broken is None:
            self._act(decision)
        if self.state.queued:  # it has more ready steps than places
            self.reports.waiting_for_run()
        self.subscribers.wake()

    def _act(self, decision: Decision) -> None:
        for event in decision.events:
            if isinstance(event, StepStarted) and event.action == WAIT_ACTION:
                self._show_external(self.state.steps[event.step_id])
            elif isinstance(event, StepStarted):
                attempt = self.attempts.start(event, self._services.options, self._variables(event))
                self._services.deadlines.begin(attempt, attempt.timeout)
            elif isinstance(event, StepFinished):
                self.subscribers.forget_waiting(event.step_id)
                if self._timers:
                    self._timers.cancel(event.step_id)
            elif self._timers and isinstance(event, StepRetrying) and event.fallback:
                self._timers.cancel(event.step_id)
        for command in decision.commands:
            self._execute(command)

    def _show_external(self, step: StepState) -> None:
        """Show that a step waits to be completed."""
        self.subscribers.show_waiting(step.id, self.state.sequence, EXTERNAL)

    def _variables(self, event: StepStarted) -> contextvars.Context | None:
        """Return context variables with the attempt's span as the current one; `None`: the run is not traced."""
        tracer = self.telemetry.tracer
        return None if tracer is None else tracer.attempt_variables(event.step_id, event.wave, event.attempt)

    def _execute(self, command: Command) -> None:
        match command:
            case StartTimer():
                self._start_timer(command)
            case Interrupt():
                self._interrupt(command)
            case Finish():
                self._timers.close()
                self._services.on_finished(self)

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
        """End an attempt of an earlier server, or one whose action is missing, if there is one."""
        self.attempts.found_action(command.step_id)
        if attempt_of(self.state, command.step_id, command.attempt) is not None:
            self.feed(AttemptInterrupted(command.step_id, command.attempt, command.failure))

    def _contain(self, work: Callable[..., None], *given: object) -> None:
        """Do some work. A defect in it breaks this run, and no other."""
        try:
            work(*given)
        except Exception:
            self.mark_broken()

    def mark_broken(self) -> None:
        """Mark the run as broken, by the exception that is being handled. It decides and acts no more."""
        if self.broken is None:
            self.broken = RunBroken(self.key)
            self.reports.close()
            self._services.on_broken(self)
        else:
            logger.exception("another defect in a broken run", extra={"run_id": self.key.run_id})

    def stop(self) -> None:
        """Stop the timers, and interrupt all attempts."""
        self._timers.close()
        self.subscribers.forget_all()
        failure = Failure(Reason.INTERNAL, str(self.broken))
        for attempt in self.attempts.all():
            self._interrupt(Interrupt(attempt.step_id, attempt.number, failure))
