"""One run in the asyncio engine: feeds the core, commits what it decides, then carries it out."""

import asyncio
import contextvars
import logging
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from opentelemetry import context as otel_context

from stepwave_server.actions import Registry
from stepwave_server.core.decide import Decision, decide, input_of
from stepwave_server.core.info import RunInfo, info_of
from stepwave_server.core.messages import (
    AttemptInterrupted,
    AttemptStarted,
    Command,
    Finish,
    Input,
    Interrupt,
    Invoke,
    StartTimer,
    StepStarted,
    Timer,
    TimerFired,
)
from stepwave_server.core.model import Failure, Payload, Reason
from stepwave_server.core.state import RunState
from stepwave_server.engine.attempt import Attempt
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.deadlines import Deadlines
from stepwave_server.engine.errors import EngineError, RunBroken
from stepwave_server.engine.evaluate import JsonEvaluator
from stepwave_server.engine.live import Live, Transient
from stepwave_server.engine.watch import Watcher
from stepwave_server.journal import Header, Journal, Kept
from stepwave_server.telemetry import RunTracer
from stepwave_server.wire.events import Encoder, Kind, encode_chunk, encode_progress

__all__ = ["LocalRun", "Services"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a run needs of its engine.

    Attributes:
        turn: Let the run work off its inputs soon, together with those that come until then.
        submit: Hand an attempt to admission.
        release: Give back the place of an attempt that has ended, or came too late.
        deadlines: Calls the attempt's run back when it has taken longer than it may.
        abandoned: An interrupted attempt has not ended within its grace; its task may go on.
        finished: The run is under way no more: the journal keeps it, or it broke.
    """

    clock: Callable[[], int]
    journal: Journal
    actions: Registry
    evaluator: JsonEvaluator
    options: EngineOptions
    turn: Callable[["LocalRun"], None]
    submit: Callable[[Attempt], None]
    release: Callable[[], None]
    deadlines: Deadlines[Attempt]
    abandoned: Callable[[asyncio.Task[None]], None]
    finished: Callable[["LocalRun"], None]


class LocalRun:
    """A run under way.

    The order that keeps promise 1: what the core decides is appended to the journal, and only when it is committed do
    attempts start, timers run, and watchers see it. Asking admission for a place is no effect: the attempt's start is
    an event of its own.

    Attributes:
        key: What names it.
        header: What it was given.
        state: Where it stands, decided; perhaps not yet committed.
        committed: The number of the newest event that is committed.
        broken: Why it cannot go on, by a defect of the server; `None` if it can.
    """

    def __init__(self, header: Header, state: RunState, services: Services, tracer: RunTracer | None) -> None:
        self.key = header.key
        self.header = header
        self.state = state
        self._services = services
        self._tracer = tracer
        self._loop = asyncio.get_running_loop()
        self._encoder = Encoder(header.key.run_id, state.workflow.name, header.create_time)
        self._inbox: list[Input] = []
        self._decision = Decision()
        self._attempts: dict[str, Attempt] = {}
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._watchers: set[Watcher] = set()
        self._live = Live()
        self.committed = 0
        self._settled: list[tuple[int, asyncio.Future[None]]] = []
        self.broken: RunBroken | None = None

    # What others ask of it.

    def tell(self, given: Input) -> None:
        """Note what happened; the core decides on it in the run's next turn."""
        self._inbox.append(given)
        if len(self._inbox) == 1:
            self._services.turn(self)

    def info(self) -> RunInfo:
        """Return how it stands, decided; perhaps not yet committed."""
        return info_of(self.key, self.header.create_time, self.state)

    async def settle(self, sequence: int) -> None:
        """Wait until the event of this number is committed.

        Raises:
            RunBroken: It never will be.
        """
        if self.broken is not None:
            raise self.broken
        if self.committed < sequence:
            waiter = self._loop.create_future()
            self._settled.append((sequence, waiter))
            await waiter

    def join(self, watcher: Watcher) -> None:
        """Wake a watcher whenever there is more."""
        self._watchers.add(watcher)
        if self.broken is not None:
            watcher.close(self.broken)

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        self._watchers.discard(watcher)

    def said_so_far(self) -> list[Transient]:
        """Return what running attempts said, for a watcher who joins."""
        return self._live.so_far()

    def close_watchers(self, error: EngineError | None = None) -> None:
        """End every stream."""
        for watcher in self._watchers:
            watcher.close(error)

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of its attempts."""
        return [attempt.task for attempt in self._attempts.values() if attempt.task is not None]

    # What its attempts and admission tell it.

    def attempt_ended(self, attempt: Attempt, outcome: Input) -> None:
        """Take what an attempt came to."""
        del self._attempts[attempt.step_id]
        if attempt.said:
            self._live.forget(attempt.step_id)
        if isinstance(outcome, AttemptInterrupted) and outcome.abandoned and attempt.task is not None:
            self._services.abandoned(attempt.task)
        self._services.deadlines.end(attempt, attempt.timeout)
        self._free(attempt)
        self.tell(outcome)

    def expired(self, attempt: Attempt) -> None:
        """Take that an attempt has taken longer than it may."""
        self.tell(TimerFired(Timer("attempt", attempt.step_id, attempt.number)))

    def show_chunk(self, attempt: Attempt, chunk: Payload) -> None:
        """Show the watchers a chunk."""
        run_id, now = self.key.run_id, self._services.clock()
        data = encode_chunk(run_id, now, attempt.step_id, attempt.number, attempt.chunks, chunk)
        attempt.chunks += 1
        self._show(attempt, Transient(self.committed, Kind.STEP_CHUNK, data))

    def show_progress(self, attempt: Attempt, fraction: float | None, message: str) -> None:
        """Show the watchers how far an attempt got."""
        run_id, now = self.key.run_id, self._services.clock()
        data = encode_progress(run_id, now, attempt.step_id, attempt.number, fraction, message)
        self._show(attempt, Transient(self.committed, Kind.STEP_PROGRESS, data))

    def _show(self, attempt: Attempt, transient: Transient) -> None:
        attempt.said = True
        self._live.add(attempt.step_id, transient)
        for watcher in self._watchers:
            watcher.show(transient)

    # How it goes on.

    def decide(self) -> None:
        """Let the core decide on what happened since the last time, and ask admission for what it wants to invoke."""
        inbox, self._inbox = self._inbox, []
        if self.broken is not None:
            return
        try:
            self._decide(inbox)
        except Exception:
            self._give_up()

    def commit(self) -> None:
        """Commit in one piece what has been decided, and carry it out when that is done."""
        decision, self._decision = self._decision, Decision()
        if self.broken is not None:
            return
        try:
            self._commit(decision)
        except Exception:
            self._give_up()

    def _commit(self, decision: Decision) -> None:
        if decision.events:
            first = self.state.sequence - len(decision.events) + 1
            encode = self._encoder.encode
            records = [encode(sequence, event) for sequence, event in enumerate(decision.events, start=first)]
            self._services.journal.append(self.key, records, partial(self._committed, decision))
        elif decision.commands:
            self._carry_out(decision)

    def _committed(self, decision: Decision) -> None:
        """Carry out what is committed now; perhaps called by the journal, whom a defect here is no business of."""
        if self.broken is not None:
            return
        try:
            self._carry_out(decision)
        except Exception:
            self._give_up()

    def _decide(self, inbox: list[Input]) -> None:
        decision = self._decision
        now = self._services.clock()
        evaluator = self._services.evaluator
        for given in inbox:
            events, commands = len(decision.events), len(decision.commands)
            decide(self.state, given, now, evaluator, decision)
            if len(decision.events) == events and isinstance(given, AttemptStarted):
                self._came_late(given)
            for command in decision.commands[commands:]:
                if isinstance(command, Invoke):
                    self._request(command)
        evaluator.forget()

    def _came_late(self, given: AttemptStarted) -> None:
        attempt = self._attempts.get(given.step_id)
        if attempt is not None and attempt.number == given.attempt:
            self._free(attempt)

    def _request(self, invoke: Invoke) -> None:
        """Ask admission for a place: no effect of the decision, for the attempt's start will be an event of its own."""
        action = self._services.actions.get(invoke.action)
        assert action is not None, f"action {invoke.action!r} was there when the run was accepted"
        attempt = self._attempts[invoke.step_id] = Attempt(self, invoke, action)
        self._services.submit(attempt)

    def _carry_out(self, decision: Decision) -> None:
        """Do what a decision causes, now that it is committed."""
        self.committed += len(decision.events)
        if self._tracer is not None:
            self._tracer.record(decision.events)
        for event in decision.events:
            if isinstance(event, StepStarted):
                self._launch(event)
        for command in decision.commands:
            if not isinstance(command, Invoke):
                self._obey(command)
        for watcher in self._watchers:
            watcher.wake()
        if self._settled:
            self._release_settled()

    def _launch(self, event: StepStarted) -> None:
        attempt = self._attempts[event.step_id]
        if attempt.input is None:
            attempt.input = input_of(self.state, self.state.steps[event.step_id], self._services.evaluator)
        attempt.start(self._loop, event, self._services.options, self._variables(event))
        self._services.deadlines.begin(attempt, attempt.timeout)

    def _variables(self, event: StepStarted) -> contextvars.Context | None:
        """Return the context in which what the action does is under its attempt's span; `None`: nobody traces."""
        if self._tracer is None:
            return None
        variables = contextvars.copy_context()
        variables.run(otel_context.attach, self._tracer.attempt_context(event.step_id, event.wave, event.attempt))
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
        if timer.kind == "attempt":  # began with its attempt
            return
        delay = max(0, command.due - self._services.clock()) / 1e9
        self._timers[timer] = self._loop.call_later(delay, self._fire, timer)

    def _fire(self, timer: Timer) -> None:
        self._timers.pop(timer, None)
        self.tell(TimerFired(timer))

    def _interrupt(self, command: Interrupt) -> None:
        attempt = self._attempts.get(command.step_id)
        if attempt is None or attempt.number != command.attempt:
            return
        if attempt.task is not None:
            attempt.interrupt(command.failure, self._services.options.cancel_grace)
        else:
            attempt.withdrawn = True
            self._free(attempt)
            del self._attempts[command.step_id]

    def _free(self, attempt: Attempt) -> None:
        """Give back an attempt's place among those in flight, if it has one."""
        if attempt.admitted:
            attempt.admitted = False
            self._services.release()

    def _finish(self) -> None:
        for handle in self._timers.values():
            handle.cancel()
        finishes = array("I", (step.finish for step in self.state.by_index))
        self._services.journal.finish(Kept(self.header, self.info(), finishes))
        self._services.finished(self)

    def _release_settled(self) -> None:
        ready = [waiter for target, waiter in self._settled if target <= self.committed]
        self._settled = [entry for entry in self._settled if entry[0] > self.committed]
        for waiter in ready:
            if not waiter.done():
                waiter.set_result(None)

    def _refuse_settled(self, error: RunBroken) -> None:
        waiting, self._settled = self._settled, []
        for _, waiter in waiting:
            if not waiter.done():
                waiter.set_exception(error)

    def _give_up(self) -> None:
        """Contain a defect: this run ends here, the others go on."""
        logger.exception("a defect of the server broke a run", extra={"run_id": self.key.run_id})
        self.broken = RunBroken(self.key)
        if self._tracer is not None:
            self._tracer.abandon(self._services.clock(), str(self.broken))
        self.close_watchers(self.broken)
        self._refuse_settled(self.broken)
        for handle in self._timers.values():
            handle.cancel()
        failure = Failure(Reason.INTERNAL, str(self.broken))
        for attempt in list(self._attempts.values()):
            self._interrupt(Interrupt(attempt.step_id, attempt.number, failure))
        self._services.finished(self)
