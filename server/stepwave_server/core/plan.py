"""The plan as events: waves in declaration order, split where one event would grow too long."""

from collections.abc import Iterable, Iterator

from .messages import RunStarted, Wave
from .state import RunState

__all__ = ["MOST_BYTES", "OVERHEAD", "grouped", "parts_of", "plan_events"]

MOST_BYTES = 1 << 20
"""About how many bytes of steps or of their ids one event tells; a message may have three times as many."""

OVERHEAD = 4
"""About how many bytes a text takes beside its own."""


def plan_events(run: RunState, now: int, deadline: int | None) -> Iterator[RunStarted]:
    """Yield the events that tell the run's plan."""
    parts = list(parts_of(grouped((step.spec.id, step.wave) for step in run.by_index if step.wave >= 0)))
    for number, part in enumerate(parts, start=1):
        yield RunStarted(now, part, number < len(parts), len(run.by_index), deadline, run.open)


def grouped(placed: Iterable[tuple[str, int]]) -> list[Wave]:
    """Return waves, in order, from steps with their waves."""
    levels: dict[int, list[str]] = {}
    for step_id, wave in placed:
        levels.setdefault(wave, []).append(step_id)
    return [Wave(index, tuple(levels[index])) for index in sorted(levels)]


def parts_of(levels: Iterable[Wave]) -> Iterator[tuple[Wave, ...]]:
    """Cut waves into parts of bounded size; there is always one part, perhaps empty."""
    part: list[Wave] = []
    size = 0
    for level in levels:
        ids: list[str] = []
        for step_id in level.step_ids:
            ids.append(step_id)
            size += len(step_id) + OVERHEAD
            if size >= MOST_BYTES:
                yield (*part, Wave(level.index, tuple(ids)))
                part, ids, size = [], [], 0
        if ids:
            part.append(Wave(level.index, tuple(ids)))
            size += OVERHEAD
    yield tuple(part)
