"""The canonical form of workflows and inputs: their digest, and the comparison of submissions and steps."""

import json
from collections.abc import Iterable
from hashlib import sha256

from stepwave.v1 import payload_pb2, workflow_pb2
from stepwave_server.core.model import Blob, Payload, Step

from .workflow import fill_step

__all__ = ["called_actions", "digest", "same_content", "same_payload", "same_step"]


def called_actions(steps: Iterable[workflow_pb2.Step]) -> set[str]:
    """Return the names of the actions of steps, and of the steps of the workflows that they run."""
    names: set[str] = set()
    for step in steps:
        names.add(step.action)
        if step.HasField("fallback"):
            names.add(step.fallback.action.action)
        if step.HasField("workflow"):
            names |= called_actions(step.workflow.steps)
    return names - {""}


def digest(workflow: bytes) -> str:
    """Return the SHA-256 of a workflow's canonical form in lower-case hexadecimal. Equal ones have equal digests."""
    return sha256(_canonical(workflow)).hexdigest()


def same_content(workflow: bytes, given: Payload, other_workflow: bytes, other_given: Payload) -> bool:
    """Say whether two workflows and their inputs are equal. The order of keys and white space in JSON do not matter."""
    if _canonical_payload(given) != _canonical_payload(other_given):
        return False
    return workflow == other_workflow or _canonical(workflow) == _canonical(other_workflow)


def same_payload(payload: Payload, other: Payload) -> bool:
    """Say whether two payloads are equal. The order of keys and white space in JSON do not matter."""
    return payload == other or _canonical_payload(payload) == _canonical_payload(other)


def same_step(step: Step, other: Step) -> bool:
    """Say whether two steps are equal. The order of keys and white space in JSON do not matter."""
    return step == other or _canonical_step(step) == _canonical_step(other)


def _canonical_step(step: Step) -> bytes:
    message = workflow_pb2.Step()
    fill_step(message, step)
    _make_step_canonical(message)
    return message.SerializeToString(deterministic=True)


def _canonical(workflow: bytes) -> bytes:
    message = workflow_pb2.Workflow.FromString(workflow)
    _make_canonical(message)
    return message.SerializeToString(deterministic=True)


def _make_canonical(message: workflow_pb2.Workflow) -> None:
    if message.input_schema:
        message.input_schema = _canonical_json(message.input_schema)
    for step in message.steps:
        _make_step_canonical(step)


def _make_step_canonical(step: workflow_pb2.Step) -> None:
    for payload in _payloads(step):
        payload.json = _canonical_json(payload.json)
    if step.HasField("workflow"):
        _make_canonical(step.workflow)


def _payloads(step: workflow_pb2.Step) -> list[payload_pb2.Payload]:
    """Return the JSON payloads of a step, without those of its nested workflow."""
    found = [step.input] if step.HasField("input") else []
    found += [step.for_each.items] if step.for_each.HasField("items") else []
    bindings = [*step.bindings]
    if step.fallback.HasField("value"):
        found.append(step.fallback.value)
    elif step.fallback.HasField("action"):
        found += [step.fallback.action.input] if step.fallback.action.HasField("input") else []
        bindings += step.fallback.action.bindings
    found += [binding.default for binding in bindings if binding.HasField("default")]
    return [payload for payload in found if payload.HasField("json")]


def _canonical_payload(payload: Payload) -> str | tuple[str, bytes]:
    return (payload.content_type, payload.data) if isinstance(payload, Blob) else _canonical_json(payload)


def _canonical_json(text: str) -> str:
    """Return JSON with sorted keys and no spaces. Numbers keep their digits, and are marked as numbers."""
    return _ENCODER.encode(_DECODER.decode(text))


def _number(digits: str) -> list[str]:
    return ["\0number", digits]


_DECODER = json.JSONDecoder(parse_float=_number, parse_int=_number)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
