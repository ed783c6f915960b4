"""Pages of a run's steps. Steps that have ended come from their events, others from the run's state."""

from collections.abc import Sequence

from stepwave_server.core.info import RunKey
from stepwave_server.core.model import MAX_MESSAGE_CONTENT
from stepwave_server.core.state import StepState
from stepwave_server.engine.base import StepPage
from stepwave_server.journal import Journal
from stepwave_server.wire.events.encode import Record

__all__ = ["ended_page", "running_page"]


async def ended_page(journal: Journal, key: RunKey, finishes: Sequence[int], start: int, most: int) -> StepPage:
    """Return a page of the steps of a run that has ended. Steps without a `step_finished` event are left out.

    A defect of the server may have left such steps.

    Args:
        journal: The journal.
        key: The run.
        finishes: The sequence number of every step's `step_finished` event, in declaration order; 0: none.
        start: The index of the first step.
        most: Maximum number of steps.
    """
    page = finishes[start : start + most]
    records = iter(await journal.pick(key, [number for number in page if number]))
    return _page([next(records, None) if number else None for number in page], start, len(finishes))


async def running_page(journal: Journal, key: RunKey, steps: Sequence[StepState], start: int, total: int) -> StepPage:
    """Return a page of the steps of a run under way.

    Args:
        journal: The journal.
        key: The run.
        steps: The states of the page's steps. They are committed.
        start: The index of the first step.
        total: Number of the run's steps.
    """
    records = iter(await journal.pick(key, [step.finish for step in steps if step.finish]))
    return _page([next(records) if step.finish else step for step in steps], start, total)


def _page(pieces: Sequence[Record | StepState | None], start: int, total: int) -> StepPage:
    """Return a page of at most the size of a message, with at least one step if there is any."""
    size = count = 0
    for piece in pieces:
        size += _size(piece)
        if count and size > MAX_MESSAGE_CONTENT:
            break
        count += 1
    following = start + count
    return StepPage([piece for piece in pieces[:count] if piece is not None], following if following < total else 0)


def _size(piece: Record | StepState | None) -> int:
    if isinstance(piece, StepState):
        return len(piece.id) + len(piece.spec.action)
    return 0 if piece is None else len(piece.data)
