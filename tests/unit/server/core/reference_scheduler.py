"""A slow, obvious scheduler, written from DESIGN §4, to compare the core with.

It gives the expected state of every step. After each input it looks at everything again. It makes no events, keeps no
counts, and knows no internals of the core.
"""

from collections.abc import Iterable
from dataclasses import replace

from stepwave_server.core.messages import (
    AddSteps,
    AttemptExpanded,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    Input,
    Started,
    StepCompleted,
    Timer,
    TimerFired,
)
from stepwave_server.core.model import (
    MAX_NESTING,
    WAIT_ACTION,
    Failure,
    FallbackAction,
    Join,
    OnInterrupt,
    Reason,
    Scheduling,
    SkipCause,
    State,
    Step,
    Workflow,
)
from unit.server.core.reference_state import Graph, ReferenceState

__all__ = ["ReferenceScheduler"]


class ReferenceScheduler(ReferenceState):
    """Brings the expected state of a run up to date with its inputs."""

    def take(self, given: Input, now: int) -> None:
        """Take an input; `now`: nanoseconds since the epoch."""
        if self.run_state is not None:
            return
        self.now = now
        match given:
            case Started():
                self.started = True
            case AttemptStarted():
                self._start(given.step_id)
            case AttemptSucceeded():
                self._end(given.step_id, State.SUCCEEDED)
            case AttemptFailed() | AttemptInterrupted():
                self._fail(given.step_id, given.failure, by_cancel=isinstance(given, AttemptInterrupted))
            case AttemptExpanded():
                self._expand(given.step_id, given.workflow)
            case StepCompleted():
                self._complete(given)
            case AttemptLost():
                self._interrupt_by_restart(given.step_id, drained=given.drained)
            case TimerFired():
                self._fire(given.timer)
            case CancelRequested():
                self._stop(self.root, SkipCause.CANCELLED)
            case AddSteps():
                self._add(given)
        self._update_all()

    def _fire(self, timer: Timer) -> None:
        if timer.kind == "backoff":
            self._queue_again(timer.step_id)
        elif timer.kind == "own" and timer.step_id in self.running:
            self._end_wait(timer.step_id)
        elif timer.step_id in self.inner:
            self._stop(self.inner[timer.step_id], SkipCause.TIMEOUT)
        elif timer.kind == "total" and (timer.step_id not in self.running or self._waits(self.steps[timer.step_id])):
            self._run_out(timer.step_id)
        elif not timer.step_id:
            self._stop(self.root, SkipCause.TIMEOUT)

    def _end_wait(self, step_id: str) -> None:
        """Take the timeout of a step that waits: its own one, or the total one."""
        if self._time_left(step_id) <= 0:
            self._run_out(step_id)
        else:
            self._fail(step_id, Failure(Reason.TIMEOUT, "", retryable=True), by_cancel=False)

    def _complete(self, given: StepCompleted) -> None:
        if given.failure is None:
            self._end(given.step_id, State.SUCCEEDED)
        else:
            self._fail(given.step_id, given.failure, by_cancel=False)

    def _start(self, step_id: str) -> None:
        if step_id not in self.places:
            return
        if self._time_left(step_id) <= 0:
            self._run_out(step_id)
            return
        self.running.add(step_id)
        self.tries[step_id] += 1
        self.state[step_id] = State.RUNNING

    def _run_out(self, step_id: str) -> None:
        """Fail a step for its total timeout, which bounds its own action alone."""
        if step_id in self.ready_at and step_id not in self.fell_back and not self._ended(step_id):
            self._give_up(step_id)

    def _fail(self, step_id: str, failure: Failure, *, by_cancel: bool) -> None:
        """Take the end of an attempt. Another attempt may follow."""
        if step_id not in self.running:
            return
        if by_cancel and failure.reason is Reason.CANCELLED:
            self._end(step_id, State.CANCELLED)
            return
        pause = self._pause(step_id, failure)
        if pause is None or pause >= self._time_left(step_id) or not self._may_run(self.steps[step_id]):
            self._give_up(step_id)
            return
        self.running.remove(step_id)
        if pause:
            self._leave_place(step_id)
            self.backing.add(step_id)

    def _leave_place(self, step_id: str) -> None:
        if step_id in self.places:
            self.places.remove(step_id)

    def _give_up(self, step_id: str) -> None:
        """Let the fallback answer, or else fail the step."""
        step = self.steps[step_id]
        if step.fallback is None or step_id in self.fell_back or not self._may_run(step):
            self._end(step_id, State.FAILED)
            return
        self.fell_back.add(step_id)
        if not isinstance(step.fallback, FallbackAction):
            self._end(step_id, State.SUCCEEDED)
            return
        self.losses[step_id] = 0
        self.running.discard(step_id)
        self.inner.pop(step_id, None)
        self._queue_again(step_id)

    def _queue_again(self, step_id: str) -> None:
        """Queue a step in a backoff for a place, behind all others."""
        if step_id in self.backing:
            self.backing.remove(step_id)
            self.ready.remove(step_id)
            self.ready.append(step_id)

    def _interrupt_by_restart(self, step_id: str, *, drained: bool) -> None:
        """Take an attempt that a restart interrupted. It starts again up to three times, and after every drain."""
        step = self.steps[step_id]
        if step_id not in self.running:
            return
        if not self._may_run(step):
            self._end(step_id, State.CANCELLED)
        elif step.on_interrupt is OnInterrupt.FAIL or (self.losses[step_id] == 3 and not drained):
            self._give_up(step_id)
        else:
            (self.drains if drained else self.losses)[step_id] += 1
            self.tries[step_id] -= 1
            self.running.remove(step_id)

    def _add(self, given: AddSteps) -> None:
        if not self.open:
            return
        self.add_steps(self.root, [step for step in given.steps if step.id not in self.steps])
        self.open = not given.seal

    def _stop(self, graph: Graph, cause: SkipCause) -> None:
        if not self._halted(graph):
            graph.stopping = cause

    def _end(self, step_id: str, state: State) -> None:
        self._leave_place(step_id)
        self.inner.pop(step_id, None)
        self.running.discard(step_id)
        self.backing.discard(step_id)
        self.state[step_id] = state

    def _update_all(self) -> None:
        """Look at all steps until nothing changes."""
        while self.started:
            self._update()
            skipped = next((step for step in self.steps.values() if self._must_be_skipped(step)), None)
            cancelled = [step for step in self.steps.values() if self._must_be_cancelled(step)]
            undecided = [step for step in self.steps.values() if step.id in self.places and self._is_undecided(step)]
            complete = [step_id for step_id, graph in self.inner.items() if all(map(self._ended, graph.members))]
            if skipped is not None:
                self._skip(skipped)
            elif cancelled:
                self._end(cancelled[0].id, State.CANCELLED)
            elif complete:
                self._close(complete[0])
            elif undecided:
                self._decide(undecided)
            else:
                return

    def _update(self) -> None:
        self._find_failures()
        if self.root.stopping is not None or self._failing(self.root):
            self.open = False
        self._meet_joins()
        self._invoke_ready()

    # What begins, and what steps become.

    def _has_condition(self, step: Step) -> bool:
        """Return whether the condition of a step is still to be evaluated."""
        lost = self.losses[step.id] + self.drains[step.id]
        first = not self.tries[step.id] and not lost and step.id not in self.fell_back
        return bool(step.when) and first and step.id not in self.passed

    def _is_undecided(self, step: Step) -> bool:
        """Return whether more is to be decided on a step than the start of its attempt."""
        return self._has_condition(step) or self._lacks_input(step) or (step.internal and step.id not in self.fell_back)

    def _decide(self, steps: Iterable[Step]) -> None:
        """Decide on steps that may begin. The first failure may stop the others."""
        for step in steps:
            if not self._may_run(step) or self._ended(step.id):
                continue
            if self._has_condition(step) and step.when != "true":
                self._refuse(step)
            elif self._lacks_input(step):
                self._give_up(step.id)
            elif step.internal and step.id not in self.fell_back:
                self._begin(step)
            self.passed.add(step.id)
            self._update()

    def _refuse(self, step: Step) -> None:
        if step.when == "error":
            self._give_up(step.id)
            return
        self.skips[step.id] = {(SkipCause.CONDITION, "")}
        self._end(step.id, State.SKIPPED)

    def _begin(self, step: Step) -> None:
        """Let a step become several, or wait to be completed."""
        self._leave_place(step.id)
        self.state[step.id] = State.RUNNING
        if step.for_each is not None:
            count = len([item for item in str(step.for_each.source).strip("[]").split(",") if item])
            around = self.graph[step.id]
            child = replace(step, for_each=None, when="", total_timeout=None, depends_on=(), join=Join.ALL)
            policies = replace(around.workflow, scheduling=Scheduling.EAGER, outputs=())
            graph = self.inner[step.id] = Graph(policies, step.id, around.depth)
            self.add_steps(graph, [replace(child, id=f"{step.id}[{item}]") for item in range(count)])
        elif step.workflow is not None:
            self._nest(step.id, step.workflow)
        else:
            self.running.add(step.id)
            self.tries[step.id] += 1

    def _nest(self, step_id: str, workflow: Workflow) -> None:
        graph = self.inner[step_id] = Graph(workflow, step_id, self.graph[step_id].depth + 1)
        self.add_steps(graph, workflow.steps, f"{step_id}/")

    def _expand(self, step_id: str, workflow: Workflow) -> None:
        """Take the workflow that an attempt chose."""
        if step_id not in self.running:
            return
        if not self._may_run(self.steps[step_id]):
            self._end(step_id, State.CANCELLED)
        elif self.graph[step_id].depth + _depth(workflow) > MAX_NESTING:
            self._give_up(step_id)
        else:
            self.running.remove(step_id)
            self._leave_place(step_id)
            self._nest(step_id, workflow)

    def _close(self, step_id: str) -> None:
        """End a step all of whose nested steps have ended."""
        graph = self.inner[step_id]
        whole = all(self.state[member] is State.SUCCEEDED for member in graph.members)
        if graph.stopping is not None and not whole:
            self._give_up(step_id)
        elif self._halted(graph) and not whole:
            self._end(step_id, State.CANCELLED)
        elif graph.culprits:
            self._give_up(step_id)
        else:
            self._end(step_id, State.SUCCEEDED)

    def _waits(self, step: Step) -> bool:
        return step.action == WAIT_ACTION and step.for_each is None and step.id not in self.fell_back

    # What may run, and what does.

    def _meet_joins(self) -> None:
        """Mark steps whose join is met. A join that is met stays met, and its losers may be cancelled."""
        for step in self.steps.values():
            if step.id not in self.began and self.state[step.id] is State.PENDING:
                placed = not self.open or self._wave(step.id) is not None
                if self._may_run(step) and self._met(step) and placed:
                    self.began.add(step.id)
                    self._release_losers(step)

    def _release_losers(self, winner: Step) -> None:
        graph = self.graph[winner.id]
        if winner.join is not Join.ANY or (self.open and graph is self.root):
            return
        prefix = f"{graph.owner}/" if graph.owner else ""
        outputs = {prefix + output for output in graph.workflow.outputs}
        self.released[winner.id] = self._answered(winner)
        for loser in winner.dependencies():
            needed = any(step.id not in self.released for step in self._dependents(loser))
            if not needed and not self._ended(loser) and loser not in outputs:
                self.unneeded[loser] = self._answered(winner)

    def _invoke_ready(self) -> None:
        """Invoke steps in the order in which they became ready; at equal times in declaration order."""
        for step in self.steps.values():
            if step.id in self.began and step.id not in self.ready and self._is_scheduled(step):
                self.ready.append(step.id)
                self.ready_at[step.id] = self.now
        for step_id in self.ready:
            waits = not self._ended(step_id) and step_id not in self.backing and step_id not in self.places
            begun = step_id in self.inner or (step_id in self.running and self._waits(self.steps[step_id]))
            full = 0 < self.root.workflow.max_parallelism <= len(self.places)
            if waits and not begun and not full and self._may_run(self.steps[step_id]):
                self.places.append(step_id)

    # What fails, and what is skipped for it.

    def _find_failures(self) -> None:
        """Find unhandled failures. The first ones found are the culprits from then on."""
        for graph in (self.root, *self.inner.values()):
            if not graph.culprits:
                graph.culprits = {member for member in graph.members if self._is_unhandled(self.steps[member])}

    def _skip(self, step: Step) -> None:
        if step.id in self.unneeded:
            reasons = {(SkipCause.NOT_NEEDED, winner) for winner in self.unneeded[step.id]}
        else:
            reasons = {(SkipCause.DEPENDENCY, culprit) for culprit in self._blamed_steps(step)}
        if not self._may_run(step) and step.id not in self.unneeded:
            reasons |= self._halt_reasons(self.graph[step.id])
        self.skips[step.id] = reasons
        self._end(step.id, State.SKIPPED)


def _depth(workflow: Workflow) -> int:
    """Return how deep workflows are nested in each other, this one included."""
    return 1 + max((_depth(step.workflow) for step in workflow.steps if step.workflow is not None), default=0)
