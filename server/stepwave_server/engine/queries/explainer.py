"""Explanations of a run: what each step does or waits for, from the run's state and attempts."""

from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Protocol

from stepwave_server.actions.code_location import with_text
from stepwave_server.core.explanation import AttemptExplanation, Explanation, StepExplanation, WaitCause
from stepwave_server.core.inputs import EvaluationFailed
from stepwave_server.core.model import Join, Payload
from stepwave_server.core.state import RunState, Scope, StepState
from stepwave_server.engine.admission.base import EXTERNAL, Obstacle, place_taken
from stepwave_server.engine.queries.active_run import ActiveRun

__all__ = ["MAX_STEPS", "ExplainedRun", "explain", "with_texts"]

MAX_STEPS = 500
"""Maximum number of steps in an explanation."""

MAX_INPUT = 1_000
"""Characters of the input of a step that waits to be completed."""

MAX_WAITED_FOR = 10
"""Maximum number of steps that are named as those that a step waits for."""


class ExplainedRun(ActiveRun, Protocol):
    """A run under way that can be explained."""

    def input_of(self, step: StepState) -> Payload:
        """Return the input of a step that waits to be completed.

        Raises:
            EvaluationFailed: It has no input.
        """
        ...

    def obstacle(self, step_id: str) -> Obstacle | None:
        """Return what a ready step waits for, other than a place of the run itself; `None`: it waits for nothing."""
        ...

    def waiting_since(self, step_id: str) -> int | None:
        """Return when a step that was attempted before began to wait; `None`: unknown."""
        ...

    def explain_attempt(self, step_id: str) -> AttemptExplanation | None:
        """Explain the attempt of a step that was started; `None`: it is not known what became of it."""
        ...


def explain(run: ExplainedRun, now: int) -> Explanation:
    """Return the explanation of a run under way. Its code lines have no text yet: see `with_texts`."""
    state = run.state
    left = [step for step in state.by_index if not step.ended]
    running = [step for step in left if _is_running(step, state)]
    others = [step for step in left if not _is_running(step, state)]
    ordered = chain(running, filter(_is_ready, others), (step for step in others if not _is_ready(step)))
    explainer = _Explainer(run)
    steps = tuple(explainer.explain(step) for step in islice(ordered, MAX_STEPS))
    return Explanation(run.info(), now, steps, len(left))


def with_texts(explanation: Explanation) -> Explanation:
    """Return an explanation with the text of its code lines. It is read from files, unless a host has sent it."""
    steps = (
        step if step.where is None or step.where.text else replace(step, where=with_text(step.where))
        for step in explanation.steps
    )
    return replace(explanation, steps=tuple(steps))


def _is_ready(step: StepState) -> bool:
    """Return whether a step waits for no other steps."""
    return step.ready_time is not None


def _is_running(step: StepState, state: RunState) -> bool:
    """Return whether an attempt of a step runs, or steps that it became."""
    return step.id in state.running or step.inner is not None


@dataclass(slots=True)
class _Explainer:
    """Explains the steps of a run.

    Attributes:
        run: The run.
        barriers: By the id of the step that a graph belongs to, the steps that its barrier waits for. A cache.
    """

    run: ExplainedRun
    barriers: dict[str, list[str]] = field(default_factory=dict)

    def explain(self, step: StepState) -> StepExplanation:
        """Return what a step does or waits for."""
        base = StepExplanation(step_id=step.id, action=step.spec.action, state=step.state, attempt=step.attempt)
        if step.inner is not None:
            return self._expanded(base, step, step.inner)
        if step.id in self.run.state.running:
            return self._external(base, step) if step.waits else self._running(base)
        return self._waiting(base, step) if _is_ready(step) else self._blocked(base, step)

    def _expanded(self, base: StepExplanation, step: StepState, inner: Scope) -> StepExplanation:
        """Explain a step that became several."""
        total = len(inner.steps)
        what = "items" if inner.is_list else "steps"
        message = f"{total - inner.unfinished:,} of its {total:,} {what} have ended"
        return replace(base, since=step.start_time, message=message)

    def _external(self, base: StepExplanation, step: StepState) -> StepExplanation:
        """Explain a step that waits to be completed: by its input, which is for the person that completes it."""
        cause, message, _ = EXTERNAL
        try:
            shown = self.run.input_of(step)
        except EvaluationFailed:  # it had one when it began to wait
            shown = "null"
        if isinstance(shown, str) and shown != "null":
            message = shown if len(shown) <= MAX_INPUT else f"{shown[:MAX_INPUT]}…"
        return replace(base, since=step.start_time, cause=cause, message=message)

    def _running(self, base: StepExplanation) -> StepExplanation:
        """Explain a step that runs."""
        attempt = self.run.explain_attempt(base.step_id)
        if attempt is None:
            return replace(base, message="it was running when its server stopped" if self.run.paused else "it starts")
        return replace(base, since=attempt.since, cause=attempt.cause, message=attempt.message, where=attempt.where)

    def _waiting(self, base: StepExplanation, step: StepState) -> StepExplanation:
        """Explain a ready step: by its backoff, or else by what it waits for."""
        if base.step_id in self.run.state.backing_off:
            return replace(base, until=step.due, cause=WaitCause.BACKOFF)
        since = step.ready_time if not step.attempt else None
        obstacle = self.run.obstacle(base.step_id)
        if obstacle is None and base.step_id in self.run.state.queued and not self.run.paused:
            obstacle = place_taken(step)
        if obstacle is None:
            return replace(base, since=since)
        since = since or self.run.waiting_since(base.step_id)
        return replace(base, since=since, cause=obstacle.cause, message=obstacle.message)

    def _blocked(self, base: StepExplanation, step: StepState) -> StepExplanation:
        """Explain a step that waits for other steps: its dependencies, or those that the barrier waits for."""
        steps = self.run.state.steps
        waits_for = [dep for dep in step.deps if dep not in steps or not steps[dep].ended]
        message = "any one of them" if step.spec.join is Join.ANY and len(waits_for) > 1 else ""
        if step.join_met or not waits_for:
            waits_for = self._barrier(step.scope)
            message = f"the barrier: wave {step.scope.barrier} has not ended" if waits_for else ""
        first = tuple(waits_for[:MAX_WAITED_FOR])
        return replace(base, waits_for=first, waits_for_count=len(waits_for), message=message)

    def _barrier(self, scope: Scope) -> list[str]:
        """Return the steps that the barrier of a graph waits for; none under eager scheduling."""
        if scope.eager:
            return []
        if scope.step_id not in self.barriers:
            self.barriers[scope.step_id] = [
                step.id for step in scope.steps if not step.ended and step.level <= scope.barrier
            ]
        return self.barriers[scope.step_id]
