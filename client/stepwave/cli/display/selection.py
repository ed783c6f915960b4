"""The selection of rows for the live view: which steps have one, and what is below them, for any number of steps.

If all steps fit, all are shown. Otherwise the steps are selected in this order: failed steps, steps that wait to be
completed, steps that became several, steps that wait for their action, running steps, steps that wait or back off, and
the steps that ended last. Running steps leave a quarter of the rows to those that wait. Pending steps fill the space
that is left.
"""

from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import NamedTuple

from .run_view import RunView
from .step_view import Activity, StepView
from .text import NO_SERVER_TEXT, approve_command

__all__ = ["Row", "rows_within", "select_steps"]

_SETTLED = frozenset({Activity.SUCCEEDED, Activity.SKIPPED, Activity.CANCELLED})
_MAX_ROWS_WITHIN = 8


class Row(NamedTuple):
    """A row below a step: a step within it, or a note."""

    depth: int
    step: StepView | None = None
    note: str = ""


def rows_within(view: RunView) -> dict[str, list[Row]]:
    """Return the rows below steps, by the ids of these steps; without steps that have none."""
    within: dict[str, list[Row]] = {}
    for step in view.expanded.values():
        rows = list(islice(_inner_rows(step, 1), _MAX_ROWS_WITHIN + 1))
        if len(rows) > _MAX_ROWS_WITHIN:
            rows = _most_important(step)
        within[step.step_id] = rows
    waiting: dict[str, list[StepView]] = {}
    for step in view.to_complete.values():
        waiting.setdefault(step.outermost.step_id, []).append(step)
    for step_id, steps in waiting.items():
        within.setdefault(step_id, []).append(
            Row(1, note=NO_SERVER_TEXT if view.in_process else _completion(view.run_id, steps))
        )
    return {step_id: rows for step_id, rows in within.items() if rows}


def _inner_rows(step: StepView, depth: int) -> Iterator[Row]:
    for inner in step.inner_steps:
        yield Row(depth, inner)
        yield from _inner_rows(inner, depth + 1)


def _most_important(step: StepView) -> list[Row]:
    """Return rows for the steps of a large workflow that have failed or do something, and the number of the others."""
    rows = [row for row in _inner_rows(step, 1) if row.step is not None and row.step.activity is not Activity.PENDING]
    rows = [row for row in rows if row.step is not None and row.step.activity not in _SETTLED] or rows
    shown = rows[: _MAX_ROWS_WITHIN - 1]
    return [*shown, Row(1, note=f"… {sum(1 for _ in _inner_rows(step, 1)) - len(shown):,} more")]


def _completion(run_id: str, steps: list[StepView]) -> str:
    """Return how to complete steps that wait for it."""
    if len(steps) > 1:
        return f"{len(steps):,} wait: stepwave approve {run_id}"
    return approve_command(run_id, steps[0].step_id)


def select_steps(view: RunView, within: dict[str, list[Row]], max_rows: int) -> list[StepView]:
    """Select the most important steps that fit. Rows below them that do not fit are removed from `within`."""
    selected: dict[str, StepView] = {}
    rows, below = _WaveRows(view), 0
    for step in (step.outermost for step in _by_priority(view, max_rows)):
        used = len(selected) + rows.count + below
        if used >= max_rows:
            break
        if step.step_id not in selected and len(selected) + 1 + rows.count_with(step.wave) + below <= max_rows:
            selected[step.step_id] = step
            rows.add(step.wave)
            left = max_rows - len(selected) - rows.count - below
            fitting = within.pop(step.step_id, [])[: max(left, 0)]
            below += len(fitting)
            if fitting:
                within[step.step_id] = fitting
    return list(selected.values())


class _WaveRows:
    """Counts the rows of waves: one for each wave with selected steps, and one for neighbouring waves without.

    Attributes:
        count: The number of rows.
    """

    def __init__(self, view: RunView) -> None:
        self.count = 1
        self._waves = view.waves
        self._selected: set[int] = set()

    def count_with(self, wave: int) -> int:
        """Return the number of rows if a step of this wave is selected too."""
        if wave in self._selected:
            return self.count
        # A row for the wave; the row of its group becomes one before it, one after it, both, or none.
        return self.count + sum(index in self._waves and index not in self._selected for index in (wave - 1, wave + 1))

    def add(self, wave: int) -> None:
        """Select a step of this wave."""
        self.count = self.count_with(wave)
        self._selected.add(wave)


def _by_priority(view: RunView, max_rows: int) -> Iterator[StepView]:
    yield from islice(view.failed, max(max_rows // 3, 1))
    yield from islice(view.to_complete.values(), max_rows)
    yield from islice(view.expanded.values(), max(max_rows // 3, 1))
    yield from view.without_action.values()
    running = [step for step in view.started.values() if step.activity is Activity.RUNNING]
    backing_off = [step for step in view.started.values() if step.activity in {Activity.BACKING_OFF, Activity.READY}]
    share = max_rows * 3 // 4
    yield from running[:share]
    yield from _by_turns(backing_off, [step for step in view.waiting.values() if not step.action_missing])
    yield from running[share:]
    if view.result is None:
        yield from reversed(view.recent)
        not_ended = (step for step in view.steps.values() if not step.activity.ended)
        yield from islice(not_ended, max_rows * 4)  # running ones were yielded before


def _by_turns(first: list[StepView], second: list[StepView]) -> Iterator[StepView]:
    """Yield the steps of both lists, alternating while there are some of both."""
    for pair in zip_longest(first, second):
        yield from (step for step in pair if step is not None)
