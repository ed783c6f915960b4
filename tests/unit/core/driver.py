"""A second, tiny engine: feeds the core one input at a time, in virtual time, and checks that folding equals deciding."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias
from unittest import mock

from stepwave_server.core import decide as decide_module
from stepwave_server.core.decide import Decision, decide
from stepwave_server.core.evaluate import EvaluationFailed
from stepwave_server.core.evolve import evolve, fold, new_run
from stepwave_server.core.messages import (
    AddSteps,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    Command,
    Event,
    Finish,
    Input,
    Interrupt,
    Invoke,
    RunFinished,
    RunStarted,
    RunStopping,
    Started,
    StartTimer,
    StepFinished,
    StepsAdded,
    StepStarted,
    Timer,
    TimerFired,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import Binding, Failure, FromInput, Join, Payload, Reason, Skip, State, Step, Workflow
from stepwave_server.core.resume import resume
from stepwave_server.core.state import SECOND, RunOptions, RunState, StepState
from unit.core.rules import Rules
from unit.core.snapshot import snapshot

__all__ = ["NOWHERE", "Drive", "TextEvaluator", "brief", "flow", "invoked", "step"]

NOON = 1_700_000_000 * SECOND
NOWHERE = Binding("", FromInput("/nowhere"))
"""A binding that has no value."""

Key: TypeAlias = tuple[str, str]


def step(
    step_id: str,
    *depends_on: str,
    join: Join = Join.ALL,
    allow_failure: bool = False,
    timeout: int | None = None,
    bindings: tuple[Binding, ...] = (),
) -> Step:
    """Return a step; `timeout` is in seconds."""
    nanoseconds = None if timeout is None else timeout * SECOND
    return Step(
        step_id,
        "echo",
        depends_on,
        bindings=bindings,
        timeout=nanoseconds,
        join=join,
        allow_failure=allow_failure,
    )


def flow(*steps: Step) -> Workflow:
    """Return a workflow of these steps, with the default policies."""
    return Workflow(name="flow", steps=steps)


class TextEvaluator:
    """Tells dependencies' outputs as text; a binding to `/nowhere` has no value."""

    def input_of(self, step: Step, run_input: Payload, outputs: Mapping[str, Payload | None]) -> Payload:
        """Return `{"a":1,"b":null}`, or the step's own input."""
        if NOWHERE in step.bindings:
            raise EvaluationFailed('the run\'s input has no "/nowhere"')
        if step.input is not None:
            return step.input
        return "{" + ",".join(f'"{dep}":{output or "null"}' for dep, output in outputs.items()) + "}"


EVALUATOR = TextEvaluator()


class Drive:
    """A run, the virtual clock that it lives by, and everything it said.

    With `checked`, after every event the state is compared with that of a run that only saw the events, and after every decision
    with a fold from the very first event; `resume` must give what is outstanding then; and `Rules` must hold.

    Attributes:
        run: The run.
        now: The clock, in nanoseconds.
        events: What happened so far.
        commands: What it wanted so far.
        outstanding: The commands that were given and are not done.
        inputs: What was fed, and when.
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
        self.run = self.new_run()
        self.now = NOON
        self.events: list[Event] = []
        self.commands: list[Command] = []
        self.outstanding: dict[Key, Command] = {}
        self.inputs: list[tuple[int, Input]] = []
        self._shadow = self.new_run() if checked else None
        self._rules = Rules(workflow)
        self._said: list[str] = []

    @classmethod
    def begun(cls, workflow: Workflow, *, open_run: bool = False, checked: bool = True) -> "Drive":
        """Return a run that has been started."""
        drive = cls(workflow, options=RunOptions(open=open_run), checked=checked)
        drive.begin()
        return drive

    def new_run(self) -> RunState:
        """Return the run as it was before its first event."""
        return new_run(self.workflow, self.run_input, self.options)

    # What an engine would tell.

    def begin(self) -> Decision:
        """Let the run begin."""
        return self.feed(Started())

    def start(self, *step_ids: str) -> list[str]:
        """Let attempts in, in this order; return what happened, in brief."""
        before = len(self.events)
        for step_id in step_ids:
            self.feed(AttemptStarted(step_id, self.run.steps[step_id].attempt + 1))
        return [brief(event) for event in self.events[before:]]

    def succeed(self, step_id: str, output: Payload = "1") -> list[str]:
        """Answer an attempt, started first if need be; return what the answer led to, in brief."""
        return self._end(AttemptSucceeded(step_id, self._running(step_id), output))

    def fail(self, step_id: str, reason: Reason = Reason.ACTION_ERROR) -> list[str]:
        """Fail an attempt, started first if need be; return what that led to, in brief."""
        attempt = self._running(step_id)
        failure = Failure(reason, f"{step_id} broke", step_id=step_id, attempt=attempt)
        return self._end(AttemptFailed(step_id, attempt, failure))

    def give_in(self, step_id: str, *, abandoned: bool = False) -> list[str]:
        """End an interrupted attempt without an answer; return what that led to, in brief."""
        interrupt = next(command for command in self.interrupts() if command.step_id == step_id)
        return self._end(AttemptInterrupted(step_id, interrupt.attempt, interrupt.failure, abandoned))

    def cancel(self, reason: str = "") -> list[str]:
        """Ask the run to end; return what that led to, in brief."""
        return self._end(CancelRequested(reason))

    def add(self, *steps: Step, seal: bool = False) -> list[str]:
        """Add steps; return what that led to, in brief."""
        return self._end(AddSteps(steps, seal))

    def wait(self, seconds: int) -> list[str]:
        """Let time pass, and timers fire as they fall due; return what that led to, in brief."""
        before, until = len(self.events), self.now + seconds * SECOND
        while (timer := self.next_timer()) is not None and timer.due <= until:
            self.fire(timer)
        self.now = until
        return [brief(event) for event in self.events[before:]]

    def fire(self, timer: StartTimer) -> Decision:
        """Let time pass until a timer falls due, and tell so."""
        self.now = max(self.now, timer.due)
        self.outstanding.pop(_key(timer), None)
        decision = self.feed(TimerFired(timer.timer))
        if timer.timer.kind == "attempt" and self.run.finished is None and timer.timer.step_id in self.run.running:
            self.outstanding["fired", timer.timer.step_id] = timer
        return decision

    def finish(self) -> None:
        """Let every step that is invoked succeed, first come, first served, until the run has ended."""
        while invocation := next((one for one in self.outstanding.values() if isinstance(one, Invoke)), None):
            self.succeed(invocation.step_id)

    def feed(self, given: Input) -> Decision:
        """Feed the core, and check what became of it."""
        self.inputs.append((self.now, given))
        if self._shadow is None:
            decision = decide(self.run, given, self.now, EVALUATOR)
        else:
            with mock.patch.object(decide_module, "evolve", self._evolve_both):
                decision = decide(self.run, given, self.now, EVALUATOR)
        self.events += decision.events
        self.commands += decision.commands
        self._note(decision)
        if self._shadow is not None:
            self._check(decision)
        return decision

    # What can be seen.

    def state(self, step_id: str) -> State:
        """Return what has become of a step."""
        return self.run.steps[step_id].state

    def states(self) -> dict[str, State]:
        """Return what has become of every step."""
        return {step_id: step.state for step_id, step in self.run.steps.items()}

    def skip(self, step_id: str) -> Skip | None:
        """Return why a step was skipped."""
        return self.finished(step_id).skip

    def finished(self, step_id: str) -> StepFinished:
        """Return how a step ended."""
        (event,) = [event for event in self.of(StepFinished) if event.step_id == step_id]
        return event

    def result(self) -> RunFinished:
        """Return how the run ended."""
        (event,) = self.of(RunFinished)
        return event

    def of[T: Event](self, kind: type[T]) -> list[T]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def log(self) -> list[str]:
        """Return what happened, in brief."""
        return [brief(event) for event in self.events]

    def interrupts(self) -> list[Interrupt]:
        """Return the interruptions that were ordered so far."""
        return [command for command in self.commands if isinstance(command, Interrupt)]

    def waiting(self) -> list[str]:
        """Return the steps that were invoked and have not started."""
        return [command.step_id for command in self.outstanding.values() if isinstance(command, Invoke)]

    def next_timer(self) -> StartTimer | None:
        """Return the timer that falls due next."""
        timers = [timer for key, timer in self.outstanding.items() if isinstance(timer, StartTimer) and key[0] != "fired"]
        return min(timers, key=lambda timer: timer.due, default=None)
