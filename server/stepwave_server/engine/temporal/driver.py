"""Drives the core of one run by the inputs of its Temporal workflow.

The workflow and every server that shows the run have a driver each. The same inputs at the same times give the same
events and effects in all of them. The driver is pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from stepwave_server.core.decide import Decision, Refused, attempt_of, decide
from stepwave_server.core.inputs import Evaluator, is_written, payload_of, secrets_of
from stepwave_server.core.messages import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptTimedOut,
    CancelRequested,
    Command,
    Event,
    Finish,
    Input,
    Interrupt,
    Invoke,
    StartTimer,
    StepFinished,
    StepRetrying,
    StepStarted,
    StopRequested,
    Timer,
    TimerFired,
)
from stepwave_server.core.model import (
    SECOND,
    WAIT_ACTION,
    Failure,
    FailureCause,
    Payload,
    Reason,
    payload_size,
)
from stepwave_server.core.state import RunState
from stepwave_server.engine.temporal.driver_messages import (
    AttemptStopped,
    CancelAttempt,
    CancelTimer,
    DriverInput,
    Effect,
    End,
    HistorySize,
    Request,
    SetTimer,
    StartAttempt,
    TimerDue,
)
from stepwave_server.engine.temporal.holds import HoldChange, Holds

__all__ = [
    "MAX_HISTORY_BYTES",
    "MAX_HISTORY_EVENTS",
    "MAX_IN_FLIGHT",
    "RunDriver",
]

MAX_IN_FLIGHT = 500
"""Attempts of one run in flight. Temporal allows 2,000 activities, and a workflow that exceeds that is stuck."""

MAX_TASK_BYTES = 1 << 20
"""Bytes of inputs of the attempts that start in one workflow task, unless one input has more.

Temporal stores them in one transaction with what came meanwhile, up to 3 MB, and bounds a transaction to 4 MB.
"""

MAX_HISTORY_EVENTS = 45_000
MAX_HISTORY_BYTES = 40 << 20
"""Size of a history at which the run is ended. Temporal allows 51,200 events and 50 MB: the rest is for its end."""

PAUSE = "pause"
"""The timer that only ends a workflow task, so that more attempts start in the next one."""

PAUSE_NANOS = 1_000_000


@dataclass(slots=True)
class RunDriver:
    """Feeds the core, and decides which attempts start.

    Attributes:
        state: The run.
        evaluator: Puts inputs together.
        holds: The servers that hold the run.
        events: The events since they were taken last.
        effects: What to do, since it was taken last.
        answers: Why requests were refused, by their token; `None`: the request was accepted.
        in_flight: The number of the attempt in flight, by step.
    """

    state: RunState
    evaluator: Evaluator
    holds: Holds = field(default_factory=lambda: Holds(None, ""))
    events: list[Event] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    answers: dict[str, Refused | None] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)
    _ready: dict[str, Invoke] = field(default_factory=dict)
    _next: list[Input] = field(default_factory=list)
    _interrupts: dict[str, Failure] = field(default_factory=dict)
    _overdue: set[str] = field(default_factory=set)
    _timers: dict[str, dict[str, Timer]] = field(default_factory=dict)
    _names: dict[str, Timer] = field(default_factory=dict)
    _idle_due: int = 0
    _idle_set: bool = False
    _paused: bool = False
    _bytes: int = 0
    _now: int = 0

    def take(self, inputs: Iterable[DriverInput], now: int) -> None:
        """Decide on the inputs of one workflow task, in their order.

        Args:
            inputs: The inputs.
            now: When the task started, in nanoseconds since the epoch.
        """
        self._now, self._bytes = now, 0
        for given in inputs:
            self._take(given)
            self._settle()

    def take_events(self) -> list[Event]:
        """Return the events since the last call."""
        events, self.events = self.events, []
        return events

    def take_effects(self) -> list[Effect]:
        """Return the effects since the last call."""
        effects, self.effects = self.effects, []
        return effects

    @property
    def queued(self) -> Mapping[str, Invoke]:
        """The attempts that wait because as many as allowed are in flight, by step."""
        return self._ready

    def is_interrupted(self, step_id: str) -> bool:
        """Return whether the attempt of a step is in flight, and was interrupted."""
        return step_id in self._interrupts

    # Inputs.

    def _take(self, given: DriverInput) -> None:
        match given:
            case AttemptStopped():
                self._stopped(given)
            case TimerDue():
                self._timer_due(given.name)
            case HistorySize():
                self._check_size(given)
            case Request():
                self._answer(given)
            case _:
                self._ended(given)

    def _ended(self, given: Input) -> None:
        """Take an input of the core. If it ends an attempt, the attempt is no longer in flight."""
        if isinstance(given, AttemptFailed | AttemptLost) and self._is_in_flight(given.step_id, given.attempt):
            failure = self._interrupts.get(given.step_id)
            if failure is not None:
                did = f"it failed: {given.failure.message}" if isinstance(given, AttemptFailed) else ""
                given = _interrupted(AttemptStopped(given.step_id, given.attempt, False, not did, did), failure)
        step_id, attempt = getattr(given, "step_id", ""), getattr(given, "attempt", 0)
        if step_id and self._is_in_flight(step_id, attempt):
            self._forget(step_id)
        self._decide(given)

    def _stopped(self, given: AttemptStopped) -> None:
        if not self._is_in_flight(given.step_id, given.attempt):
            return
        failure = self._interrupts.get(given.step_id)
        if given.timed_out and (failure is None or given.step_id in self._overdue):  # its first failure counts
            failure = self._timeout_of(given)
        self._forget(given.step_id)
        if failure is None:  # nobody of this run cancelled it
            self._decide(AttemptLost(given.step_id, given.attempt, hosted=True))
        else:
            self._decide(_interrupted(given, failure))

    def _timeout_of(self, given: AttemptStopped) -> Failure | None:
        """Return the failure with which the core interrupts an attempt that passed its timeout."""
        timed_out = AttemptTimedOut(given.step_id, given.attempt)
        for command in decide(self.state, timed_out, self._now, self.evaluator).commands:
            if isinstance(command, Interrupt):
                return command.failure
        return None

    def _timer_due(self, name: str) -> None:
        if name == PAUSE:
            self._paused = False
            return
        if reason := self.holds.passed(name):
            self._decide(CancelRequested(reason))
            return
        timer = self._names.pop(name, None)
        if timer is None:  # it was cancelled when it was due already
            return
        if timer.kind == "idle":
            self._idle_set = False
            if self._now < self._idle_due:
                self._set_idle(timer, self._idle_due)
                return
        self._timers.get(timer.step_id, {}).pop(name, None)
        self._decide(TimerFired(timer))

    def _check_size(self, given: HistorySize) -> None:
        if (given.events > MAX_HISTORY_EVENTS or given.size > MAX_HISTORY_BYTES) and self.state.stopping is None:
            self._decide(StopRequested(_too_large(given)))

    def _answer(self, given: Request) -> None:
        if isinstance(given.input, HoldChange):
            self._hold(given.input)
            self.answers[given.token] = None
            return
        try:
            self._decide(given.input)
        except Refused as refused:
            self.answers[given.token] = refused
        else:
            self.answers[given.token] = None

    def _hold(self, given: HoldChange) -> None:
        """Change what holds the run. If nothing does, its reconnect window begins."""
        timer = self.holds.timer
        if reason := self.holds.change(given):
            self._decide(CancelRequested(reason))
        elif self.holds.ends():
            self.effects.append(CancelTimer(timer))
        elif self.holds.window and self.holds.begins():
            self.effects.append(SetTimer(self.holds.timer, round(self.holds.window * SECOND)))

    # Decisions.

    def _decide(self, given: Input) -> None:
        decision = decide(self.state, given, self._now, self.evaluator)
        self._carry_out(decision)

    def _carry_out(self, decision: Decision) -> None:
        self.events += decision.events
        for event in decision.events:
            if isinstance(event, StepFinished) or (isinstance(event, StepRetrying) and event.fallback):
                self._cancel_timers(event.step_id)
        for invoke in decision.requests:
            self._ready[invoke.step_id] = invoke
        for command in decision.commands:
            self._execute(command)

    def _execute(self, command: Command) -> None:
        match command:
            case StartTimer():
                self._start_timer(command)
            case Interrupt():
                self._interrupt(command)
            case Finish():
                self.effects.append(End())

    def _settle(self) -> None:
        """Start attempts, then decide on what follows at once: timers already due, ends of what runs nowhere.

        The local engine has the same order: starts are in the turn of their input, and commands in a later one.
        """
        self._start_ready()
        while self._next:
            following, self._next = self._next, []
            for given in following:
                self._decide(given)
            self._start_ready()

    def _start_ready(self) -> None:
        """Start attempts, as many as may be in flight. Their inputs must fit into one message."""
        while self._ready and len(self.in_flight) < MAX_IN_FLIGHT:
            step_id, invoke = next(iter(self._ready.items()))
            payload = payload_of(self.state, invoke, self.evaluator)
            size = payload_size(payload)
            if self._bytes and self._bytes + size > MAX_TASK_BYTES:
                self._pause()
                return
            del self._ready[step_id]
            self._start(invoke, payload)

    def _start(self, invoke: Invoke, payload: Payload) -> None:
        started = AttemptStarted(invoke.step_id, invoke.attempt)
        decision = decide(self.state, started, self._now, self.evaluator)
        for event in decision.events:
            if isinstance(event, StepStarted) and event.action != WAIT_ACTION:
                self._bytes += payload_size(payload)
                self.in_flight[invoke.step_id] = invoke.attempt
                step = self.state.steps[invoke.step_id]
                self.effects.append(StartAttempt(invoke, event, payload, is_written(step), secrets_of(step)))
        self._carry_out(decision)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.effects.append(SetTimer(PAUSE, PAUSE_NANOS))

    def _interrupt(self, command: Interrupt) -> None:
        step_id, attempt = command.step_id, command.attempt
        if self.in_flight.get(step_id) != attempt:
            self._ready.pop(step_id, None)
            if attempt_of(self.state, step_id, attempt) is not None:
                self._next.append(AttemptInterrupted(step_id, attempt, command.failure))
        elif (start := self._unsent(step_id)) is not None:
            self.effects.remove(start)
            self._forget(step_id)
            self._next.append(AttemptInterrupted(step_id, attempt, command.failure))
        elif step_id not in self._interrupts:
            self._interrupts[step_id] = command.failure
            if self.state.steps[step_id].deadline <= self._now:
                self._overdue.add(step_id)
            self.effects.append(CancelAttempt(step_id, attempt))

    def _unsent(self, step_id: str) -> StartAttempt | None:
        """Return the start of an attempt that begins in this workflow task, and of which Temporal knows nothing."""
        starts = (it for it in self.effects if isinstance(it, StartAttempt) and it.invoke.step_id == step_id)
        return next(starts, None)

    def _is_in_flight(self, step_id: str, attempt: int) -> bool:
        return self.in_flight.get(step_id) == attempt

    def _forget(self, step_id: str) -> None:
        del self.in_flight[step_id]
        self._interrupts.pop(step_id, None)
        self._overdue.discard(step_id)

    # Timers.

    def _start_timer(self, command: StartTimer) -> None:
        timer = command.timer
        if timer.step_id and self.state.steps[timer.step_id].ended:
            return
        if timer.kind == "idle":
            self._set_idle(timer, command.due)
        elif command.due <= self._now:
            self._next.append(TimerFired(timer))
        else:
            name = _name_of(timer)
            self._names[name] = self._timers.setdefault(timer.step_id, {})[name] = timer
            self.effects.append(SetTimer(name, command.due - self._now))

    def _set_idle(self, timer: Timer, due: int) -> None:
        """Note when an idle run ends. One timer serves all: it starts again if it is due too early."""
        self._idle_due = due
        self._names[_name_of(timer)] = timer
        if not self._idle_set:
            self._idle_set = True
            self.effects.append(SetTimer(_name_of(timer), due - self._now))

    def _cancel_timers(self, step_id: str) -> None:
        for name in self._timers.pop(step_id, {}):
            del self._names[name]
            self.effects.append(CancelTimer(name))


def _name_of(timer: Timer) -> str:
    """Return the name of a timer, by which people know it in Temporal."""
    if timer.kind == "idle":
        return "idle"
    parts = [timer.kind, timer.step_id, str(timer.attempt) if timer.attempt else ""]
    return " ".join(part for part in parts if part)


def _interrupted(given: AttemptStopped, failure: Failure) -> AttemptInterrupted:
    if given.did:
        details = tuple(sorted({**dict(failure.details), "when_interrupted": given.did}.items()))
        failure = replace(failure, details=details)
    return AttemptInterrupted(given.step_id, given.attempt, failure, given.abandoned)


def _too_large(given: HistorySize) -> Failure:
    message = (
        f"the run's history in Temporal has {given.events:,} events and {given.size:,} bytes; "
        f"a run is ended at {MAX_HISTORY_EVENTS:,} events or {MAX_HISTORY_BYTES:,} bytes"
    )
    return Failure(Reason.RESOURCE_EXHAUSTED, message, cause=FailureCause.SERVER_STOPPED)
