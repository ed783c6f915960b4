"""The state of the reference scheduler, and the questions that it asks about a run."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import inf

from stepwave_server.core.model import (
    Failure,
    FailurePolicy,
    FallbackAction,
    Join,
    Scheduling,
    Skip,
    SkipCause,
    State,
    Step,
    Workflow,
)
from unit.server.core.build import NOWHERE

__all__ = ["Graph", "ReferenceState"]


@dataclass(eq=False)
class Graph:
    """The steps of a run, the children of a list, or the steps of a nested workflow.

    Attributes:
        workflow: Its policies.
        owner: The id of the step that it belongs to; empty: it is the run's own.
        depth: How many workflows it is nested in.
        members: The ids of its steps.
        culprits: Its first steps whose failure was unhandled.
        stopping: Why it was stopped by a timer or a caller; `None`: it was not.
    """

    workflow: Workflow
    owner: str = ""
    depth: int = 0
    members: list[str] = field(default_factory=list)
    culprits: set[str] = field(default_factory=set)
    stopping: SkipCause | None = None


class ReferenceState:
    """The expected state of a run.

    Attributes:
        state: The state of every step.
        places: The steps that were invoked and have not ended, running or not, in order.
        running: The steps with a running attempt.
        backing: The steps in a backoff before another attempt.
        fell_back: The steps whose fallback runs or has answered.
        graph: The graph of every step.
        inner: The graphs that steps became, until they end.
        passed: The steps whose condition held.
        skips: For every skipped step, the acceptable reasons: more than one where DESIGN leaves the choice.
    """

    def __init__(self, workflow: Workflow, *, is_open: bool = False) -> None:
        self.root = Graph(workflow)
        self.open = is_open
        self.steps: dict[str, Step] = {}
        self.state: dict[str, State] = {}
        self.graph: dict[str, Graph] = {}
        self.inner: dict[str, Graph] = {}
        self.passed: set[str] = set()
        self.skips: dict[str, set[tuple[SkipCause, str]]] = {}
        self.began: set[str] = set()
        self.ready: list[str] = []
        self.places: list[str] = []
        self.running: set[str] = set()
        self.backing: set[str] = set()
        self.fell_back: set[str] = set()
        self.losses: Counter[str] = Counter()
        self.drains: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()
        self.ready_at: dict[str, int] = {}
        self.now = 0
        self.released: dict[str, set[str]] = {}
        self.unneeded: dict[str, set[str]] = {}
        self.started = False
        self.add_steps(self.root, workflow.steps)

    def add_steps(self, graph: Graph, steps: Iterable[Step], prefix: str = "") -> None:
        """Add steps to a graph. Their ids become paths."""
        for step in steps:
            deps = tuple(prefix + dep for dep in step.dependencies())
            full = replace(step, id=prefix + step.id, depends_on=deps)
            self.steps[full.id] = full
            self.state[full.id] = State.PENDING
            self.graph[full.id] = graph
            graph.members.append(full.id)

    @property
    def run_state(self) -> State | None:
        """The final state of the run; `None` while it lasts."""
        if not self.started or self.open or any(not self._ended(step_id) for step_id in self.steps):
            return None
        if self.root.stopping is not None:
            return State.CANCELLED if self.root.stopping is SkipCause.CANCELLED else State.FAILED
        return State.FAILED if self.root.culprits else State.SUCCEEDED

    @property
    def interrupted(self) -> set[str]:
        """The running steps that are to be interrupted."""
        return {step_id for step_id in self.running if not self._may_run(self.steps[step_id])}

    def agrees(self, step_id: str, skip: Skip | None) -> bool:
        """Return whether a skip reason is acceptable."""
        return skip is not None and (skip.cause, skip.step_id) in self.skips[step_id]

    # Dependencies of a step.

    def _ended(self, step_id: str) -> bool:
        return step_id in self.state and self.state[step_id] not in {State.PENDING, State.RUNNING}

    def _dependents(self, step_id: str) -> Iterator[Step]:
        return (step for step in self.steps.values() if step_id in step.dependencies())

    def _all_ended(self, step: Step) -> bool:
        """Return whether every dependency has ended. One that was never added has ended once the run is closed."""
        return all(self._ended(dep) or (dep not in self.steps and not self.open) for dep in step.dependencies())

    def _answered(self, step: Step) -> set[str]:
        return {dep for dep in step.dependencies() if self.state.get(dep) is State.SUCCEEDED}

    def _allowed(self, dep: str) -> bool:
        return self.state.get(dep) is State.FAILED and self.steps[dep].allow_failure

    def _met(self, step: Step) -> bool:
        deps = step.dependencies()
        if step.join is Join.ANY and deps:
            return bool(self._answered(step))
        if step.join is Join.ALL_DONE:
            return self._all_ended(step)
        return all(dep in self._answered(step) or self._allowed(dep) for dep in deps)

    def _wave(self, step_id: str) -> int | None:
        """Return the wave of a step; `None` while an ancestor has not been added."""
        if step_id not in self.steps:
            return None
        waves = [self._wave(dep) for dep in self.steps[step_id].dependencies()]
        return None if None in waves else max((wave + 1 for wave in waves if wave is not None), default=0)

    def _is_scheduled(self, step: Step) -> bool:
        wave = self._wave(step.id)
        if wave is None:
            return not self.open
        graph = self.graph[step.id]
        if graph.workflow.scheduling is Scheduling.EAGER:
            return True
        waves = {step_id: self._wave(step_id) for step_id in graph.members}
        return all(self._ended(step_id) for step_id, other in waves.items() if other is not None and other < wave)

    # What may run.

    def _failing(self, graph: Graph) -> bool:
        return bool(graph.culprits) and graph.workflow.failure_policy is FailurePolicy.FAIL_FAST

    def _halted(self, graph: Graph) -> bool:
        """Return whether nothing of a graph may go on: it was stopped, or the step that it belongs to may not go on."""
        return graph.stopping is not None or (bool(graph.owner) and not self._may_run(self.steps[graph.owner]))

    def _may_run(self, step: Step) -> bool:
        graph = self.graph[step.id]
        if self._halted(graph) or step.id in self.unneeded:
            return False
        return not self._failing(graph) or step.join is Join.ALL_DONE

    def _halt_reasons(self, graph: Graph) -> set[tuple[SkipCause, str]]:
        """Return why steps of a graph may have been skipped, whatever their dependencies."""
        reasons: set[tuple[SkipCause, str]] = set()
        if graph.stopping is not None:
            reasons.add((graph.stopping, ""))
        if self._failing(graph):
            reasons |= {(SkipCause.FAIL_FAST, culprit) for culprit in graph.culprits}
        if graph.owner:
            reasons |= {(SkipCause.NOT_NEEDED, winner) for winner in self.unneeded.get(graph.owner, ())}
            reasons |= self._halt_reasons(self.graph[graph.owner])
        return reasons

    def _time_left(self, step_id: str) -> float:
        total = self.steps[step_id].total_timeout
        if total is None or step_id in self.fell_back:
            return inf
        return self.ready_at[step_id] + total - self.now

    def _pause(self, step_id: str, failure: Failure) -> int | None:
        """Return the backoff before another attempt, without jitter; `None`: there is no other attempt."""
        policy = self.steps[step_id].retry or self.graph[step_id].workflow.retry
        tries = self.tries[step_id]
        if policy is None or step_id in self.fell_back or tries >= policy.max_attempts:
            return None
        if not failure.retryable or failure.reason not in policy.retryable_reasons:
            return None
        grown = policy.initial_backoff * policy.backoff_multiplier ** (tries - 1)
        return max(round(min(grown, policy.max_backoff)), failure.retry_after or 0)

    def _lacks_input(self, step: Step) -> bool:
        """Return whether the input of the next attempt cannot be put together, or the list cannot be read."""
        fallback = step.fallback
        if step.for_each is not None and step.id not in self.fell_back:
            return step.for_each.source == "error"
        if step.id not in self.fell_back or not isinstance(fallback, FallbackAction):
            return NOWHERE in step.bindings
        own = fallback.input is not None or fallback.bindings
        return NOWHERE in (fallback.bindings if own else step.bindings)

    # What fails, and what is skipped or cancelled for it.

    def _is_unhandled(self, step: Step) -> bool:
        if self.state[step.id] is not State.FAILED or step.allow_failure:
            return False
        dependents = list(self._dependents(step.id))
        return not dependents or any(self._is_lost_without(dependent) for dependent in dependents)

    def _is_lost_without(self, step: Step) -> bool:
        if step.join is Join.ALL_DONE or step.id in self.unneeded:
            return False
        if step.join is Join.ALL:
            return True
        return step.id not in self.began and self._all_ended(step) and not self._answered(step)

    def _must_be_skipped(self, step: Step) -> bool:
        if self.state[step.id] is not State.PENDING:
            return False
        if step.id in self.began:
            return not self._may_run(step)
        return self._all_ended(step) and (not self._met(step) or not self._may_run(step))

    def _must_be_cancelled(self, step: Step) -> bool:
        """Return whether a step is between two attempts and may not start the second."""
        between = self.state[step.id] is State.RUNNING and step.id not in self.running and step.id not in self.inner
        return between and not self._may_run(step)

    def _blamed_steps(self, step: Step) -> set[str]:
        """Return the failed steps that keep a join from being met, directly or through skipped steps."""
        if self._met(step) or step.id in self.began:
            return set()
        culprits = set()
        for dep in step.dependencies():
            failed = self.state.get(dep) is State.FAILED and not (step.join is Join.ALL and self._allowed(dep))
            if failed or self.skips.get(dep) == {(SkipCause.CONDITION, "")}:
                culprits.add(dep)
            elif self.state.get(dep) is State.SKIPPED:
                culprits |= {culprit for cause, culprit in self.skips[dep] if cause is SkipCause.DEPENDENCY}
        return culprits
