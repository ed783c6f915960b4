"""The JSON Schema of what an action answers, from the type that it declares."""

import json
import typing
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from stepwave._actions.declarations import answer_type
from stepwave._actions.hints import UNIONS, without_alias
from stepwave._actions.typed_dicts import accept_typed_dicts
from stepwave._values.payload import Blob
from stepwave_server.actions.values import Unread

__all__ = ["SilentSchema", "output_schema"]


class SilentSchema(GenerateJsonSchema):
    """Makes JSON Schemas without warnings: a default that JSON cannot hold is left out."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as the base class declares it


def output_schema(target: object, declared: object = None) -> str:
    """Return the JSON Schema of an action's output where it is JSON, as JSON text; empty: not known.

    Args:
        target: The function, class or object of the action.
        declared: The type of its answer, if its return type does not tell it.
    """
    try:
        hint = _json_type(answer_type(target) if declared is None else declared)
        accept_typed_dicts(hint)
        schema = TypeAdapter(hint).json_schema(mode="serialization", schema_generator=SilentSchema)
        text = json.dumps(schema, allow_nan=False)
    except Exception:  # a type that JSON Schema cannot describe, or its hooks for pydantic: the action's code
        return ""
    return "" if text == "{}" else text


def _json_type(hint: Any) -> Any:
    """Return the type that an answer of a type has where it is JSON.

    Raises:
        TypeError: It is never JSON, or may be any.
    """
    hint = without_alias(hint)
    parts = typing.get_args(hint) if typing.get_origin(hint) in UNIONS else (hint,)
    if Unread in parts:
        raise TypeError("the answer is the input")
    return typing.Union[tuple(part for part in parts if part is not Blob)]  # noqa: UP007 - of a tuple
