"""How events change a run. Its state changes in no other way.

A run costs O(steps + edges): each end of a step counts down its dependents' unmet dependencies. The join of a
step is decided (the step is ready, or dropped) when its last dependency has ended, so its `step_finished` comes after
theirs. An `ANY` join that is met is decided at once.
"""

import heapq
from collections.abc import Iterable
from operator import attrgetter
from typing import assert_never

from .messages import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepFinished,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepStarted,
    WaveFinished,
    WaveStarted,
)
from .model import Failure, Join, Payload, Reason, State, Workflow
from .state import Agenda, RunOptions, RunState, StepState
from .wiring import account, add_steps, forget_unknown

__all__ = ["evolve", "fold", "new_run"]

MAX_FAILURES = 100

_by_index = attrgetter("index")


def new_run(workflow: Workflow, input: Payload = "null", options: RunOptions | None = None) -> RunState:
    """Return a run before its first event. The workflow must be valid."""
    run = RunState(workflow, input, options or RunOptions())
    run.open = run.options.open
    add_steps(run, workflow.steps)
    return run


def fold(run: RunState, events: Iterable[Event]) -> RunState:
    """Apply events in order, and return the run. What they leave to do is for `resume` to find again."""
    for event in events:
        evolve(run, event, Agenda())
    return run


def evolve(run: RunState, event: Event, agenda: Agenda) -> None:
    """Apply one event, and note on the agenda what it leaves to do."""
    run.sequence += 1
    run.time = event.time
    match event:  # the most frequent first
        case StepFinished():
            _step_finished(run, agenda, event)
        case StepStarted():
            _step_started(run, event)
        case WaveStarted():
            run.waves_open.add(event.wave)
        case WaveFinished():
            run.waves_open.discard(event.wave)
            run.waves_done.discard(event.wave)
        case RunStarted():
            _run_started(run, agenda, event)
        case StepRetrying():
            _step_retrying(run, agenda, event)
        case StepReady():
            run.ready.append(run.backing_off.pop(event.step_id))
        case StepsAdded():
            _steps_added(run, agenda, event)
        case RunStopping():
            _run_stopping(run, agenda, event)
        case RunFinished():
            run.finished = event.state
        case _:
            assert_never(event)
    if run.ready:
        _dispatch(run, agenda)


def _run_started(run: RunState, agenda: Agenda, event: RunStarted) -> None:
    run.start_time = event.time
    run.deadline = event.deadline
    if event.more:
        return
    run.started = True
    for step in run.by_index:
        if step.pending == 0:
            _resolve_join(run, agenda, step)


def _step_started(run: RunState, event: StepStarted) -> None:
    step = run.steps[event.step_id]
    if step.state is State.PENDING:
        step.start_time = event.time
        _count(run, step, State.RUNNING)
    step.attempt = event.attempt
    step.deadline = event.deadline
    run.running[step.spec.id] = step


def _step_retrying(run: RunState, agenda: Agenda, event: StepRetrying) -> None:
    """End a running attempt. Its step gives up its place if it pauses, else keeps it."""
    step_id = event.step_id
    step = run.steps[step_id]
    run.running.pop(step_id, None)
    step.abandoned = step.abandoned or event.abandoned
    if event.fallback and step.original is None:
        step.original, step.interruptions = event.failure, 0
    elif event.failure.reason is Reason.INTERRUPTED:
        step.interruptions += 1
    if event.next_time > event.time:
        step.due = event.next_time
        run.backing_off[step_id] = run.dispatched.pop(step_id)
    elif step_id in run.dispatched:
        agenda.to_invoke.append(step)
    elif step_id in run.backing_off:  # its total timeout passed; else it waits for a place already
        run.ready.append(run.backing_off.pop(step_id))


def _step_finished(run: RunState, agenda: Agenda, event: StepFinished) -> None:
    step = run.steps[event.step_id]
    _count(run, step, event.state)
    step.end_time = event.time
    step.finish = run.sequence
    step.output, step.failure, step.skip, step.abandoned = event.output, event.failure, event.skip, event.abandoned
    step.original = event.original
    if step.dropped:
        heapq.heappop(run.dropped)
    if step.dispatched:
        run.dispatched.pop(step.spec.id, None)
        run.running.pop(step.spec.id, None)
        if run.backing_off:
            run.backing_off.pop(step.spec.id, None)
    run.unfinished -= 1
    if event.state is State.SUCCEEDED:
        _answer(run, agenda, step)
    else:
        _leave_unanswered(run, agenda, step)
    left = run.wave_left[step.wave] = run.wave_left[step.wave] - 1
    if not left:
        if step.wave in run.waves_open:
            run.waves_done.add(step.wave)
        _advance_barrier(run, agenda)


def _steps_added(run: RunState, agenda: Agenda, event: StepsAdded) -> None:
    placed = add_steps(run, event.steps)
    if event.sealed:
        run.open = False
    for spec in event.steps:
        if spec.join is Join.ALL:
            _fail_late(run, agenda, run.steps[spec.id])
    for step in sorted(placed, key=_by_index):
        if step.pending == 0 or (step.spec.join is Join.ANY and step.answered):
            _resolve_join(run, agenda, step)


def _run_stopping(run: RunState, agenda: Agenda, event: RunStopping) -> None:
    run.stopping = event.failure
    _note_failure(run, event.failure)
    _halt(run, agenda)


def _answer(run: RunState, agenda: Agenda, step: StepState) -> None:
    """Count a success for the step's dependents. It is the most frequent end, so it has a function of its own."""
    for dependent in step.dependents:
        dependent.pending -= 1
        dependent.answered += 1
        if not dependent.pending or dependent.spec.join is Join.ANY:
            _resolve_join(run, agenda, dependent)


def _leave_unanswered(run: RunState, agenda: Agenda, step: StepState) -> None:
    """Count an end without success for the step's dependents, and fail the run if nothing handles the failure."""
    failed = step.state is State.FAILED
    if failed and step.failure is not None:
        _note_failure(run, step.failure)
    for dependent in step.dependents:
        _dependency_ended(run, agenda, dependent, step)
    if failed and not _handled(step):
        _fail(run, agenda, step.spec.id)


def _dependency_ended(run: RunState, agenda: Agenda, step: StepState, dep: StepState) -> None:
    step.pending -= 1
    account(step, dep)
    if step.pending == 0 or (step.spec.join is Join.ANY and step.answered and not step.join_met):
        _resolve_join(run, agenda, step)


def _resolve_join(run: RunState, agenda: Agenda, step: StepState) -> None:
    """Decide the join of a step: it may begin, or is dropped."""
    if step.join_met or step.dropped or not run.started or step.wave < 0:
        return
    if run.admits(step) and _join_is_met(step):
        _mark_met(run, agenda, step)
    elif step.pending == 0:
        if run.admits(step):
            _fail_late(run, agenda, step)
        _drop(run, step)


def _mark_met(run: RunState, agenda: Agenda, step: StepState) -> None:
    step.join_met = True
    if step.spec.join is Join.ANY and step.deps:
        _release_losers(run, agenda, step)
    if run.eager or step.wave <= run.barrier:
        _make_ready(run, agenda, step)
    else:
        run.behind_barrier.setdefault(step.wave, []).append(step)


def _join_is_met(step: StepState) -> bool:
    match step.spec.join:
        case Join.ALL:
            return step.blame is None
        case Join.ANY:
            return step.answered > 0 or not step.deps
        case Join.ALL_DONE:
            return True


def _make_ready(run: RunState, agenda: Agenda, step: StepState) -> None:
    step.ready_time = run.time
    run.ready.append(step)
    if step.spec.total_timeout is not None:
        agenda.to_time.append(step)


def _dispatch(run: RunState, agenda: Agenda) -> None:
    """Give the run's free places to ready steps, first come, first served."""
    most = run.workflow.max_parallelism
    while run.ready and (not most or len(run.dispatched) < most):
        step = run.ready.popleft()
        if not step.dropped and not step.ended:
            step.dispatched = step.dispatched or run.sequence
            run.dispatched[step.spec.id] = step
            agenda.to_invoke.append(step)


def _drop(run: RunState, step: StepState) -> None:
    if not step.dropped:
        step.dropped = True
        heapq.heappush(run.dropped, step.index)


def _fail_late(run: RunState, agenda: Agenda, step: StepState) -> None:
    """Fail the run for a failure that counted as handled until this join needed the failed step."""
    if step.blame is not None and step.blame.state is State.FAILED and not step.blame.spec.allow_failure:
        _fail(run, agenda, step.blame.spec.id)


def _release_losers(run: RunState, agenda: Agenda, winner: StepState) -> None:
    """Drop or interrupt the dependencies that only met `ANY` joins waited for.

    Not in an open run: others may still come to need them.
    """
    if run.open:
        return
    answer = next(dep_id for dep_id in winner.deps if run.steps[dep_id].state is State.SUCCEEDED)
    for dep_id in winner.deps:
        dep = run.steps[dep_id]
        dep.needed_by -= 1
        if not dep.needed_by and not dep.ended and dep_id not in run.workflow.outputs:
            dep.unneeded = answer
            if dep_id in run.running:
                agenda.to_interrupt.append(dep)
            elif dep.join_met:
                _drop(run, dep)


def _handled(step: StepState) -> bool:
    """Say whether a failure is handled: it is allowed, or no dependent's join needs the step."""
    if step.spec.allow_failure:
        return True
    return bool(step.dependents) and all(_does_without(dependent) for dependent in step.dependents)


def _does_without(step: StepState) -> bool:
    if step.spec.join is Join.ALL_DONE or step.unneeded:
        return True
    return step.spec.join is Join.ANY and (step.join_met or step.pending > 0)


def _fail(run: RunState, agenda: Agenda, step_id: str) -> None:
    if run.failed_by:
        return
    run.failed_by = step_id
    run.failed_time = run.time
    if run.fails_fast:
        _halt(run, agenda)


def _halt(run: RunState, agenda: Agenda) -> None:
    """Drop every step that could begin and may not any more. Dependents of running steps follow when these end."""
    agenda.to_interrupt += [step for step in run.running.values() if not run.admits(step)]
    waiting = [step for step in run.dispatched.values() if step.spec.id not in run.running]
    waiting += run.ready
    waiting += run.backing_off.values()
    waiting += [step for steps in run.behind_barrier.values() for step in steps]
    for step in waiting:
        if not run.admits(step) and not step.ended:
            _drop(run, step)
    if run.open:
        for step in sorted(forget_unknown(run), key=_by_index):
            if step.pending == 0:
                _resolve_join(run, agenda, step)


def _advance_barrier(run: RunState, agenda: Agenda) -> None:
    if run.eager:
        return
    while run.barrier < len(run.wave_left) and run.wave_left[run.barrier] == 0:
        run.barrier += 1
        for step in sorted(run.behind_barrier.pop(run.barrier, ()), key=_by_index):
            if not step.dropped and not step.ended:
                _make_ready(run, agenda, step)


def _count(run: RunState, step: StepState, state: State) -> None:
    run.counts[step.state - 1] -= 1
    run.counts[state - 1] += 1
    step.state = state


def _note_failure(run: RunState, failure: Failure) -> None:
    run.failure_count += 1
    if len(run.failures) < MAX_FAILURES:
        run.failures.append(failure)
