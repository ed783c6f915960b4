"""Why a run does not move: what each of its steps does or waits for, read from its state and its attempts."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, islice

from stepwave_server.actions.code_location import current_line, with_text
from stepwave_server.core.explanation import Explanation, StepExplanation, WaitCause
from stepwave_server.core.model import Join
from stepwave_server.core.state import RunState, StepState
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.runs.run import LocalRun

__all__ = ["MOST_STEPS", "explain", "with_texts"]

MOST_STEPS = 500
"""Steps that an explanation has at most."""

MOST_WAITED_FOR = 10
"""Steps that it names at most as those that one waits for."""


def explain(run: LocalRun, now: int, options: EngineOptions) -> Explanation:
    """Say what a run waits for. The lines of code have no text yet: that is read from files."""
    state = run.state
    left = [step for step in state.by_index if not step.ended]
    running = [step for step in left if step.spec.id in state.running]
    others = [step for step in left if step.spec.id not in state.running]
    telling = chain(running, filter(_may_start, others), (step for step in others if not _may_start(step)))
    explainer = _Explainer(run, options, _holding(state, left))
    steps = tuple(explainer.explain(step) for step in islice(telling, MOST_STEPS))
    return Explanation(run.info(), now, steps, len(left))


def with_texts(explanation: Explanation) -> Explanation:
    """Return an explanation whose lines of code have their text; reads files."""
    steps = (step if step.where is None else replace(step, where=with_text(step.where)) for step in explanation.steps)
    return replace(explanation, steps=tuple(steps))


def _may_start(step: StepState) -> bool:
    """Say whether a step waits for nothing that other steps do."""
    return step.ready_time is not None


def _holding(state: RunState, left: Iterable[StepState]) -> list[str]:
    """Return the steps whose wave holds back the later ones; none under eager scheduling."""
    return [] if state.eager else [step.spec.id for step in left if step.wave <= state.barrier]


@dataclass(slots=True)
class _Explainer:
    """Explains the steps of a run; `holding` are those that hold the barrier."""

    run: LocalRun
    options: EngineOptions
    holding: list[str]

    def explain(self, step: StepState) -> StepExplanation:
        """Say what a step does, or waits for."""
        told = StepExplanation(step_id=step.spec.id, action=step.spec.action, state=step.state, attempt=step.attempt)
        if step.spec.id in self.run.state.running:
            return self._running(told)
        return self._waiting(told, step) if _may_start(step) else self._held(told, step)

    def _running(self, told: StepExplanation) -> StepExplanation:
        attempt = self.run.attempts.get(told.step_id)
        if attempt is None or attempt.task is None:  # its start is on its way to the disk, or its server has gone
            return replace(told, message="it was running when its server stopped" if self.run.paused else "it starts")
        message = "it is being interrupted: its clean-up is awaited" if attempt.interrupted else ""
        where = current_line(attempt.task) if self.options.tracebacks else None
        return replace(told, since=attempt.since, message=message, where=where)

    def _waiting(self, told: StepExplanation, step: StepState) -> StepExplanation:
        """Say what a step waits for that could start: at admission, else as its watchers were told, else the run's."""
        if told.step_id in self.run.state.backing_off:
            return replace(told, until=step.due, cause=WaitCause.BACKOFF)
        since = step.ready_time if not step.attempt else None
        if (obstacle := self.run.obstacle(told.step_id)) is not None:
            return replace(told, since=since, cause=obstacle.cause, message=obstacle.message)
        if (missing := self.run.attempts.missing_of(told.step_id)) is not None:
            cause, message, _ = missing.obstacle
            return replace(told, since=since or missing.since, cause=cause, message=message)
        message = self._bound(step)
        cause = WaitCause.CONCURRENCY if message else WaitCause.NONE
        return replace(told, since=since, cause=cause, message=message)

    def _bound(self, step: StepState) -> str:
        """Name the bound of attempts in flight that a step waits at; the run's own comes first."""
        if self.run.paused:
            return ""
        if step.spec.id not in self.run.state.dispatched:
            return f"the workflow's max_parallelism is {self.run.state.workflow.max_parallelism:,}"
        return f"the server's max_attempts is {self.options.max_attempts_in_flight:,}"

    def _held(self, told: StepExplanation, step: StepState) -> StepExplanation:
        """Say which steps have to end first: dependencies, or those that hold the barrier."""
        steps = self.run.state.steps
        waits_for = [dep for dep in step.deps if dep not in steps or not steps[dep].ended]
        message = "any one of them" if step.spec.join is Join.ANY and len(waits_for) > 1 else ""
        if step.join_met or not waits_for:
            waits_for = self.holding
            message = f"the barrier: wave {self.run.state.barrier} has not ended" if waits_for else ""
        first = tuple(waits_for[:MOST_WAITED_FOR])
        return replace(told, waits_for=first, waits_for_count=len(waits_for), message=message)
