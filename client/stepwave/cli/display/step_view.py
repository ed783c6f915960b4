"""The state of a step or a wave as the live view draws it."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from stepwave._model.results import State

__all__ = ["Activity", "StepView", "WaveView"]


class Activity(StrEnum):
    """The activity of a step: its state, or that it is ready, waits for a permit, or backs off after an attempt."""

    PENDING = "pending"
    READY = "ready"
    WAITING = "waiting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"

    @property
    def ended(self) -> bool:
        """Whether the step has ended."""
        return self in _ENDED


_ENDED = frozenset(Activity(state) for state in State if state.ended)


@dataclass(slots=True)
class StepView:
    """The state of a step, from the events so far.

    Attributes:
        order: The step's position in the plan.
        activity: What the step does. After an attempt it backs off, then it is ready. A ready step may have to wait for
            a permit.
        next_time: When the next attempt may start, while the step backs off.
        fallback_next: Whether the next attempt, or the one that runs, is the fallback's.
        note: What the step does now, or why it did not succeed, on one line.
        stream_text: The last characters that its attempt streamed.
        action_missing: Whether the step waits for a server that has its action.
        outer: The step that it is directly within; `None`: it is a step of the run's own workflow.
        in_list: Whether it is a child of a list, or within one.
        expanded: Whether it became several steps.
        item_count: The number of children of a list; `None`: it has no list.
        inner_counts: The number of steps directly within it with each activity.
        inner_steps: The steps of its workflow, in order; empty if it is a list or within one, or has ended.
        unseen: The number of steps directly within it that are counted, and that no event has named.
        problem: The first failure of a step within it, with the id of that step.
    """

    step_id: str
    wave: int
    order: int
    action: str = ""
    activity: Activity = Activity.PENDING
    attempt: int = 0
    start_time: datetime | None = None
    end_time: datetime | None = None
    next_time: datetime | None = None
    fallback_next: bool = False
    fraction: float | None = None
    note: str = ""
    stream_text: str = ""
    action_missing: bool = False
    outer: "StepView | None" = None
    in_list: bool = False
    expanded: bool = False
    item_count: int | None = None
    inner_counts: Counter[Activity] = field(default_factory=Counter)
    inner_steps: "list[StepView]" = field(default_factory=list)
    unseen: int = 0
    problem: str = ""

    @property
    def outermost(self) -> "StepView":
        """The step of the run's own workflow that it is, or is within."""
        step = self
        while step.outer is not None:
            step = step.outer
        return step


@dataclass(slots=True)
class WaveView:
    """A wave: its steps in declaration order, and the number of steps with each activity."""

    index: int
    steps: list[StepView] = field(default_factory=list)
    counts: Counter[Activity] = field(default_factory=Counter)
