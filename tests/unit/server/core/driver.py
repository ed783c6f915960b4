"""A tiny engine for tests. It feeds the core in virtual time, and checks that a fold of the events equals the state."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias, TypeVar
from unittest import mock

from stepwave_server.core import decider
from stepwave_server.core.decide import Decision, decide
from stepwave_server.core.evolve import evolve, fold, new_run
from stepwave_server.core.inputs import EvaluationFailed, Values
from stepwave_server.core.messages import (
    AddSteps,
    AttemptExpanded,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    AttemptTimedOut,
    CancelRequested,
    Command,
    Event,
    Finish,
    Input,
    Interrupt,
    Invoke,
    RunFinished,
    RunStopping,
    Started,
    StartTimer,
    StepCompleted,
    StepFinished,
    StepReady,
    StepRetrying,
    StepStarted,
    StopRequested,
    Timer,
    TimerFired,
)
from stepwave_server.core.model import SECOND, Failure, ForEach, Payload, Reason, Skip, State, Step, Workflow
from stepwave_server.core.resume import resume
from stepwave_server.core.state import CORE_VERSION, Agenda, RunOptions, RunState, Scope
from unit.server.core.build import NOWHERE, brief
from unit.server.core.invariants import Invariants
from unit.server.core.snapshot import snapshot

__all__ = ["EVALUATOR", "NOON", "Drive"]

NOON = 1_700_000_000 * SECOND

T = TypeVar("T")
Key: TypeAlias = tuple[str, str]


class Due(NamedTuple):
    """A timer, or the deadline of an attempt, and when it falls due."""

    due: int
    what: Timer | AttemptTimedOut


class TextEvaluator:
    """Gives the outputs of dependencies as text. A binding to `/nowhere` has no value."""

    def input_of(self, step: Step, values: Values, max_bytes: int | None = None) -> Payload:
        """Return the step's own input, else `{"a":1,"b":null}`."""
        if NOWHERE in step.bindings:
            raise EvaluationFailed('the run\'s input has no "/nowhere"')
        if step.input is not None:
            return step.input
        return "{" + ",".join(f'"{dep}":{output or "null"!s}' for dep, output in values.outputs.items()) + "}"

    def check_input(self, schema: str, payload: Payload) -> None:
        """Accept every input."""

    def condition(self, expression: str, values: Values) -> bool:
        """Return whether the expression is the text `true`. `error` has no value."""
        if expression == "error":
            raise EvaluationFailed("the condition has no value")
        return expression == "true"

    def items(self, for_each: ForEach, values: Values) -> list[Payload]:
        """Return the items of a literal list of numbers, such as `[1,2]`. `error` is no list."""
        assert isinstance(for_each.source, str), "only literal lists"
        if for_each.source == "error":
            raise EvaluationFailed("it is no list")
        return list[Payload](filter(None, for_each.source.strip("[]").split(",")))


EVALUATOR = TextEvaluator()


class Drive:
    """A run, its virtual clock, and all its events and commands.

    If `checked`: after every event, the state equals the state of a run that only applied the events, and the
    `Invariants` hold. After every decision, the state equals a fold of all events, and `resume` gives what is
    outstanding.

    Attributes:
        run: The run.
        now: The clock, in nanoseconds.
        inputs: The inputs and their times.
        events: The events so far.
        requests: The attempts requested so far.
        commands: The commands so far.
        outstanding: The requests and commands that are not carried out.
    """

    def __init__(
        self,
        workflow: Workflow,
        *,
        run_input: Payload = "null",
        options: RunOptions | None = None,
        checked: bool = True,
    ) -> None:
        self.workflow = workflow
        self.run_input = run_input
        self.options = options
        self.checked = checked
        self.run = self.new_run()
        self.now = NOON
        self.inputs: list[tuple[int, Input]] = []
        self.events: list[Event] = []
        self.requests: list[Invoke] = []
        self.commands: list[Command] = []
        self.outstanding: dict[Key, Command | Invoke] = {}
        self._shadow = self.new_run()
        self._invariants = Invariants(workflow)
        self._fired: list[Timer | AttemptTimedOut] = []

    @classmethod
    def begun(
        cls, workflow: Workflow, *, is_open: bool = False, checked: bool = True, version: int = CORE_VERSION
    ) -> "Drive":
        """Return a run that has been started."""
        drive = cls(workflow, options=RunOptions(open=is_open, version=version), checked=checked)
        drive.begin()
        return drive

    def new_run(self) -> RunState:
        """Return the run as it was before its first event."""
        return new_run(self.workflow, self.run_input, self.options)

    # Inputs of an engine. Each method returns the events that follow, in brief.

    def begin(self) -> list[str]:
        """Start the run."""
        return self.send(Started())

    def start(self, *step_ids: str) -> list[str]:
        """Start attempts, in this order."""
        return [
            brief
            for step_id in step_ids
            for brief in self.send(AttemptStarted(step_id, self.run.steps[step_id].attempt + 1))
        ]

    def succeed(self, step_id: str, output: Payload = "1") -> list[str]:
        """Succeed in an attempt. It is started first if necessary."""
        return self.send(AttemptSucceeded(step_id, self._running(step_id), output))

    def fail(self, step_id: str, reason: Reason = Reason.ACTION_ERROR) -> list[str]:
        """Fail an attempt permanently. It is started first if necessary."""
        attempt = self._running(step_id)
        failure = Failure(reason, f"{step_id} broke", step_id=step_id, attempt=attempt)
        return self.send(AttemptFailed(step_id, attempt, failure))

    def fail_retryably(
        self, step_id: str, reason: Reason = Reason.UNAVAILABLE, *, after: int | None = None
    ) -> list[str]:
        """Fail an attempt retryably; `after`: the `retry_after` in seconds. It is started first if necessary."""
        attempt = self._running(step_id)
        nanos = None if after is None else after * SECOND
        failure = Failure(reason, f"{step_id} failed for now", True, nanos, step_id, attempt)
        return self.send(AttemptFailed(step_id, attempt, failure))

    def end_interrupted(self, step_id: str, *, abandoned: bool = False) -> list[str]:
        """End an interrupted attempt without an output."""
        running = step_id, self.run.running[step_id].attempt
        first = next(command for command in self.interrupts() if (command.step_id, command.attempt) == running)
        return self.send(AttemptInterrupted(step_id, first.attempt, first.failure, abandoned))

    def lose(self, *step_ids: str, drained: bool = False) -> list[str]:
        """Lose running attempts in a restart of the server, which crashed or was drained."""
        return [
            brief
            for step_id in step_ids
            for brief in self.send(AttemptLost(step_id, self.run.running[step_id].attempt, drained))
        ]

    def expand(self, step_id: str, workflow: Workflow, input: Payload = "null") -> list[str]:
        """Let an attempt of `core.workflow` choose a workflow. It is started first if necessary."""
        return self.send(AttemptExpanded(step_id, self._running(step_id), workflow, input))

    def complete(self, step_id: str, output: Payload = "1") -> list[str]:
        """Complete a step from outside."""
        return self.send(StepCompleted(step_id, output))

    def stop(self, failure: Failure) -> list[str]:
        """End the run as the server does."""
        return self.send(StopRequested(failure))

    def cancel(self, reason: str = "") -> list[str]:
        """Cancel the run."""
        return self.send(CancelRequested(reason))

    def add(self, *steps: Step, seal: bool = False) -> list[str]:
        """Add steps."""
        return self.send(AddSteps(steps, seal))

    def wait(self, seconds: int) -> list[str]:
        """Move the clock, and fire the timers that fall due."""
        briefs: list[str] = []
        until = self.now + seconds * SECOND
        while (timer := self.next_timer()) is not None and timer.due <= until:
            briefs += self.fire(timer)
        self.now = max(self.now, until)
        return briefs

    def fire(self, timer: Due) -> list[str]:
        """Move the clock to the due time of a timer, and fire it."""
        self.now = max(self.now, timer.due)
        self._fired.append(timer.what)
        return self.send(TimerFired(timer.what) if isinstance(timer.what, Timer) else timer.what)

    def finish(self) -> None:
        """Let every invoked step succeed, in the order of invocation, until the run has ended."""
        queue = deque(self.waiting())
        while queue:
            known = len(self.requests)
            self.succeed(queue.popleft())
            queue += (request.step_id for request in self.requests[known:])

    def recover(self) -> list[Command | Invoke]:
        """Rebuild the run from its events, as after a restart, and return what is outstanding."""
        self.run = fold(self.new_run(), self.events)
        self._fired.clear()
        return _outstanding(resume(self.run, EVALUATOR))

    def send(self, given: Input) -> list[str]:
        """Feed an input to the core, and return the events in brief."""
        return [brief(event) for event in self.feed(given).events]

    def feed(self, given: Input) -> Decision:
        """Feed an input to the core, and check the result."""
        self.inputs.append((self.now, given))
        if not self.checked:
            decision = decide(self.run, given, self.now, EVALUATOR)
            self._note(decision)
            return decision
        with mock.patch.object(decider, "evolve", self._evolve_both):
            decision = decide(self.run, given, self.now, EVALUATOR)
        self._note(decision)
        self._check_fold()
        return decision

    # Views of the run.

    def state(self, step_id: str) -> State:
        """Return the state of a step."""
        return self.run.steps[step_id].state

    def states(self) -> dict[str, State]:
        """Return the state of every step."""
        return {step_id: step.state for step_id, step in self.run.steps.items()}

    def finished(self, step_id: str) -> StepFinished:
        """Return how a step ended."""
        (event,) = [event for event in self.of(StepFinished) if event.step_id == step_id]
        return event

    def skip(self, step_id: str) -> Skip | None:
        """Return why a step was skipped."""
        return self.finished(step_id).skip

    def result(self) -> RunFinished:
        """Return how the run ended."""
        (event,) = self.of(RunFinished)
        return event

    def of(self, kind: type[T]) -> list[T]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def log(self) -> list[str]:
        """Return the events in brief."""
        return [brief(event) for event in self.events]

    def interrupts(self) -> list[Interrupt]:
        """Return the interrupt commands so far."""
        return [command for command in self.commands if isinstance(command, Interrupt)]

    def invoked(self) -> dict[str, Payload | None]:
        """Return the inputs that the requests carried so far."""
        return {request.step_id: request.carried for request in self.requests}

    def waiting(self) -> list[str]:
        """Return the steps whose attempts were requested and have not started."""
        return [command.step_id for command in self.outstanding.values() if isinstance(command, Invoke)]

    def next_timer(self) -> Due | None:
        """Return the next timer or deadline of an attempt."""
        started = [one for one in self.outstanding.values() if isinstance(one, StartTimer)]
        timers = [Due(one.due, one.timer) for one in started if one.timer not in self._fired]
        for step_id, step in self.run.running.items():
            if step.waits:  # it has a timer
                continue
            timed_out = AttemptTimedOut(step_id, step.attempt)
            if timed_out not in self._fired:
                timers.append(Due(step.deadline, timed_out))
        return min(timers, key=lambda timer: timer.due, default=None)

    # Bookkeeping and checks.

    def _running(self, step_id: str) -> int:
        if step_id not in self.run.running:
            self.start(step_id)
        return self.run.steps[step_id].attempt

    def _note(self, decision: Decision) -> None:
        """Update what is outstanding. An end in a decision removes what the same decision requested for the step.

        An attempt that timed out is interrupted again when its timer, which lasts as long as it does, starts again and
        fires at once: only the timer is outstanding.
        """
        self.events += decision.events
        self.requests += decision.requests
        self.commands += decision.commands
        for one in (*decision.requests, *decision.commands):
            if not (isinstance(one, Interrupt) and one.failure.reason is Reason.TIMEOUT):
                self.outstanding[_key(one)] = one
        for event in decision.events:
            self._remove_done(event)
        if not self.run.idle:
            self.outstanding.pop(("idle", ""), None)
        for kind, step_id in [*self.outstanding]:
            if kind == "cleanup" and not _cleans_up(self.run.steps[step_id].inner if step_id else self.run.root):
                del self.outstanding[kind, step_id]

    def _remove_done(self, event: Event) -> None:
        match event:
            case StepStarted():
                self.outstanding.pop(("invoke", event.step_id), None)
            case StepRetrying():
                over = ("backoff", "total") if event.fallback else ()
                for what in ("interrupt", *over):
                    self.outstanding.pop((what, event.step_id), None)
                own = self.outstanding.get(("own", event.step_id))
                if (
                    isinstance(own, StartTimer) and own.timer.attempt == event.attempt
                ):  # not of an attempt that followed
                    del self.outstanding["own", event.step_id]
            case StepReady():
                self.outstanding.pop(("backoff", event.step_id), None)
            case StepFinished():
                for what in ("invoke", "interrupt", "backoff", "total", "own", "cleanup"):
                    self.outstanding.pop((what, event.step_id), None)
            case RunStopping():
                self.outstanding.pop(("run", ""), None)
                self.outstanding.pop(("cleanup", ""), None)
            case RunFinished():
                self.outstanding = {("finish", ""): Finish()}

    def _evolve_both(self, run: RunState, event: Event, agenda: Agenda) -> None:
        evolve(run, event, agenda)
        evolve(self._shadow, event, Agenda())
        assert snapshot(run) == snapshot(self._shadow), "only evolve changes a run"
        assert run.time == event.time
        self._invariants.check(event)

    def _check_fold(self) -> None:
        folded = fold(self.new_run(), self.events)
        assert snapshot(folded) == snapshot(self.run), "folding equals deciding"
        assert self.run.sequence == len(self.events), "sequences have no gaps"
        assert _keyed(_outstanding(resume(folded, EVALUATOR))) == self.outstanding, "resume gives what is outstanding"


def _cleans_up(scope: Scope | None) -> bool:
    return scope is not None and scope.stopping is None and scope.cleaning_up


def _outstanding(decision: Decision) -> list[Command | Invoke]:
    assert not decision.events, "resume decides nothing new"
    return [*decision.commands, *decision.requests]


def _keyed(commands: Iterable[Command | Invoke]) -> dict[Key, Command | Invoke]:
    keyed: dict[Key, Command | Invoke] = {}
    for command in commands:
        key = _key(command)
        assert key not in keyed, f"{key} is given twice"
        keyed[key] = command
    return keyed


def _key(command: Command | Invoke) -> Key:
    match command:
        case Invoke():
            return "invoke", command.step_id
        case Interrupt():
            return "interrupt", command.step_id
        case StartTimer():
            return command.timer.kind, command.timer.step_id
        case Finish():
            return "finish", ""
