"""The plan of a run as events: its waves at the start, and the steps that are added later.

Long plans are split over several events. An addition costs as much as it adds, whatever the run already has.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from .messages import AddSteps, RunStarted, Started, StepsAdded, StepsReused, Wave
from .model import (
    MAX_MESSAGE_CONTENT,
    BindingSource,
    Blob,
    FallbackAction,
    FromExpression,
    FromInput,
    FromItem,
    FromSecret,
    FromStep,
    Payload,
    Step,
    Workflow,
    payload_size,
)
from .state import RunState
from .validate import Present

__all__ = [
    "MAX_STEP",
    "OVERHEAD",
    "addition_events",
    "grouped",
    "parts_of",
    "plan_events",
    "present_for",
    "reuse_events",
    "step_weight",
    "was_made",
    "waves_of",
]

OVERHEAD = 4
"""Bytes that a text takes beside its own, about."""

OPTIONS = 40
"""Bytes of the numbers of a step or workflow, about: its retry policy, timeouts and choices."""

MAX_STEP = 2 * MAX_MESSAGE_CONTENT
"""Bytes of an added step, about: one event holds it."""


def plan_events(run: RunState, now: int, deadline: int | None) -> Iterator[RunStarted]:
    """Yield the events of the run's plan."""
    parts = list(parts_of(grouped((step.id, step.wave) for step in run.by_index if step.wave >= 0)))
    for number, part in enumerate(parts, start=1):
        yield RunStarted(now, part, number < len(parts), len(run.by_index), deadline, run.open)


def reuse_events(run: RunState, given: Started, now: int) -> Iterator[StepsReused]:
    """Yield the events that take outputs over for steps that are not known yet."""
    part: list[tuple[str, Payload]] = []
    size = 0
    for step_id, output in given.reused:
        if step_id in run.steps:
            continue
        weight = payload_size(output) + len(step_id) + OVERHEAD
        if part and size + weight > MAX_MESSAGE_CONTENT:
            yield StepsReused(now, given.reused_from, tuple(part))
            part, size = [], 0
        part.append((step_id, output))
        size += weight
    if part:
        yield StepsReused(now, given.reused_from, tuple(part))


def grouped(placed: Iterable[tuple[str, int]]) -> list[Wave]:
    """Return the waves, in order, of steps with their wave numbers."""
    levels: dict[int, list[str]] = {}
    for step_id, wave in placed:
        levels.setdefault(wave, []).append(step_id)
    return [Wave(index, tuple(levels[index])) for index in sorted(levels)]


def parts_of(levels: Iterable[Wave]) -> Iterator[tuple[Wave, ...]]:
    """Cut waves into parts of bounded size. There is always one part, perhaps empty."""
    part: list[Wave] = []
    size = 0
    for level in levels:
        ids: list[str] = []
        for step_id in level.step_ids:
            ids.append(step_id)
            size += len(step_id) + OVERHEAD
            if size >= MAX_MESSAGE_CONTENT:
                yield (*part, Wave(level.index, tuple(ids)))
                part, ids, size = [], [], 0
        if ids:
            part.append(Wave(level.index, tuple(ids)))
            size += OVERHEAD
    yield tuple(part)


def present_for(run: RunState, given: AddSteps) -> Present:
    """Return the facts of a run that the validation of an addition needs."""
    steps = run.steps
    return Present(
        names=steps.keys(),
        same={step.id: steps[step.id].spec for step in given.steps if step.id in steps},
        loose=_loose_ancestors(run, given.steps) if any(step.id in run.unknown for step in given.steps) else {},
        awaited={dep: waiting[0].id for dep, waiting in run.unknown.items()} if given.seal else {},
        edges=run.edges,
    )


def was_made(run: RunState, given: AddSteps) -> bool:
    """Say whether an open run has all of an addition already: a caller that got no response adds it again."""
    known = (run.steps.get(step.id) for step in given.steps)
    return run.options.open and all(
        step is not None and step.spec == spec for step, spec in zip(known, given.steps, strict=True)
    )


def addition_events(run: RunState, steps: Sequence[Step], now: int, *, sealed: bool) -> Iterator[StepsAdded]:
    """Yield the events that add steps. There are several if one would be too long.

    Apply each before asking for the next.
    """
    batches = list(_batches(steps))
    for number, batch in enumerate(batches, start=1):
        parts = list(parts_of(waves_of(run, batch)))
        for place, part in enumerate(parts, start=1):
            last = number == len(batches) and place == len(parts)
            yield StepsAdded(now, batch if place == 1 else (), part, sealed and last)


def waves_of(run: RunState, steps: Iterable[Step]) -> list[Wave]:
    """Return the waves that become known when steps are added: those of the new steps, and of earlier ones.

    It computes what `evolve` will do, and counts dependencies without a wave as `evolve` does.
    """
    deps = {step.id: step.dependencies() for step in steps}
    missing = {step_id: [dep for dep in ids if not _is_placed(run, dep)] for step_id, ids in deps.items()}
    unplaced = {step_id: len(ids) for step_id, ids in missing.items()}
    waiting = _inverted(missing)
    placed: dict[str, int] = {}
    front = [step_id for step_id, count in unplaced.items() if not count]
    for step_id in front:  # grows as it goes
        ids = deps[step_id] if step_id in deps else run.steps[step_id].deps
        placed[step_id] = max((1 + (placed[dep] if dep in placed else run.steps[dep].wave) for dep in ids), default=0)
        for dependent in (*waiting.get(step_id, ()), *_waiting_in(run, step_id)):
            if dependent not in unplaced:
                unplaced[dependent] = run.steps[dependent].unplaced
            unplaced[dependent] -= 1
            if not unplaced[dependent]:
                front.append(dependent)
    order = {step_id: index for index, step_id in enumerate(deps, start=len(run.by_index))}
    order.update((step_id, run.steps[step_id].index) for step_id in placed if step_id not in deps)
    return grouped((step_id, placed[step_id]) for step_id in sorted(placed, key=order.__getitem__))


def _is_placed(run: RunState, step_id: str) -> bool:
    return step_id in run.steps and run.steps[step_id].wave >= 0


def _waiting_in(run: RunState, step_id: str) -> list[str]:
    """Return the steps of a run that depend on a step, which may still be to come."""
    steps = run.steps[step_id].dependents if step_id in run.steps else run.unknown.get(step_id, ())
    return [step.id for step in steps]


def _inverted(edges: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    inverted: dict[str, list[str]] = {}
    for step_id, deps in edges.items():
        for dep in deps:
            inverted.setdefault(dep, []).append(step_id)
    return inverted


def _loose_ancestors(run: RunState, steps: Iterable[Step]) -> dict[str, Step]:
    """Return the ancestors that have no wave yet. With a step that they wait for, they may form a cycle."""
    loose: dict[str, Step] = {}
    front = [dep for step in steps for dep in step.dependencies()]
    for step_id in front:  # grows as it goes
        step = run.steps.get(step_id)
        if step is not None and step.wave < 0 and step_id not in loose:
            loose[step_id] = step.spec
            front += step.deps
    return loose


def _batches(steps: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """Cut steps into batches of bounded size. There is always one batch, perhaps empty."""
    batch: list[Step] = []
    size = 0
    for step in steps:
        weight = step_weight(step)
        if batch and size + weight > MAX_MESSAGE_CONTENT:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(step)
        size += weight
    yield tuple(batch)


def step_weight(step: Step) -> int:
    """Return the size of a step in a message, about, in bytes. It is never much smaller than that."""
    texts = [step.id, step.action, *step.depends_on, step.when, step.concurrency_key or ""]
    payloads = [step.input]
    if isinstance(step.fallback, FallbackAction):
        texts.append(step.fallback.action)
        payloads.append(step.fallback.input)
    else:
        payloads.append(step.fallback)
    for binding in step.all_bindings:
        texts.append(binding.target)
        payloads.append(binding.default)
        texts += _texts_of(binding.source)
    if step.for_each is not None:
        source = step.for_each.source
        if isinstance(source, str | Blob):
            payloads.append(source)
        else:
            texts += _texts_of(source)
    weight = OPTIONS + sum(payload_size(text) + OVERHEAD for text in texts)
    weight += sum(payload_size(one) + OVERHEAD for one in payloads if one is not None)
    return weight if step.workflow is None else weight + _workflow_weight(step.workflow)


def _workflow_weight(workflow: Workflow) -> int:
    labels = (text for label in workflow.labels.items() for text in label)
    texts = [workflow.name, workflow.input_schema, *workflow.outputs, *labels]
    return OPTIONS + sum(payload_size(text) + OVERHEAD for text in texts) + sum(map(step_weight, workflow.steps))


def _texts_of(source: BindingSource) -> tuple[str, ...]:
    match source:
        case FromStep(step_id, path):
            return step_id, path
        case FromInput(text) | FromItem(text) | FromExpression(text) | FromSecret(text):
            return (text,)
