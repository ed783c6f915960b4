"""The JSON Schema of workflow files, for editors, derived from the descriptors that files are read by."""

from collections.abc import Mapping

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from stepwave._values.payload import JSON
from stepwave.v1 import workflow_pb2

from ._contract import (
    DURATION_PATTERN,
    EXTENSION,
    INTEGER_BOUNDS,
    OVER,
    REFERENCES,
    SHORT_FORMS,
    enum_names,
    holds_references,
    is_duration,
    is_json_text,
    is_map,
    is_payload,
    keys,
    map_value,
    reachable,
    rivals,
)

__all__ = ["DESCRIPTIONS", "workflow_schema"]

_ROOT = workflow_pb2.Workflow.DESCRIPTOR

DESCRIPTIONS: Mapping[str, str] = {
    "Workflow.name": "The workflow's name in lists and traces.",
    "Workflow.steps": "The steps, in declaration order.",
    "Workflow.scheduling": "eager (default): a step is ready as soon as its dependencies have ended. "
    "wave: once all steps of earlier waves have ended.",
    "Workflow.failure_policy": "fail_fast (default): an unhandled failure interrupts running steps and skips the rest. "
    "continue: only steps that can no longer run are skipped.",
    "Workflow.max_parallelism": "The largest number of attempts in flight at once. Default: no limit but the server's.",
    "Workflow.timeout": "The longest that a run may take. Default: no limit.",
    "Workflow.labels": "Key-value pairs to find runs by.",
    "Workflow.outputs": "Ids of the steps whose outputs are the run's. "
    "Default: every succeeded step that nothing depends on.",
    "Workflow.retry": "The retry policy of steps without one of their own.",
    "Workflow.input_schema": "A JSON Schema (draft 2020-12) of the run's input. Default: any input.",
    "Step.id": "Unique in the workflow.",
    "Step.action": "The name of the action. A step has an action or a workflow.",
    "Step.workflow": "A workflow to run in place of an action. Its input is the step's.",
    "Step.depends_on": "Ids of steps that must end before this one starts, beside those that its input refers to.",
    "Step.input": "The action's input, with references: $from, $input, $item, $secret and $cel. "
    "Default: the item of for_each, else the outputs of the dependencies by id, or the run's input for a step without "
    "dependencies.",
    "Step.bindings": "Values to put into the input; references in `input` are a shorter form.",
    "Step.when": "A CEL expression over `deps` and `input`; false skips the step.",
    "Step.retry": "The step's own retry policy. Default: the workflow's.",
    "Step.timeout": "The longest that one attempt may take. Default: the server's.",
    "Step.total_timeout": "The longest that all attempts, pauses and waiting may take together. Default: no limit.",
    "Step.fallback": "The answer after the last attempt has failed. Default: none.",
    "Step.join": "all (default): all dependencies succeeded. any: one succeeded. all_done: all ended.",
    "Step.for_each": "Runs the step once for every item of a list.",
    "Step.allow_failure": "Whether the run and the step's dependents continue after its failure. Default: false.",
    "Step.concurrency_key": "A JSON Pointer into the input. Limits by key count each value there separately.",
    "Step.on_interrupt": "What to do when the server stops during an attempt: retry (default) or fail.",
    "Binding.target": "The place of the value in the input: a JSON Pointer. Empty: the whole input.",
    "Binding.step": "The output of another step, or part of it.",
    "Binding.input": "A JSON Pointer into the run's input. Empty: the whole.",
    "Binding.item": "A JSON Pointer into the current item of a for_each. Empty: the whole.",
    "Binding.secret": "The name of a secret of the server.",
    "Binding.expression": "A CEL expression over `deps`, `input` and `item`.",
    "Binding.default": "The value if the source has none.",
    "StepOutput.id": "The step.",
    "StepOutput.path": "A JSON Pointer into its output. Empty: the whole.",
    "Retry.max_attempts": "The number of attempts, with the first. Default: 1.",
    "Retry.initial_backoff": "The pause before the second attempt. Default: 500ms.",
    "Retry.backoff_multiplier": "The factor by which each pause exceeds the one before. Default: 2.",
    "Retry.max_backoff": "The longest pause. Default: 30s.",
    "Retry.jitter": "The random share of a pause, 0 to 1. Default: 0.2.",
    "Retry.retryable_reasons": "The reasons of failures to retry. "
    "Default: action_error, timeout, unavailable and rate_limited.",
    "Fallback.action": "Another action, which gets one attempt with the step's timeout: its name, or a mapping.",
    "Fallback.value": "A fixed value.",
    "FallbackAction.action": "The name of the action.",
    "FallbackAction.input": "The action's input, with references. Default: the step's input.",
    "FallbackAction.bindings": "Values to put into the input.",
    "ForEach.step": "The list is the output of another step, or part of it.",
    "ForEach.input": "The list is in the run's input: a JSON Pointer.",
    "ForEach.expression": "The list is the value of a CEL expression over `deps` and `input`.",
    "ForEach.items": "The list itself.",
    "ForEach.max_parallelism": "The largest number of children in flight at once. Default: the run's limit.",
}
"""The descriptions that editors show, by message and field; run-time descriptors have no comments."""

_REQUIRED = {
    "Workflow": ["name", "steps"],
    "Step": ["id"],
    "StepOutput": ["id"],
    "FallbackAction": ["action"],
}
_REFERENCE_DESCRIPTIONS = {
    "$from": "The output of another step, or part of it: `step` or `step/pointer`.",
    "$input": "A JSON Pointer into the run's input. Empty: the whole.",
    "$item": "A JSON Pointer into the current item of a for_each. Empty: the whole.",
    "$secret": "The name of a secret of the server.",
    "$cel": "A CEL expression over `deps`, `input` and `item`.",
}
_LIST_SOURCES = ("$from", "$input", "$cel")
_TYPES = {FieldDescriptor.CPPTYPE_STRING: "string", FieldDescriptor.CPPTYPE_BOOL: "boolean"}
_DURATION: Mapping[str, JSON] = {
    "anyOf": [{"type": "string", "pattern": f"^{DURATION_PATTERN}$"}, {"type": "number", "minimum": 0}]
}


def workflow_schema() -> Mapping[str, JSON]:
    """Return the JSON Schema (draft 2020-12) of a workflow file.

    It covers what the file's reader checks, and the keys that the contract requires. Facts of a server, such as its
    actions, are not in it.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Stepwave workflow",
        **_message(_ROOT),
        "patternProperties": {f"^{EXTENSION}": {}},
        "$defs": {
            **{descriptor.name: _message(descriptor) for descriptor in reachable(_ROOT)},
            "input": _value("input", REFERENCES),
            "data": _value("data", {}),
            "list": _list(),
        },
    }


def _message(descriptor: Descriptor) -> dict[str, JSON]:
    fields = {field.name: _described(field) for field in descriptor.fields}
    schema: dict[str, JSON] = {
        "type": "object",
        "properties": fields,
        "additionalProperties": False,
    }
    if descriptor.name in _REQUIRED:
        schema["required"] = _REQUIRED[descriptor.name]
    if OVER in keys(descriptor):
        schema["properties"] = {OVER: {"$ref": "#/$defs/list"}, **fields}
    alternatives = [_at_most_one(names) for names in rivals(descriptor)]
    if descriptor.name == "Step":
        alternatives.append({"anyOf": [{"required": ["action"]}, {"required": ["workflow"]}]})
    if alternatives:
        schema["allOf"] = alternatives
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
    if is_json_text(field):
        return {"anyOf": [{"type": "object"}, {"type": "string"}]}
    if is_map(field):
        return {"type": "object", "additionalProperties": _single(map_value(field))}
    if field.is_repeated:
        return {"type": "array", "items": _single(field)}
    return _single(field)


def _list() -> JSON:
    """Return the schema of the list of a `for_each`: a reference without a default, or the list itself."""
    return {
        "description": "The list: $from, $input or $cel, or the list itself.",
        "oneOf": [
            {"type": "array", "items": {"$ref": "#/$defs/data"}},
            *({"type": "object", "allOf": [_closed(key, {key: _source(key)})]} for key in _LIST_SOURCES),
            {"type": "object", "allOf": [_literal({"type": "array"})]},
        ],
    }


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
    """Return the schema of a value of any shape, in which a mapping with a key of `references` is a reference."""
    special = [*REFERENCES, "$literal"]
    return {
        "items": {"$ref": f"#/$defs/{name}"},
        "if": {"type": "object", "anyOf": [{"required": [key]} for key in special]},
        "then": {
            "oneOf": [*map(_reference, references), _literal({"description": "Data in which no key is a reference."})]
        },
        "else": {"additionalProperties": {"$ref": f"#/$defs/{name}"}},
    }


def _reference(key: str) -> JSON:
    default: JSON = {"$ref": "#/$defs/data", "description": DESCRIPTIONS["Binding.default"]}
    return _closed(key, {key: _source(key), "default": default})


def _source(key: str) -> JSON:
    return {"type": "string", "description": _REFERENCE_DESCRIPTIONS[key]}


def _literal(value: JSON) -> JSON:
    return _closed("$literal", {"$literal": value})


def _closed(required: str, properties: Mapping[str, JSON]) -> JSON:
    return {"properties": properties, "required": [required], "additionalProperties": False}
