"""An action of another process, as that process describes it, and the checks of inputs that need no code of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from jsonschema.exceptions import ValidationError
from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticError

from stepwave_server.actions.call import Problem, describe, overlap, tokens, type_name, unknown_key
from stepwave_server.actions.registry import Action
from stepwave_server.actions.values import load
from stepwave_server.core.model import Blob, Payload
from stepwave_server.wire.workflows.input_schema import TookTooLong, schema_errors, schema_problem

__all__ = ["DescribedAction"]

_TYPES: Mapping[str, TypeAdapter[Any]] = {
    "array": TypeAdapter(list[Any]),
    "boolean": TypeAdapter(bool),
    "integer": TypeAdapter(int),
    "null": TypeAdapter(None),
    "number": TypeAdapter(float),
    "object": TypeAdapter(dict[str, Any]),
    "string": TypeAdapter(str),
}

_BOUNDS = {
    "minimum": "input should be greater than or equal to",
    "maximum": "input should be less than or equal to",
    "exclusiveMinimum": "input should be greater than",
    "exclusiveMaximum": "input should be less than",
}

_UNCHECKED = frozenset({"uniqueItems"})
"""Keywords that the action itself does not enforce: a set takes equal items."""


@dataclass(frozen=True, slots=True)
class DescribedAction:
    """An action that another process has.

    An action converts some values: the text "5" is a number for it. So its schema is read as loosely as the action
    reads inputs.

    Attributes:
        name: The name by which steps refer to it.
        description: The first paragraph of its docstring.
        input_schema: A JSON Schema of its input, as JSON text; empty or `{}`: any input.
        output_schema: A JSON Schema of its output, as JSON text; empty: not known.
        streaming: Whether it answers in chunks.
        idempotent: Whether to run it twice has the same effect as to run it once; false: not known.
        source: Its source, as `module:function`, or `built-in`.
        keys: The keys of the input that it takes; `None`: it takes the whole input.
        takes_others: Whether it takes any other key as well.
    """

    name: str
    description: str = ""
    input_schema: str = ""
    output_schema: str = ""
    streaming: bool = False
    idempotent: bool = False
    source: str = ""
    keys: tuple[str, ...] | None = None
    takes_others: bool = False

    @classmethod
    def of(cls, action: Action) -> "DescribedAction":
        """Return the description of an action of this process."""
        return cls(
            name=action.name,
            description=action.description,
            input_schema=action.input_schema,
            output_schema=action.output_schema,
            streaming=action.streaming,
            idempotent=action.idempotent,
            source=action.source,
            keys=action.keys,
            takes_others=action.takes_others,
        )

    def problems(self, payload: Payload, targets: Sequence[str]) -> list[str]:
        """Return the problems of an input that no values of its bindings, at these JSON Pointers, can solve."""
        if "" in targets:
            return []
        paths = [tokens(target) for target in targets]
        try:
            found = self._found(payload, paths)
        except (
            ValueError,
            RecursionError,
            TookTooLong,
        ):  # malformed JSON is reported elsewhere; the action checks again
            return []
        return [text for at, text in found if not any(overlap(at, path) for path in paths)]

    def _found(self, payload: Payload, paths: Sequence[tuple[str, ...]]) -> list[Problem]:
        value = load(payload) if isinstance(payload, Blob) else json.loads(payload)
        if self.keys is None:
            return [] if isinstance(payload, Blob) else self._schema_problems(value, "input")
        unknown = self._unknown([path[0] for path in paths])
        if value is None:
            value = {}
        if not isinstance(value, dict):
            if not self.keys and not self.takes_others:
                return unknown
            expected = ", ".join(self.keys) or "any keys"
            return [((), f"the input must be an object ({expected}), got {type_name(value)}"), *unknown]
        taken = value if self.takes_others else {key: item for key, item in value.items() if key in self.keys}
        return [*self._schema_problems(taken, ""), *dict.fromkeys([*self._unknown(value), *unknown])]

    def _unknown(self, names: Iterable[str]) -> list[Problem]:
        if self.keys is None or self.takes_others:
            return []
        return [((name, ""), unknown_key(name, set(self.keys))) for name in names if name not in self.keys]

    def _schema_problems(self, value: object, prefix: str) -> list[Problem]:
        if not self.input_schema or schema_problem(self.input_schema):
            return []
        problems: list[Problem] = []
        for error in schema_errors(self.input_schema, value):
            problems += _problems(error, prefix)
        return list(dict.fromkeys(problems))


def _problems(error: ValidationError, prefix: str) -> list[Problem]:
    """Return the problems of one error of the validator; empty: the action takes the value all the same."""
    path = tuple(map(str, error.absolute_path))
    wanted: Any = error.validator_value  # the value of the keyword: any JSON
    instance: Any = error.instance
    match error.validator:
        case "required":
            missing = [key for key in wanted if key not in instance]
            return [_problem((*path, key), "field required", prefix) for key in missing]
        case "type":
            text = _type_problem(wanted, error)
        case "enum":
            text = f"input should be {_choices(wanted)}"
        case "const":
            text = f"input should be {wanted!r}"
        case "anyOf" | "oneOf":
            return _branch_problems(wanted, error, prefix)
        case str(keyword) if keyword in _BOUNDS:
            text = f"{_BOUNDS[keyword]} {wanted}"
        case str(keyword) if keyword in _UNCHECKED:
            text = ""
        case _:
            text = error.message
    return [_problem(path, text, prefix)] if text else []


def _type_problem(wanted: str | Sequence[str], error: ValidationError) -> str:
    """Return why a value cannot be converted to the type that a schema names; empty: it can."""
    kinds = [wanted] if isinstance(wanted, str) else wanted
    schema = cast("Mapping[str, object]", error.schema)
    if "string" in kinds and "format" in schema:  # a date, for example, may be a number
        return ""
    texts = [_conversion_problem(_TYPES[kind], error.instance) for kind in kinds if kind in _TYPES]
    return "" if "" in texts or not texts else texts[0]


def _conversion_problem(adapter: TypeAdapter[Any], value: object) -> str:
    try:
        adapter.validate_python(value)
    except PydanticError as error:
        return describe(error.errors(include_url=False)[0])
    return ""


def _branch_problems(schemas: Sequence[object], error: ValidationError, prefix: str) -> list[Problem]:
    """Return the problems of a value that matches none of several schemas; empty: the action takes it all the same."""
    branches: list[list[Problem]] = [[] for _ in schemas]
    for inner in error.context or ():
        branches[int(inner.schema_path[0])] += _problems(inner, prefix)
    if not all(branches):
        return []
    named = [found for schema, found in zip(schemas, branches, strict=True) if schema != {"type": "null"}]
    return [problem for found in named for problem in found]


def _problem(path: tuple[str, ...], text: str, prefix: str) -> Problem:
    return path, f"{'.'.join([*prefix.split(), *path])}: {text}"


def _choices(values: Sequence[object]) -> str:
    *first, last = map(repr, values)
    return f"{', '.join(first)} or {last}" if first else last
