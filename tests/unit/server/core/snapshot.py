"""The whole state of a run as plain values, so that two runs can be compared field by field."""

from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields

from stepwave_server.core.state import RunState, StepState

__all__ = ["snapshot"]

RUN_FIELDS = [field.name for field in fields(RunState)]
STEP_FIELDS = [field.name for field in fields(StepState)]


def snapshot(run: RunState) -> dict[str, object]:
    """Return every field of a run and of its steps. Steps that refer to each other do so by id."""
    taken: dict[str, object] = {name: _plain(getattr(run, name)) for name in RUN_FIELDS}
    for step_id, step in run.steps.items():
        taken.update((f"{step_id}.{name}", _plain(getattr(step, name))) for name in STEP_FIELDS)
    return taken


def _plain(value: object) -> object:
    if isinstance(value, StepState):
        return f"step {value.spec.id}"
    if isinstance(value, Mapping):
        return [(key, _plain(item)) for key, item in value.items()]
    if isinstance(value, AbstractSet):
        return sorted(value)
    if isinstance(value, (deque, list)):
        return [_plain(item) for item in value]
    return value
