"""How events change a run. Its state changes in no other way.

A run costs O(steps + edges): each end of a step counts down its dependents' unmet dependencies. The join of a
step is decided (the step is ready, or dropped) when its last dependency has ended, so its `step_finished` comes after
theirs. An `ANY` join that is met is decided at once.
"""

import heapq
from collections.abc import Iterable
from operator import attrgetter
from typing import assert_never

from .failures import stop_failure
from .messages import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepExpanded,
    StepFinished,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepsReused,
    StepStarted,
    StepStopping,
    WaveFinished,
    WaveStarted,
)
from .model import Failure, FailureCause, Join, Payload, Reason, State, Workflow
from .places import enqueue, let_in, release
from .scopes import expand, root_of
from .state import Agenda, RunOptions, RunState, Scope, StepState
from .wiring import account, add_steps, forget_unknown

__all__ = ["evolve", "fold", "new_run"]

MAX_FAILURES = 100

_by_index = attrgetter("index")


def new_run(workflow: Workflow, input: Payload = "null", options: RunOptions | None = None) -> RunState:
    """Return a run before its first event. The workflow must be valid."""
    run = RunState(workflow, input, options or RunOptions(), root_of(workflow))
    run.open = run.options.open
    add_steps(run, run.root, workflow.steps)
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
            enqueue(run, agenda, run.backing_off.pop(event.step_id))
        case _:
            _evolve_rare(run, agenda, event)
    if run.stirred:
        let_in(run, agenda)


def _evolve_rare(
    run: RunState,
    agenda: Agenda,
    event: StepExpanded | StepStopping | StepsAdded | StepsReused | RunStopping | RunFinished,
) -> None:
    match event:
        case StepExpanded():
            _step_expanded(run, agenda, event)
        case StepStopping():
            _step_stopping(run, agenda, event)
        case StepsAdded():
            _steps_added(run, agenda, event)
        case StepsReused():
            run.reused.update(event.outputs)
            run.reused_from = event.run_id
        case RunStopping():
            _run_stopping(run, agenda, event)
        case RunFinished():
            run.finished = event.state
        case _:
            assert_never(event)


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
    _begin(run, step)
    step.attempt = event.attempt
    step.deadline = event.deadline or 0
    run.running[step.id] = step


def _begin(run: RunState, step: StepState) -> None:
    if step.state is State.PENDING:
        step.start_time = run.time
        _count(run, step, State.RUNNING)


def _step_expanded(run: RunState, agenda: Agenda, event: StepExpanded) -> None:
    """Let a step become several. An attempt that chose its workflow is over, and gives its places back."""
    step = run.steps[event.step_id]
    _begin(run, step)
    run.running.pop(step.id, None)
    expand(run, step, event)
    scope = step.inner
    assert scope is not None, "it was just expanded"
    for child in scope.steps:
        if child.pending == 0:
            _resolve_join(run, agenda, child)
    if run.dispatched.pop(step.id, None) is not None:  # its own steps are the first to get its places
        release(run, step, keep=1 if step.scope.is_list and step.scope.limit else 0)
    if not scope.unfinished:
        agenda.to_close.append(step)


def _step_stopping(run: RunState, agenda: Agenda, event: StepStopping) -> None:
    scope = run.steps[event.step_id].inner
    assert scope is not None, "only a step that became several is stopped"
    scope.stopping = event.failure
    _halt(run, agenda, scope)


def _step_retrying(run: RunState, agenda: Agenda, event: StepRetrying) -> None:
    """End a running attempt. Its step gives up its places if it pauses, else keeps them."""
    step_id = event.step_id
    step = run.steps[step_id]
    run.running.pop(step_id, None)
    internal = step.inner is not None or not step.needs_attempt
    step.abandoned = step.abandoned or event.abandoned
    if event.fallback and step.original is None:
        step.original, step.interruptions, step.crashes = event.failure, 0, 0
        step.inner = None
    elif event.failure.reason is Reason.INTERRUPTED:
        step.interruptions += 1
        step.crashes += event.failure.cause is not FailureCause.DRAINED
    if event.next_time > event.time:
        step.due = event.next_time
        run.dispatched.pop(step_id, None)
        release(run, step)
        run.backing_off[step_id] = step
    elif step_id in run.dispatched:
        agenda.to_invoke.append(step)
    elif internal or step_id in run.backing_off:  # its total timeout may have passed in a pause
        run.backing_off.pop(step_id, None)
        release(run, step)
        enqueue(run, agenda, step)  # else it waits for a place already


def _step_finished(run: RunState, agenda: Agenda, event: StepFinished) -> None:
    step = run.steps[event.step_id]
    scope = step.scope
    _count(run, step, event.state)
    step.end_time = event.time
    step.finish = run.sequence
    step.output, step.failure, step.skip, step.abandoned = event.output, event.failure, event.skip, event.abandoned
    step.original = event.original
    if step.dropped:
        heapq.heappop(run.dropped)
    if step.dispatched:
        run.dispatched.pop(step.id, None)
        run.running.pop(step.id, None)
        if run.backing_off:
            run.backing_off.pop(step.id, None)
    if step.held:
        release(run, step)
    if run.queued:
        run.queued.pop(step.id, None)
    scope.unfinished -= 1
    if event.state is State.SUCCEEDED:
        _answer(run, agenda, step)
    else:
        _leave_unanswered(run, agenda, step)
    left = run.wave_left[step.wave] = run.wave_left[step.wave] - 1
    if not left and step.wave in run.waves_open:
        run.waves_done.add(step.wave)
    if not scope.eager:
        scope.level_left[step.level] -= 1
        _advance_barrier(run, agenda, scope)
    if not scope.unfinished and scope.owner is not None:
        agenda.to_close.append(scope.owner)


def _steps_added(run: RunState, agenda: Agenda, event: StepsAdded) -> None:
    placed = add_steps(run, run.root, event.steps)
    if event.sealed:
        run.open = False
    for spec in event.steps:
        if spec.join is Join.ALL:
            _fail_late(run, agenda, run.steps[spec.id])
    for step in sorted(placed, key=_by_index):
        if step.pending == 0 or (step.spec.join is Join.ANY and step.answered):
            _resolve_join(run, agenda, step)


def _run_stopping(run: RunState, agenda: Agenda, event: RunStopping) -> None:
    run.root.stopping = event.failure
    _note_failure(run, event.failure)
    _halt(run, agenda, run.root)


def _answer(run: RunState, agenda: Agenda, step: StepState) -> None:
    """Count a success for the step's dependents. It is the most frequent end, so it has a function of its own."""
    for dependent in step.dependents:
        dependent.pending -= 1
        dependent.answered += 1
        if not dependent.pending or dependent.spec.join is Join.ANY:
            _resolve_join(run, agenda, dependent)


def _leave_unanswered(run: RunState, agenda: Agenda, step: StepState) -> None:
    """Count an end without success for the step's dependents, and fail its scope if nothing handles the failure."""
    failed = step.state is State.FAILED
    if failed and step.failure is not None:
        _note_failure(run, step.failure)
    for dependent in step.dependents:
        _dependency_ended(run, agenda, dependent, step)
    if failed and not _handled(step):
        _fail(run, agenda, step)


def _dependency_ended(run: RunState, agenda: Agenda, step: StepState, dep: StepState) -> None:
    step.pending -= 1
    account(step, dep)
    if step.pending == 0 or (step.spec.join is Join.ANY and step.answered and not step.join_met):
        _resolve_join(run, agenda, step)


def _resolve_join(run: RunState, agenda: Agenda, step: StepState) -> None:
    """Decide the join of a step: it may begin, or is dropped."""
    if step.join_met or step.dropped or not run.started or step.wave < 0:
        return
    if step.admitted and _join_is_met(step):
        _mark_met(run, agenda, step)
    elif step.pending == 0:
        if step.admitted:
            _fail_late(run, agenda, step)
        _drop(run, step)


def _mark_met(run: RunState, agenda: Agenda, step: StepState) -> None:
    step.join_met = True
    scope = step.scope
    if step.spec.join is Join.ANY and step.deps:
        _release_losers(run, agenda, step)
    if scope.eager or step.level <= scope.barrier:
        _make_ready(run, agenda, step)
    else:
        scope.behind_barrier.setdefault(step.level, []).append(step)


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
    enqueue(run, agenda, step)
    if step.spec.total_timeout is not None:
        agenda.to_time.append(step)


def _drop(run: RunState, step: StepState) -> None:
    if not step.dropped:
        step.dropped = True
        heapq.heappush(run.dropped, step.index)


def _fail_late(run: RunState, agenda: Agenda, step: StepState) -> None:
    """Fail the scope for a failure that counted as handled until this join needed the failed step."""
    if step.blame is not None and step.blame.state is State.FAILED and not step.blame.spec.allow_failure:
        _fail(run, agenda, step.blame)


def _release_losers(run: RunState, agenda: Agenda, winner: StepState) -> None:
    """Drop or interrupt the dependencies that only met `ANY` joins waited for.

    Not in an open run: others may still come to need them.
    """
    scope = winner.scope
    if run.open and scope is run.root:
        return
    answer = next(dep_id for dep_id in winner.deps if run.steps[dep_id].state is State.SUCCEEDED)
    for dep_id in winner.deps:
        dep = run.steps[dep_id]
        dep.needed_by -= 1
        if not dep.needed_by and not dep.ended and dep.spec.id not in scope.workflow.outputs:
            dep.unneeded = answer
            _end_early(run, agenda, dep)


def _end_early(run: RunState, agenda: Agenda, step: StepState) -> None:
    """End a step that is not admitted any more, unless its join is still open: then its dependencies decide."""
    if step.id in run.running:
        agenda.to_interrupt.append(step)
    elif step.inner is not None:
        _stop(run, agenda, step.inner, step)
    elif step.join_met:
        _drop(run, step)


def _handled(step: StepState) -> bool:
    """Say whether a failure is handled: it is allowed, or no dependent's join needs the step."""
    if step.spec.allow_failure:
        return True
    return bool(step.dependents) and all(_does_without(dependent) for dependent in step.dependents)


def _does_without(step: StepState) -> bool:
    if step.spec.join is Join.ALL_DONE or step.unneeded:
        return True
    return step.spec.join is Join.ANY and (step.join_met or step.pending > 0)


def _fail(run: RunState, agenda: Agenda, step: StepState) -> None:
    scope = step.scope
    scope.failed += 1
    if scope.failed_by:
        return
    scope.failed_by = step.id
    scope.failed_time = run.time
    if scope.fails_fast:
        if scope.stopping is None:
            agenda.to_clean_up.append(scope)
        _halt(run, agenda, scope)


def _halt(run: RunState, agenda: Agenda, scope: Scope) -> None:
    """End every step that has begun or could begin, and may not any more. Dependents of running steps follow."""
    for step in scope.steps:
        if not step.ended and not step.admitted:
            _end_early(run, agenda, step)
    if run.open and scope is run.root:
        for step in sorted(forget_unknown(run), key=_by_index):
            if step.pending == 0:
                _resolve_join(run, agenda, step)


def _stop(run: RunState, agenda: Agenda, scope: Scope, owner: StepState) -> None:
    """Stop a nested graph, because its owner may not go on. Graphs are nested `MAX_NESTING` deep at most."""
    if scope.stopping is None:
        scope.stopping = stop_failure(owner)
        scope.stopped_by = owner.unneeded or owner.scope.stopped_by or owner.scope.failed_by
        _halt(run, agenda, scope)


def _advance_barrier(run: RunState, agenda: Agenda, scope: Scope) -> None:
    while scope.barrier < len(scope.level_left) and scope.level_left[scope.barrier] == 0:
        scope.barrier += 1
        for step in sorted(scope.behind_barrier.pop(scope.barrier, ()), key=_by_index):
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
