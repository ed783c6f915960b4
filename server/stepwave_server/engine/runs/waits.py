"""Waits of ready steps within their run: for places, and for completions from outside."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from stepwave_server.core.explanation import Waiting
from stepwave_server.core.state import RunState
from stepwave_server.engine.admission.base import EXTERNAL, Obstacle, place_taken
from stepwave_server.engine.admission.controller import MAX_NAMED
from stepwave_server.engine.streams.subscribers import Subscribers

__all__ = ["BEING_INTERRUPTED", "MAX_MISSING", "MAX_WAITING", "grouped", "show_new", "show_queued", "waits_of"]

BEING_INTERRUPTED = "it is being interrupted: its clean-up is awaited"
"""The explanation of an attempt that was interrupted, and has not ended."""

MAX_MISSING = 20
"""Maximum number of missing actions in a run's information."""

MAX_WAITING = 100
"""Maximum number of steps that are shown as waiting."""


def waits_of(state: RunState) -> dict[Obstacle, list[str]]:
    """Return the steps that wait for a place of the run itself, or to be completed, grouped by that."""
    groups: dict[Obstacle, list[str]] = {}
    for step in state.queued.values():
        if not (step.ended or step.dropped):
            groups.setdefault(place_taken(step), []).append(step.id)
    external = [step.id for step in state.running.values() if step.waits]
    if external:
        groups[EXTERNAL] = external
    return groups


def grouped(groups: Mapping[Obstacle, Sequence[str]]) -> list[Waiting]:
    """Return groups of waiting steps, each with the first of its steps."""
    return [
        Waiting(cause, message, len(ids), tuple(ids[:MAX_NAMED]), limit)
        for (cause, message, limit), ids in groups.items()
    ]


def show_queued(state: RunState, subscribers: Subscribers, most: int) -> None:
    """Show the first steps that wait for a place of the run itself, and were not shown yet.

    Args:
        state: The run.
        subscribers: Its subscribers.
        most: Maximum number of steps that are shown as waiting.
    """
    for step in islice(state.queued.values(), MAX_WAITING):
        if not (step.ended or step.dropped):
            show_new(subscribers, [step.id], state.sequence, place_taken(step), most)


def show_new(subscribers: Subscribers, step_ids: Iterable[str], after: int, obstacle: Obstacle, most: int) -> None:
    """Show what steps wait for, unless they are shown as waiting already, or very many steps are."""
    for step_id in step_ids:
        if subscribers.waiting_count < most and not subscribers.knows_waiting(step_id):
            subscribers.show_waiting(step_id, after, obstacle)
