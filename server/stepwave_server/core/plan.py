"""The plan as events: waves in declaration order, split where one event would grow too long."""

from collections.abc import Iterable, Iterator

from .graph import waves
from .messages import RunStarted, Wave
from .model import Step
from .state import RunState

__all__ = ["plan_events", "waves_of"]

MOST_BYTES = 1 << 20
"""About how many bytes of step ids one event tells; a message may have three times as many."""

OVERHEAD = 4


def plan_events(run: RunState, now: int, deadline: int | None) -> Iterator[RunStarted]:
    """Yield the events that tell the run's plan."""
    parts = list(_parts(_group((step.spec.id, step.wave) for step in run.by_index if step.wave >= 0)))
    for number, part in enumerate(parts, start=1):
        yield RunStarted(now, part, number < len(parts), len(run.by_index), deadline, run.open)


def waves_of(run: RunState, steps: Iterable[Step]) -> tuple[Wave, ...]:
    """Return the waves that become known when the steps are added to a run."""
    loose = {step_id: step.deps for step_id, step in run.unplaced.items()}
    loose.update((step.id, step.dependencies()) for step in steps)
    known = {step.spec.id: step.wave for step in run.by_index if step.wave >= 0}
    return tuple(_group(waves(loose, known).items()))


def _group(placed: Iterable[tuple[str, int]]) -> list[Wave]:
    levels: dict[int, list[str]] = {}
    for step_id, wave in placed:
        levels.setdefault(wave, []).append(step_id)
    return [Wave(index, tuple(levels[index])) for index in sorted(levels)]


def _parts(levels: Iterable[Wave]) -> Iterator[tuple[Wave, ...]]:
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
