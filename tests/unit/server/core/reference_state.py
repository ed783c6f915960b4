"""The state of the reference scheduler, and the questions that it asks about a run."""

from collections import Counter
from collections.abc import Iterator
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

__all__ = ["ReferenceState"]


class ReferenceState:
    """The expected state of a run.

    Attributes:
        state: The state of every step.
        places: The steps that were invoked and have not ended, running or not, in order.
        running: The steps with a running attempt.
        backing: The steps in a backoff before another attempt.
        fell_back: The steps whose fallback runs or has answered.
        skips: For every skipped step, the acceptable reasons: more than one where DESIGN leaves the choice.
    """

    def __init__(self, workflow: Workflow, *, is_open: bool = False) -> None:
        self.workflow = workflow
        self.open = is_open
        self.steps = {step.id: step for step in workflow.steps}
        self.state = dict.fromkeys(self.steps, State.PENDING)
        self.skips: dict[str, set[tuple[SkipCause, str]]] = {}
        self.began: set[str] = set()
        self.ready: list[str] = []
        self.places: list[str] = []
        self.running: set[str] = set()
        self.backing: set[str] = set()
        self.fell_back: set[str] = set()
        self.losses: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()
        self.ready_at: dict[str, int] = {}
        self.now = 0
        self.released: dict[str, set[str]] = {}
        self.unneeded: dict[str, set[str]] = {}
        self.culprits: set[str] = set()
        self.started = False
        self.stopping: SkipCause | None = None

    @property
    def run_state(self) -> State | None:
        """The final state of the run; `None` while it lasts."""
        if not self.started or self.open or any(not self._ended(step_id) for step_id in self.steps):
            return None
        if self.stopping is not None:
            return State.CANCELLED if self.stopping is SkipCause.CANCELLED else State.FAILED
        return State.FAILED if self.culprits else State.SUCCEEDED

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
        if self.workflow.scheduling is Scheduling.EAGER:
            return True
        waves = {step_id: self._wave(step_id) for step_id in self.steps}
        return all(self._ended(step_id) for step_id, other in waves.items() if other is not None and other < wave)

    # What may run.

    @property
    def _failing(self) -> bool:
        return bool(self.culprits) and self.workflow.failure_policy is FailurePolicy.FAIL_FAST

    def _may_run(self, step: Step) -> bool:
        if self.stopping is not None or step.id in self.unneeded:
            return False
        return not self._failing or step.join is Join.ALL_DONE

    def _time_left(self, step_id: str) -> float:
        total = self.steps[step_id].total_timeout
        if total is None or step_id in self.fell_back:
            return inf
        return self.ready_at[step_id] + total - self.now

    def _pause(self, step_id: str, failure: Failure) -> int | None:
        """Return the backoff before another attempt, without jitter; `None`: there is no other attempt."""
        policy = self.steps[step_id].retry or self.workflow.retry
        tries = self.tries[step_id]
        if policy is None or step_id in self.fell_back or tries >= policy.max_attempts:
            return None
        if not failure.retryable or failure.reason not in policy.retryable_reasons:
            return None
        grown = policy.initial_backoff * policy.backoff_multiplier ** (tries - 1)
        return max(round(min(grown, policy.max_backoff)), failure.retry_after or 0)

    def _lacks_input(self, step: Step) -> bool:
        """Return whether the input of the next attempt cannot be put together."""
        fallback = step.fallback
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
        between = self.state[step.id] is State.RUNNING and step.id not in self.running
        return between and not self._may_run(step)

    def _blamed_steps(self, step: Step) -> set[str]:
        """Return the failed steps that keep a join from being met, directly or through skipped steps."""
        if self._met(step) or step.id in self.began:
            return set()
        culprits = set()
        for dep in step.dependencies():
            if self.state.get(dep) is State.FAILED and not (step.join is Join.ALL and self._allowed(dep)):
                culprits.add(dep)
            elif self.state.get(dep) is State.SKIPPED:
                culprits |= {culprit for cause, culprit in self.skips[dep] if cause is SkipCause.DEPENDENCY}
        return culprits
