"""Places for attempts: `max_parallelism` of the run, of its lists and of its nested workflows.

A step passes the gates of its scopes one after the other, from the inside out, and takes a place at each. A place that
it has taken stays its own while it waits at the next gate. Steps wait in the order in which they became ready. The
steps of a nested workflow come in the order of the step that runs it: so an item that has begun goes on before later
items begin.
"""

import heapq

from .state import Agenda, RunState, StepState

__all__ = ["enqueue", "let_in", "release"]


def enqueue(run: RunState, agenda: Agenda, step: StepState) -> None:
    """Let a ready step begin, or wait at its first gate."""
    scope = step.scope
    if not (step.internal or scope.gates):  # as most steps are
        step.dispatched = step.dispatched or run.sequence
        run.dispatched[step.id] = step
        agenda.to_invoke.append(step)
        return
    run.arrivals += 1
    step.order = (*scope.order, run.arrivals)
    if step.needs_attempt:
        step.gates = scope.gates
    else:
        step.gates = (scope,) if scope.is_list and scope.limit else ()
    _go_on(run, agenda, step)


def _go_on(run: RunState, agenda: Agenda, step: StepState) -> None:
    if step.held == len(step.gates):
        step.dispatched = step.dispatched or run.sequence
        if step.needs_attempt:
            run.dispatched[step.id] = step
        agenda.to_invoke.append(step)
        return
    gate = step.gates[step.held]
    run.queued[step.id] = step
    heapq.heappush(gate.queue, (step.order, step))
    run.stirred.append(gate)


def let_in(run: RunState, agenda: Agenda) -> None:
    """Give free places to the steps that wait for them."""
    for gate in run.stirred:  # grows as it goes
        while gate.queue and gate.used < gate.limit:
            _, step = heapq.heappop(gate.queue)
            if step.dropped or step.ended:
                continue
            del run.queued[step.id]
            gate.used += 1
            step.held += 1
            _go_on(run, agenda, step)
    run.stirred.clear()


def release(run: RunState, step: StepState, keep: int = 0) -> None:
    """Take the places of a step back, but for the first ones."""
    for gate in step.gates[keep : step.held]:
        gate.used -= 1
        if gate.queue:
            run.stirred.append(gate)
    step.held = min(step.held, keep)
