"""The arguments of an agent's tool: checked against the schema of the tool in place of type hints."""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeAlias, cast

from jsonschema.exceptions import ValidationError
from pydantic import ValidationError as PydanticError

from stepwave._actions.hints import is_context, read_hint
from stepwave._actions.tools import ToolAction
from stepwave_server.actions.call import Problem, Signature, SignatureError, problems_of
from stepwave_server.actions.failures import cut
from stepwave_server.wire.workflows.input_schema import TookTooLong, schema_errors, schema_problem

__all__ = ["tool_signature"]

MAX_TEXT = 200
"""Characters of a problem."""

_Checked: TypeAlias = tuple[dict[str, object], list[Problem]]


class _Model(Protocol):
    """A class of pydantic models."""

    def model_validate(self, obj: object, /) -> object: ...


def tool_signature(tool: ToolAction[Any]) -> Signature:
    """Return the signature of a tool.

    Raises:
        SignatureError: Inputs cannot be checked against its schema.
    """
    model = cast("_Model | None", tool.model)
    if model is None and (problem := schema_problem(tool.input_schema)):
        raise SignatureError(f"the schema of its arguments: {problem}")
    return Signature(
        check=partial(_by_schema, tool.input_schema) if model is None else partial(_by_model, model),
        keys={key: (key,) for key in tool.keys},
        whole="",
        unread=False,
        context=_context_parameter(tool.function),
        takes_others=tool.takes_others,
        schema=json.loads(tool.input_schema),
    )


def _context_parameter(function: Callable[..., object]) -> str:
    """Return the name of the parameter that takes the context; empty: none. Other hints need not be readable."""
    parameters = {}
    with suppress(TypeError, ValueError):  # a built-in function may have no signature
        parameters = dict(inspect.signature(function, follow_wrapped=False).parameters)
    for name, parameter in parameters.items():
        with suppress(Exception):  # evaluating a hint runs the author's code
            if is_context(read_hint(function, parameter)):
                return name
    return ""


def _by_model(model: _Model, arguments: Mapping[str, object]) -> _Checked:
    """Check arguments with the model that the tool converts them with."""
    try:
        model.model_validate(dict(arguments))
    except PydanticError as error:
        return {}, problems_of(error)
    return dict(arguments), []


def _by_schema(schema: str, arguments: Mapping[str, object]) -> _Checked:
    try:
        problems = [problem for error in schema_errors(schema, arguments) for problem in _problems(error)]
    except (RecursionError, TookTooLong):
        return {}, [((), "the input cannot be checked against the schema: it is nested too deeply, or too large")]
    return dict(arguments), list(dict.fromkeys(problems))


def _problems(error: ValidationError) -> Iterator[Problem]:
    path = tuple(map(str, error.absolute_path))
    if error.validator == "required":
        wanted = cast("list[str]", error.validator_value)
        for key in wanted:
            if key not in cast("Mapping[str, object]", error.instance):
                yield _problem((*path, key), "field required")
    else:
        yield _problem(path, error.message)


def _problem(path: tuple[str, ...], text: str) -> Problem:
    return path, f"{'.'.join(path) or 'input'}: {cut(text, MAX_TEXT)}"
