"""Decisions: an input leads to events, requests and commands.

For one input, events come in this order: the finished step, skips in declaration order (a step's after those of its
dependencies), finished waves, then what starts. Every event is applied as it is made, so the run is up to date when
`decide` returns.
"""

from operator import attrgetter
from typing import assert_never

from .decider import Decider, Decision
from .failures import (
    attempt_timeout,
    cancelled,
    cleanup_timeout,
    input_failure,
    interruption,
    plan_idle,
    run_timeout,
    stop_failure,
    total_timeout,
)
from .inputs import EvaluationFailed, Evaluator, action_of, holds, invoke
from .messages import (
    AddSteps,
    AttemptExpanded,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    AttemptTimedOut,
    CancelRequested,
    Finish,
    Input,
    Interrupt,
    RunStopping,
    Started,
    StartTimer,
    StepCompleted,
    StepReady,
    StepStarted,
    StopRequested,
    Timer,
    TimerFired,
    WaveFinished,
    WaveStarted,
)
from .model import Failure, FailureCause, OnInterrupt, Reason, Skip, SkipCause, State
from .nesting import begin, close, complete, expand_attempt, stop, time_out_own
from .planning import MAX_STEP, addition_events, plan_events, present_for, reuse_events, step_weight, was_made
from .result import run_finished
from .resume import idle_timer
from .retries import fail_attempt, give_up, go_on, time_out, withdraw
from .state import CLEANUP_GRACE, FIRST_WITH_DRAINS, MAX_INTERRUPTIONS, Agenda, RunState, StepState
from .validate import Violation, validate_addition

__all__ = ["Decision", "Refused", "attempt_of", "check_addition", "decide"]

_by_index = attrgetter("index")

TIMEOUTS = (
    FailureCause.ATTEMPT_TIMEOUT,
    FailureCause.TOTAL_TIMEOUT,
    FailureCause.RUN_TIMEOUT,
    FailureCause.CLEANUP_TIMEOUT,
    FailureCause.PLAN_IDLE,
)
"""The causes of failures of graphs that were stopped because they took too long."""


class Refused(Exception):
    """Raised when an input cannot be accepted. Nothing has changed.

    Attributes:
        violations: What is wrong with it; empty if the run takes no such input any more.
    """

    def __init__(self, message: str, violations: list[Violation]) -> None:
        super().__init__(message)
        self.violations = violations


def decide(run: RunState, given: Input, now: int, evaluator: Evaluator, decision: Decision | None = None) -> Decision:
    """Decide what an input leads to, and apply it to the run.

    An input that comes too late, as the start of an attempt that was skipped meanwhile, leads to nothing.

    Args:
        run: The run; changed.
        given: What happened.
        now: When, in nanoseconds since the epoch. Earlier than the run's last event counts as then.
        evaluator: Puts inputs together.
        decision: The decision of earlier inputs, to be extended; by default a new one.

    Raises:
        Refused: Steps cannot be added.
    """
    decision = decision or Decision()
    decider = Decider(run, max(now, run.time), evaluator, decision)
    if run.finished is None:
        sequence = run.sequence
        _take(decider, given)
        _carry_on(decider)
        if decision.agenda.to_clean_up:
            _watch_cleanup(decider)
        if run.open and run.sequence > sequence:
            decision.commands += idle_timer(run)
    elif isinstance(given, AddSteps):
        _require_made(run, given)
    return decision


def _take(decider: Decider, given: Input) -> None:  # noqa: C901 - one case for each input, the most frequent first
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
        case AttemptTimedOut():
            _attempt_timed_out(decider, given)
        case TimerFired():
            _timer_fired(decider, given)
        case CancelRequested():
            _stop(decider, cancelled(given), given.reason, given.caller)
        case StopRequested():
            _stop(decider, given.failure)
        case AddSteps():
            _add_steps(decider, given)
        case Started():
            _started(decider, given)
        case AttemptExpanded():
            _attempt_expanded(decider, given)
        case StepCompleted():
            _step_completed(decider, given)
        case _:
            assert_never(given)


def _started(decider: Decider, given: Started) -> None:
    run = decider.run
    if run.started:
        return
    timeout = run.workflow.timeout
    deadline = None if timeout is None else decider.now + timeout
    for event in plan_events(run, decider.now, deadline):
        decider.emit(event)
    if deadline is not None:
        decider.command(StartTimer(Timer("run"), deadline))
    for taken_over in reuse_events(run, given, decider.now):
        decider.emit(taken_over)
    for step_id, output in given.reused:
        step = run.steps.get(step_id)
        if step is not None and not step.dropped:  # an `ANY` join that is met already may have no need of it
            decider.finish_step(step, State.SUCCEEDED, output=output, reused_from=given.reused_from)


def _attempt_started(decider: Decider, given: AttemptStarted) -> None:
    run = decider.run
    step = run.dispatched.get(given.step_id)
    if step is None or given.step_id in run.running or given.attempt != step.attempt + 1:
        return
    spec = step.spec
    deadline = decider.now + (run.options.step_timeout if spec.timeout is None else spec.timeout)
    if spec.total_timeout is not None:
        deadline = min(deadline, step.total_deadline or deadline)
        if deadline <= decider.now:
            time_out(decider, step)
            return
    if step.wave not in run.waves_open:
        decider.emit(WaveStarted(decider.now, step.wave))
    action = spec.action if step.original is None else action_of(step)
    ready = decider.now if step.ready_time is None else step.ready_time
    decider.emit(StepStarted(decider.now, step.id, action, step.wave, given.attempt, deadline, ready))


def _attempt_succeeded(decider: Decider, given: AttemptSucceeded) -> None:
    step = attempt_of(decider.run, given.step_id, given.attempt)
    if step is not None:
        decider.finish_step(step, State.SUCCEEDED, output=given.output)


def _attempt_expanded(decider: Decider, given: AttemptExpanded) -> None:
    step = attempt_of(decider.run, given.step_id, given.attempt)
    if step is not None:
        expand_attempt(decider, step, given)


def _step_completed(decider: Decider, given: StepCompleted) -> None:
    step = decider.run.running.get(given.step_id)
    if step is None or not step.waits:
        raise Refused(f'step "{given.step_id}" does not wait to be completed', [])
    complete(decider, step, given)


def _attempt_failed(decider: Decider, given: AttemptFailed) -> None:
    step = attempt_of(decider.run, given.step_id, given.attempt)
    if step is not None:
        fail_attempt(decider, step, given.failure)


def _attempt_interrupted(decider: Decider, given: AttemptInterrupted) -> None:
    step = attempt_of(decider.run, given.step_id, given.attempt)
    if step is None:
        return
    if given.failure.reason is Reason.CANCELLED:
        decider.finish_step(step, State.CANCELLED, failure=given.failure, abandoned=given.abandoned)
    else:
        fail_attempt(decider, step, given.failure, abandoned=given.abandoned)


def _attempt_lost(decider: Decider, given: AttemptLost) -> None:
    run = decider.run
    step = attempt_of(run, given.step_id, given.attempt)
    if step is None:
        return
    if not step.admitted:
        decider.finish_step(step, State.CANCELLED, failure=stop_failure(step))
        return
    if run.options.version < FIRST_WITH_DRAINS:
        given = AttemptLost(step.id, step.attempt)
    again = step.spec.on_interrupt is OnInterrupt.RETRY and (given.drained or step.crashes < MAX_INTERRUPTIONS)
    failure = interruption(step, given, again=again)
    if again:
        go_on(decider, step, failure, decider.now, fallback=step.original is not None)
    else:
        give_up(decider, step, failure)


def _attempt_timed_out(decider: Decider, given: AttemptTimedOut) -> None:
    step = attempt_of(decider.run, given.step_id, given.attempt)
    if step is not None:
        decider.command(Interrupt(given.step_id, given.attempt, attempt_timeout(decider.run, step)))


def _timer_fired(decider: Decider, given: TimerFired) -> None:
    run, timer = decider.run, given.timer
    match timer.kind:
        case "backoff":
            step = run.backing_off.get(timer.step_id)
            if step is not None and step.attempt == timer.attempt:
                decider.emit(StepReady(decider.now, timer.step_id, step.attempt + 1))
        case "total":
            step = run.steps.get(timer.step_id)
            if step is not None and not step.ended and step.total_deadline is not None:
                _pass_total(decider, step)
        case "own":
            time_out_own(decider, given)
        case "cleanup":
            _pass_cleanup(decider, run.steps.get(timer.step_id))
        case "idle":
            if run.idle and run.sequence == timer.attempt:
                _stop(decider, plan_idle(run))
        case _:
            _stop(decider, run_timeout(run))


def _pass_total(decider: Decider, step: StepState) -> None:
    if step.inner is not None:
        stop(decider, step, total_timeout(step))
    elif step.waits and step.id in decider.run.running:
        give_up(decider, step, total_timeout(step))
    else:
        time_out(decider, step)


def _pass_cleanup(decider: Decider, step: StepState | None) -> None:
    if step is None:
        _stop(decider, cleanup_timeout(None))
    else:
        stop(decider, step, cleanup_timeout(step))


def _stop(decider: Decider, failure: Failure, cancel_reason: str = "", cancelled_by: str = "") -> None:
    if decider.run.stopping is None:
        decider.emit(RunStopping(decider.now, failure, cancel_reason, cancelled_by))


def _add_steps(decider: Decider, given: AddSteps) -> None:
    run = decider.run
    if not run.open:
        _require_made(run, given)
        return
    if violations := check_addition(run, given):
        raise Refused("the steps cannot be added", violations)
    fresh = [step for step in given.steps if step.id not in run.steps]
    if fresh or given.seal:
        for event in addition_events(run, fresh, decider.now, sealed=given.seal):
            decider.emit(event)


def check_addition(run: RunState, given: AddSteps) -> list[Violation]:
    """Return every reason why steps cannot be added to an open run."""
    problems = [
        Violation(f"steps[{index}]", f"about {weight:,} bytes are more than the {MAX_STEP:,} allowed")
        for index, step in enumerate(given.steps)
        if (weight := step_weight(step)) > MAX_STEP
    ]
    return problems + validate_addition(given.steps, present_for(run, given), run.options.limits, seal=given.seal)


def _require_made(run: RunState, given: AddSteps) -> None:
    if not was_made(run, given):
        raise Refused("the run takes no more steps", [])


def _carry_on(decider: Decider) -> None:
    """Work off the agenda, until nothing follows from the events any more."""
    run, agenda = decider.run, decider.decision.agenda
    while run.dropped or agenda.to_invoke or agenda.to_close:
        if run.dropped:
            _end_dropped(decider, run.by_index[run.dropped[0]])
        elif agenda.to_close:
            close(decider, agenda.to_close.pop(0))
        else:
            ready, agenda.to_invoke = agenda.to_invoke, []
            _invoke(decider, sorted(ready, key=_by_index) if len(ready) > 1 else ready)
    if run.waves_done:
        _finish_waves(decider)
    if agenda.to_interrupt:
        _interrupt(decider, agenda)
    if agenda.to_time:
        _start_totals(decider, agenda)
    if run.root.unfinished == 0 and not run.open and run.started:
        decider.emit(run_finished(run, decider.now))
        decider.command(Finish())


def _interrupt(decider: Decider, agenda: Agenda) -> None:
    for step in agenda.to_interrupt:
        if not step.ended:
            decider.command(Interrupt(step.id, step.attempt, stop_failure(step)))
    agenda.to_interrupt.clear()


def _start_totals(decider: Decider, agenda: Agenda) -> None:
    for step in agenda.to_time:
        if not step.ended and step.total_deadline is not None:
            decider.command(StartTimer(Timer("total", step.id), step.total_deadline))
    agenda.to_time.clear()


def _end_dropped(decider: Decider, step: StepState) -> None:
    """End a step that starts no attempt any more: it is cancelled if it had begun, else skipped."""
    withdraw(decider, step, stop_failure(step))
    if step.start_time is not None:
        decider.finish_step(step, State.CANCELLED, failure=stop_failure(step))
    else:
        decider.finish_step(step, State.SKIPPED, skip=_skip(step))


def _invoke(decider: Decider, steps: list[StepState]) -> None:
    for step in steps:
        if step.dropped or step.ended:
            continue
        try:
            if step.spec.when and not step.attempt and step.original is None and not _meets_condition(decider, step):
                continue
            if step.needs_attempt:
                decider.decision.requests.append(invoke(decider.run, step, decider.evaluator))
            else:
                begin(decider, step)
        except EvaluationFailed as error:
            give_up(decider, step, input_failure(step, error.reason, str(error)))


def _meets_condition(decider: Decider, step: StepState) -> bool:
    """Say whether a step's condition holds. If it does not, the step is skipped."""
    if holds(decider.run, step, decider.evaluator):
        return True
    decider.finish_step(step, State.SKIPPED, skip=Skip(SkipCause.CONDITION))
    return False


def _finish_waves(decider: Decider) -> None:
    run = decider.run
    if not run.open:
        for wave in sorted(run.waves_done):
            decider.emit(WaveFinished(decider.now, wave))


def _watch_cleanup(decider: Decider) -> None:
    """Start the timers of clean-ups after fail-fast failures."""
    agenda = decider.decision.agenda
    for scope in agenda.to_clean_up:
        if scope.stopping is None and scope.cleaning_up:
            decider.command(StartTimer(Timer("cleanup", scope.step_id), scope.failed_time + CLEANUP_GRACE))
    agenda.to_clean_up.clear()


def attempt_of(run: RunState, step_id: str, attempt: int) -> StepState | None:
    """Return the step of a running attempt; `None`: the attempt has ended."""
    step = run.running.get(step_id)
    return step if step is not None and step.attempt == attempt else None


def _skip(step: StepState) -> Skip:
    scope = step.scope
    if step.unneeded:
        return Skip(SkipCause.NOT_NEEDED, step.unneeded)
    if step.join_failed and step.blame is not None and (step.blame.state is State.FAILED or step.admitted):
        return Skip(SkipCause.DEPENDENCY, step.blame.id)
    if scope.stopping is None:
        return Skip(SkipCause.FAIL_FAST, scope.failed_by)
    match scope.stopping.cause:
        case FailureCause.STEP_FAILED:
            return Skip(SkipCause.FAIL_FAST, scope.stopped_by)
        case FailureCause.NOT_NEEDED:
            return Skip(SkipCause.NOT_NEEDED, scope.stopped_by)
        case cause:
            late = scope.stopping.reason is Reason.TIMEOUT or cause in TIMEOUTS
            return Skip(SkipCause.TIMEOUT if late else SkipCause.CANCELLED)
