"""How a run's steps stand, page by page: those that have ended from their events, the others from its state."""

from collections.abc import Sequence

from stepwave_server.core.info import RunKey
from stepwave_server.core.model import MAX_MESSAGE_CONTENT
from stepwave_server.core.state import StepState
from stepwave_server.engine.base import StepPage
from stepwave_server.journal import Journal
from stepwave_server.wire.events.encode import Record

__all__ = ["kept_page", "live_page"]


async def kept_page(journal: Journal, key: RunKey, finishes: Sequence[int], start: int, most: int) -> StepPage:
    """Return a page of a run that has ended; `finishes` are the numbers of its `step_finished` events.

    A step without one, as a defect may have left it, is left out.
    """
    page = finishes[start : start + most]
    records = iter(await journal.pick(key, [number for number in page if number]))
    return _page([next(records, None) if number else None for number in page], start, len(finishes))


async def live_page(journal: Journal, key: RunKey, steps: Sequence[StepState], start: int, total: int) -> StepPage:
    """Return a page of a run under way, of steps as they stood when all that had happened was committed."""
    records = iter(await journal.pick(key, [step.finish for step in steps if step.finish]))
    return _page([next(records) if step.finish else step for step in steps], start, total)


def _page(pieces: Sequence[Record | StepState | None], start: int, total: int) -> StepPage:
    """Cut a page where it would grow too long; there is always one step, if there is any."""
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
        return len(piece.spec.id) + len(piece.spec.action)
    return 0 if piece is None else len(piece.data)
