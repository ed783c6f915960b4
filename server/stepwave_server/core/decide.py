"""What a run does next: inputs to events and commands.

For one input, events come in this order: the finished step, skips in declaration order (a step's after those of its
dependencies), finished waves, then what starts. Every event is applied as it is made, so the run is up to date when
`decide` returns.
"""

from dataclasses import dataclass, field
from operator import attrgetter
from typing import assert_never

from .addition import addition_events, present_for, was_made
from .evaluate import EvaluationFailed, Evaluator
from .evolve import evolve
from .messages import (
    AddSteps,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    Command,
    Event,
    Finish,
    Input,
    Interrupt,
    Invoke,
    RunStopping,
    Started,
    StartTimer,
    StepFinished,
    StepRetrying,
    StepStarted,
    StopRequested,
    Timer,
    TimerFired,
    WaveFinished,
    WaveStarted,
)
from .model import Failure, OnInterrupt, Payload, Reason, Skip, SkipCause, State
from .plan import plan_events
from .result import run_finished
from .state import CLEANUP_GRACE, MOST_INTERRUPTIONS, SECOND, RunState, StepState
from .validate import Violation, validate_addition

__all__ = ["Decision", "Refused", "attempt_of", "decide", "input_of", "invoke", "stop_failure"]

MOST_CARRIED = 4_096
"""Characters of an input that a command carries."""

_by_index = attrgetter("index")


class Refused(Exception):
    """Raised when an input cannot be accepted. Nothing has changed.

    Attributes:
        violations: What is wrong with it; empty if the run takes no such input any more.
    """

    def __init__(self, message: str, violations: list[Violation]) -> None:
        super().__init__(message)
        self.violations = violations


@dataclass(slots=True)
class Decision:
    """What inputs led to: events to commit, and commands to carry out once they are."""

    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


@dataclass(slots=True)
class _Decider:
    """One decision in the making."""

    run: RunState
    now: int
    evaluator: Evaluator
    events: list[Event]
    commands: list[Command]

    def emit(self, event: Event) -> None:
        evolve(self.run, event)
        self.events.append(event)

    def finish_step(
        self,
        step: StepState,
        state: State,
        *,
        output: Payload | None = None,
        failure: Failure | None = None,
        skip: Skip | None = None,
        abandoned: bool = False,
        reused_from: str = "",
    ) -> None:
        spec = step.spec
        self.emit(
            StepFinished(
                self.now,
                spec.id,
                spec.action,
                state,
                step.wave,
                step.attempt,
                output,
                failure,
                skip,
                step.ready_time,
                step.start_time,
                abandoned,
                reused_from,
            )
        )


def decide(run: RunState, given: Input, now: int, evaluator: Evaluator, decision: Decision | None = None) -> Decision:
    """Decide what an input leads to, and bring the run up to date.

    An input that comes too late, as the start of an attempt that was skipped meanwhile, leads to nothing.

    Args:
        run: The run; changed.
        given: What happened.
        now: When, in nanoseconds since the epoch. Earlier than the run's last event counts as then.
        evaluator: What puts inputs together.
        decision: What earlier inputs led to, to be gone on with; by default a new one.

    Raises:
        Refused: Steps cannot be added.
    """
    decision = decision or Decision()
    decider = _Decider(run, max(now, run.time), evaluator, decision.events, decision.commands)
    if run.finished is None:
        was_failing = run.failing
        _take(decider, given)
        _carry_on(decider)
        if not was_failing and run.failing and run.stopping is None:
            _watch_cleanup(decider)
    elif isinstance(given, AddSteps):
        _require_made(run, given)
    return decision


def _take(decider: _Decider, given: Input) -> None:  # the most frequent first
    match given:
        case AttemptStarted():
            _attempt_started(decider, given)
        case AttemptSucceeded():
            _attempt_succeeded(decider, given)
        case AttemptFailed():
            _attempt_failed(decider, given)
        case AttemptInterrupted():
            _attempt_interrupted(decider, given)
        case AttemptLost():
            _attempt_lost(decider, given)
        case TimerFired():
            _timer_fired(decider, given)
        case CancelRequested():
            _stop(decider, _cancelled(given))
        case StopRequested():
            _stop(decider, given.failure)
        case AddSteps():
            _add_steps(decider, given)
        case Started():
            _started(decider, given)
        case _:
            assert_never(given)


def _started(decider: _Decider, given: Started) -> None:
    run = decider.run
    if run.started:
        return
    timeout = run.workflow.timeout
    deadline = None if timeout is None else decider.now + timeout
    for event in plan_events(run, decider.now, deadline):
        decider.emit(event)
    if deadline is not None:
        decider.commands.append(StartTimer(Timer("run"), deadline))
    for step_id, output in given.reused:
        step = run.steps[step_id]
        if not step.doomed:  # an `ANY` join that is met already may have no need of it
            decider.finish_step(step, State.SUCCEEDED, output=output, reused_from=given.reused_from)


def _attempt_started(decider: _Decider, given: AttemptStarted) -> None:
    run = decider.run
    step = run.dispatched.get(given.step_id)
    if step is None or given.step_id in run.running or given.attempt != step.attempt + 1:
        return
    if step.wave not in run.waves_open:
        decider.emit(WaveStarted(decider.now, step.wave))
    spec = step.spec
    deadline = decider.now + (run.options.step_timeout if spec.timeout is None else spec.timeout)
    ready = decider.now if step.ready_time is None else step.ready_time
    decider.emit(StepStarted(decider.now, spec.id, spec.action, step.wave, given.attempt, deadline, ready))
    decider.commands.append(StartTimer(Timer("attempt", spec.id, given.attempt), deadline))


def _attempt_succeeded(decider: _Decider, given: AttemptSucceeded) -> None:
    step = attempt_of(decider.run, given.step_id, given.attempt)
    if step is not None:
        decider.finish_step(step, State.SUCCEEDED, output=given.output)


def _attempt_failed(decider: _Decider, given: AttemptFailed) -> None:
    step = attempt_of(decider.run, given.step_id, given.attempt)
    if step is not None:
        decider.finish_step(step, State.FAILED, failure=given.failure)


def _attempt_interrupted(decider: _Decider, given: AttemptInterrupted) -> None:
    step = attempt_of(decider.run, given.step_id, given.attempt)
    if step is not None:
        state = State.CANCELLED if given.failure.reason is Reason.CANCELLED else State.FAILED
        decider.finish_step(step, state, failure=given.failure, abandoned=given.abandoned)


def _attempt_lost(decider: _Decider, given: AttemptLost) -> None:
    run = decider.run
    step = attempt_of(run, given.step_id, given.attempt)
    if step is None:
        return
    if not run.admits(step):
        decider.finish_step(step, State.CANCELLED, failure=stop_failure(run, step))
        return
    again = step.spec.on_interrupt is OnInterrupt.RETRY and step.interruptions < MOST_INTERRUPTIONS
    failure = _interruption(step, again=again)
    if again:
        decider.emit(StepRetrying(decider.now, step.spec.id, step.attempt, failure, decider.now))
    else:
        decider.finish_step(step, State.FAILED, failure=failure)


def _timer_fired(decider: _Decider, given: TimerFired) -> None:
    run, timer = decider.run, given.timer
    if timer.kind == "attempt":
        step = attempt_of(run, timer.step_id, timer.attempt)
        if step is not None:
            decider.commands.append(Interrupt(timer.step_id, timer.attempt, _attempt_timeout(run, step)))
    else:
        _stop(decider, _run_timeout(run, timer))


def _stop(decider: _Decider, failure: Failure) -> None:
    if decider.run.stopping is None:
        decider.emit(RunStopping(decider.now, failure))


def _add_steps(decider: _Decider, given: AddSteps) -> None:
    run = decider.run
    if not run.open:
        _require_made(run, given)
        return
    violations = validate_addition(given.steps, present_for(run, given), run.options.limits, seal=given.seal)
    if violations:
        raise Refused("the steps cannot be added", violations)
    fresh = [step for step in given.steps if step.id not in run.steps]
    if fresh or given.seal:
        for event in addition_events(run, fresh, decider.now, sealed=given.seal):
            decider.emit(event)


def _require_made(run: RunState, given: AddSteps) -> None:
    if not was_made(run, given):
        raise Refused("the run takes no more steps", [])


def _carry_on(decider: _Decider) -> None:
    """Do what follows from the events so far, until nothing does."""
    run = decider.run
    while run.doomed or run.fresh:
        if run.doomed:
            step = run.by_index[run.doomed[0]]
            if step.dispatched:
                decider.commands.append(Interrupt(step.spec.id, step.attempt + 1, stop_failure(run, step)))
            if step.attempt:  # between two attempts
                decider.finish_step(step, State.CANCELLED, failure=stop_failure(run, step))
            else:
                decider.finish_step(step, State.SKIPPED, skip=_skip(run, step))
        else:
            fresh, run.fresh = run.fresh, []
            _invoke(decider, sorted(fresh, key=_by_index) if len(fresh) > 1 else fresh)
    if run.waves_done:
        _finish_waves(decider)
    if run.stale:
        _interrupt(decider)
    if run.unfinished == 0 and not run.open and run.started:
        decider.emit(run_finished(run, decider.now))
        decider.commands.append(Finish())


def _invoke(decider: _Decider, steps: list[StepState]) -> None:
    for step in steps:
        if step.doomed or step.ended:
            continue
        try:
            payload = input_of(decider.run, step, decider.evaluator)
        except EvaluationFailed as error:
            failure = Failure(error.reason, str(error), step_id=step.spec.id)
            decider.finish_step(step, State.FAILED, failure=failure)
        else:
            decider.commands.append(invoke(decider.run, step, payload))


def invoke(run: RunState, step: StepState, payload: Payload) -> Invoke:
    """Return the command to invoke a step with an input, which it carries if that is small or the run's own."""
    light = payload is run.input or (isinstance(payload, str) and len(payload) <= MOST_CARRIED)
    return Invoke(step.spec.id, step.attempt + 1, step.spec.action, payload if light else None)


def input_of(run: RunState, step: StepState, evaluator: Evaluator) -> Payload:
    """Return what a step's action gets: what its dependencies had answered when it took its place, then and ever after.

    Raises:
        EvaluationFailed: A binding has no value.
    """
    spec = step.spec
    if spec.input is None and not spec.bindings and not step.deps:
        return run.input
    steps, taken = run.steps, step.dispatched
    outputs = {dep: steps[dep].output if dep in steps and steps[dep].finish <= taken else None for dep in step.deps}
    return evaluator.input_of(spec, run.input, outputs)


def _finish_waves(decider: _Decider) -> None:
    run = decider.run
    if not run.open:
        for wave in sorted(run.waves_done):
            decider.emit(WaveFinished(decider.now, wave))


def _interrupt(decider: _Decider) -> None:
    run = decider.run
    stale, run.stale = run.stale, []
    for step in stale:
        if not step.ended:
            decider.commands.append(Interrupt(step.spec.id, step.attempt, stop_failure(run, step)))


def _watch_cleanup(decider: _Decider) -> None:
    """Bound the time that clean-up may take after a fail-fast failure."""
    run = decider.run
    if any(step.cleans_up and not step.ended for step in run.by_index):
        decider.commands.append(StartTimer(Timer("cleanup"), run.failed_time + CLEANUP_GRACE))


def attempt_of(run: RunState, step_id: str, attempt: int) -> StepState | None:
    """Return the step whose running attempt this is; `None` if it has ended."""
    step = run.running.get(step_id)
    return step if step is not None and step.attempt == attempt else None


def stop_failure(run: RunState, step: StepState) -> Failure:
    """Return what an attempt fails with that may not go on."""
    if run.stopping is not None:
        message = run.stopping.message
    elif step.unneeded:
        message = f'no longer needed: step "{step.unneeded}" answered'
    else:
        message = f'step "{run.failed_by}" failed'
    return Failure(Reason.CANCELLED, message, step_id=step.spec.id, attempt=step.attempt)


def _skip(run: RunState, step: StepState) -> Skip:
    if step.unneeded:
        return Skip(SkipCause.NOT_NEEDED, step.unneeded)
    if step.lost and step.blame is not None and (step.blame.state is State.FAILED or run.admits(step)):
        return Skip(SkipCause.DEPENDENCY, step.blame.spec.id)
    if run.stopping is None:
        return Skip(SkipCause.FAIL_FAST, run.failed_by)
    return Skip(SkipCause.TIMEOUT if run.stopping.reason is Reason.TIMEOUT else SkipCause.CANCELLED)


def _cancelled(given: CancelRequested) -> Failure:
    return Failure(Reason.CANCELLED, f"cancelled: {given.reason}" if given.reason else "cancelled")


def _interruption(step: StepState, *, again: bool) -> Failure:
    message = "the server stopped while the attempt ran"
    if not again and step.interruptions:
        message += f", as it had {step.interruptions} times before"
    return Failure(Reason.INTERRUPTED, message, retryable=again, step_id=step.spec.id, attempt=step.attempt)


def _attempt_timeout(run: RunState, step: StepState) -> Failure:
    timeout = step.spec.timeout
    allowed = run.options.step_timeout if timeout is None else timeout
    whose = "the server's default" if timeout is None else "its"
    message = f"the attempt took longer than {whose} timeout of {allowed / SECOND:g} s"
    return Failure(Reason.TIMEOUT, message, retryable=True, step_id=step.spec.id, attempt=step.attempt)


def _run_timeout(run: RunState, timer: Timer) -> Failure:
    if timer.kind == "cleanup":
        return Failure(Reason.TIMEOUT, f"clean-up took longer than {CLEANUP_GRACE / SECOND:g} s")
    return Failure(
        Reason.TIMEOUT, f"the run took longer than its timeout of {(run.workflow.timeout or 0) / SECOND:g} s"
    )
