"""The whole state of a run as plain values, so that two runs can be compared field by field."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields

from stepwave_server.core.state import RunState, Scope, StepState

__all__ = ["snapshot"]

CACHES = {"known_input", "known_items"}
RUN_FIELDS = [field.name for field in fields(RunState)]
SCOPE_FIELDS = [field.name for field in fields(Scope) if field.name not in CACHES]
STEP_FIELDS = [field.name for field in fields(StepState)]

_plain_types: set[type] = set()  # those whose values are plain: most values are, and the checks of types take long


def snapshot(run: RunState) -> dict[str, object]:
    """Return every field of a run, of its steps and of their graphs, but for caches. They refer to each other by id."""
    taken: dict[str, object] = {name: _plain(getattr(run, name)) for name in RUN_FIELDS}
    taken.update(_scope(run.root))
    for step_id, step in run.steps.items():
        taken[f"step {step_id}"] = {name: _plain(getattr(step, name)) for name in STEP_FIELDS}
        if step.inner is not None:
            taken.update(_scope(step.inner))
    return taken


def _scope(scope: Scope) -> dict[str, object]:
    return {f"scope of {scope.step_id}": {name: _plain(getattr(scope, name)) for name in SCOPE_FIELDS}}


def _plain(value: object) -> object:
    if type(value) in _plain_types:
        return value
    if isinstance(value, StepState):
        return f"step {value.id}"
    if isinstance(value, Scope):
        return f"scope of {value.step_id}"
    if isinstance(value, Mapping):
        return [(key, _plain(item)) for key, item in value.items()]
    if isinstance(value, AbstractSet):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    _plain_types.add(type(value))
    return value
