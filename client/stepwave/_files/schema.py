"""The JSON Schema of workflow files, for editors: made from the same descriptors that files are read by."""

from collections.abc import Mapping

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from stepwave._values.payload import JSON
from stepwave.v1 import workflow_pb2

from ._contract import (
    DURATION_PATTERN,
    EXTENSION,
    INTEGER_BOUNDS,
    REFERENCES,
    SHORT_FORMS,
    choices,
    enum_names,
    holds_references,
    is_duration,
    is_map,
    is_payload,
    map_value,
    reachable,
)

__all__ = ["DESCRIPTIONS", "workflow_schema"]

_ROOT = workflow_pb2.Workflow.DESCRIPTOR

DESCRIPTIONS: Mapping[str, str] = {
    "Workflow.name": "A name for people, traces and lists.",
    "Workflow.steps": "The steps, in declaration order.",
    "Workflow.scheduling": "eager (default): a step is ready the moment its own dependencies are done. "
    "wave: when every step of all earlier waves is done too.",
    "Workflow.failure_policy": "fail_fast (default): an unhandled failure interrupts what runs and skips the rest. "
    "continue: only what cannot run any more is skipped.",
    "Workflow.max_parallelism": "How many attempts may be in flight at once. Default: as many as the server admits.",
    "Workflow.timeout": "How long the whole run may take. Default: no limit.",
    "Workflow.labels": "Free key-value pairs for finding runs again.",
    "Workflow.outputs": "Ids of the steps whose outputs are the run's. Default: those that nothing depends on.",
    "Workflow.retry": "The retry policy of steps that have none of their own.",
    "Step.id": "Unique in the workflow.",
    "Step.action": "What the step does, by the name the server knows it by.",
    "Step.depends_on": "Ids of the steps that must end before this one starts, beside those its input refers to.",
    "Step.input": "What the action gets; $from, $input, $item, $secret and $cel are filled in. "
    "Default: the outputs of its dependencies by id, or the run's input for a step without any.",
    "Step.bindings": "Values to put into the input, spelled out; $from and the like in `input` do the same.",
    "Step.when": "A CEL expression over `deps` and `input`; false skips the step.",
    "Step.retry": "The step's own retry policy. Default: the workflow's.",
    "Step.timeout": "How long one attempt may take. Default: the server's.",
    "Step.total_timeout": "How long the step may take over all its attempts, pauses and waiting. Default: no limit.",
    "Step.fallback": "What answers in the step's place once it has finally failed.",
    "Step.join": "all (default): every dependency succeeded. any: one did. all_done: every one has ended.",
    "Step.for_each": "Runs the step once for every item of a list.",
    "Step.allow_failure": "Whether its final failure leaves the run and its dependents alone. Default: false.",
    "Step.concurrency_key": "A JSON Pointer into the input: limits by key count each value there apart.",
    "Step.on_interrupt": "What a server restart does to a running attempt: retry (default) or fail.",
    "Binding.target": "Where in the input to put the value: a JSON Pointer. Empty: the whole.",
    "Binding.step": "(Part of) another step's output.",
    "Binding.input": "A JSON Pointer into the run's input. Empty: the whole.",
    "Binding.item": "A JSON Pointer into the current item of a for_each. Empty: the whole.",
    "Binding.secret": "The name of a secret that the server holds.",
    "Binding.expression": "A CEL expression over `deps`, `input` and `item`.",
    "Binding.default": "The value when the source has none.",
    "StepOutput.id": "The step whose output is meant.",
    "StepOutput.path": "A JSON Pointer into its output. Empty: the whole.",
    "Retry.max_attempts": "All attempts together, the first included. Default: 1.",
    "Retry.initial_backoff": "The pause before the second attempt. Default: 500ms.",
    "Retry.backoff_multiplier": "The factor by which each pause exceeds the one before. Default: 2.",
    "Retry.max_backoff": "The longest pause. Default: 30s.",
    "Retry.jitter": "The share of a pause that is drawn at random, 0 to 1. Default: 0.2.",
    "Retry.retryable_reasons": "Failures worth another attempt. "
    "Default: action_error, timeout, unavailable and rate_limited.",
    "Fallback.action": "Another action, tried once, with the step's timeout: its name, or a mapping that says more.",
    "Fallback.value": "A fixed value.",
    "FallbackAction.action": "The name of the action.",
    "FallbackAction.input": "What it gets. Default: the input of the step it stands in for.",
    "FallbackAction.bindings": "Values to put into the input, spelled out.",
    "ForEach.step": "The list is (part of) another step's output.",
    "ForEach.input": "The list is in the run's input: a JSON Pointer.",
    "ForEach.expression": "The list is the value of a CEL expression over `deps` and `input`.",
    "ForEach.max_parallelism": "How many children may be in flight at once. Default: as many as the run may.",
}
"""What editors show for a key, by message and field: comments are not in run-time descriptors."""

_REQUIRED = {
    "Workflow": ["name", "steps"],
    "Step": ["id", "action"],
    "StepOutput": ["id"],
    "FallbackAction": ["action"],
}
_REFERENCE_DESCRIPTIONS = {
    "$from": "(Part of) another step's output: `step` or `step/pointer`.",
    "$input": "A JSON Pointer into the run's input. Empty: the whole.",
    "$item": "A JSON Pointer into the current item of a for_each. Empty: the whole.",
    "$secret": "The name of a secret that the server holds.",
    "$cel": "A CEL expression over `deps`, `input` and `item`.",
}
_TYPES = {FieldDescriptor.CPPTYPE_STRING: "string", FieldDescriptor.CPPTYPE_BOOL: "boolean"}
_DURATION: Mapping[str, JSON] = {
    "anyOf": [{"type": "string", "pattern": f"^{DURATION_PATTERN}$"}, {"type": "number", "minimum": 0}]
}


def workflow_schema() -> Mapping[str, JSON]:
    """Return the JSON Schema (draft 2020-12) of a workflow file.

    It knows what the file's reader knows, and which keys the contract requires; what only a server knows, such as its
    actions, is not in it.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Stepwave workflow",
        **_message(_ROOT),
        "patternProperties": {f"^{EXTENSION}": {}},
        "$defs": {
            **{descriptor.name: _message(descriptor) for descriptor in reachable(_ROOT) if descriptor is not _ROOT},
            "input": _value("input", REFERENCES),
            "data": _value("data", {}),
        },
    }


def _message(descriptor: Descriptor) -> dict[str, JSON]:
    schema: dict[str, JSON] = {
        "type": "object",
        "properties": {field.name: _described(field) for field in descriptor.fields},
        "additionalProperties": False,
    }
    if descriptor.name in _REQUIRED:
        schema["required"] = _REQUIRED[descriptor.name]
    rivals = [[field.name for field in choice.fields] for choice in choices(descriptor)]
    if rivals:
        schema["allOf"] = [_at_most_one(names) for names in rivals]
    return schema


def _at_most_one(names: list[str]) -> JSON:
    given: list[JSON] = [{"required": [name]} for name in names]
    return {"oneOf": [*given, {"not": {"anyOf": given}}]}


def _described(field: FieldDescriptor) -> JSON:
    owner = field.containing_type.name if field.containing_type else ""
    description = DESCRIPTIONS.get(f"{owner}.{field.name}")
    return {**({"description": description} if description else {}), **_field(field)}


def _field(field: FieldDescriptor) -> Mapping[str, JSON]:
    if holds_references(field):
        return {"$ref": "#/$defs/input"}
    if is_map(field):
        return {"type": "object", "additionalProperties": _single(map_value(field))}
    if field.is_repeated:
        return {"type": "array", "items": _single(field)}
    return _single(field)


def _single(field: FieldDescriptor) -> Mapping[str, JSON]:
    if is_duration(field):
        return _DURATION
    if is_payload(field):
        return {"$ref": "#/$defs/data"}
    if field.message_type is not None:
        whole: Mapping[str, JSON] = {"$ref": f"#/$defs/{field.message_type.name}"}
        return {"anyOf": [whole, {"type": "string"}]} if field.message_type.name in SHORT_FORMS else whole
    if field.enum_type is not None:
        return {"enum": list(enum_names(field.enum_type))}
    if field.cpp_type in INTEGER_BOUNDS:
        low, high = INTEGER_BOUNDS[field.cpp_type]
        return {"type": "integer", "minimum": low, "maximum": high}
    return {"type": _TYPES.get(field.cpp_type, "number")}


def _value(name: str, references: Mapping[str, str]) -> JSON:
    """Describe a value of any shape; a mapping with one of the keys `references` in it is a reference, not data."""
    special = [*REFERENCES, "$literal"]
    return {
        "items": {"$ref": f"#/$defs/{name}"},
        "if": {"type": "object", "anyOf": [{"required": [key]} for key in special]},
        "then": {"oneOf": [*map(_reference, references), _literal()]},
        "else": {"additionalProperties": {"$ref": f"#/$defs/{name}"}},
    }


def _reference(key: str) -> JSON:
    source: JSON = {"type": "string", "description": _REFERENCE_DESCRIPTIONS[key]}
    default: JSON = {"$ref": "#/$defs/data", "description": DESCRIPTIONS["Binding.default"]}
    return {"properties": {key: source, "default": default}, "required": [key], "additionalProperties": False}


def _literal() -> JSON:
    value: JSON = {"description": "Data, whatever keys it has."}
    return {"properties": {"$literal": value}, "required": ["$literal"], "additionalProperties": False}
