"""How an action's code is called: parameters from the input's keys by name, checked against type hints.

Pydantic checks them as its own `validate_call` would: what that understands of a signature is understood here.
"""

import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, TypeAlias, cast

import jsonpointer
from pydantic import AliasChoices, AliasPath, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import ArgsKwargs, ErrorDetails

from stepwave._actions.context import Context
from stepwave._values.payload import Blob
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.hints import accept_typed_dicts, read_hint
from stepwave_server.actions.values import load
from stepwave_server.core.model import Payload, Reason
from stepwave_server.core.validate import did_you_mean

__all__ = ["Signature", "SignatureError"]

MOST_PROBLEMS = 10

_Problem: TypeAlias = tuple[tuple[str, ...], str]
"""Where in an input something is wrong, and what."""

_CONFIG = ConfigDict(arbitrary_types_allowed=True)
_MISSING = "missing_keyword_only_argument"
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class SignatureError(Exception):
    """Raised when an action's parameters cannot be filled from an input; names everything that is in the way."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function wants.

    Attributes:
        checker: Checks the keyword arguments that come from the input, and fills in defaults; `None`: there are none.
        keys: The keys of the input that are taken, by the parameter that takes them.
        whole: The name of the parameter that takes the whole input; empty: there is none.
        context: The name of the parameter that takes the context; empty: there is none.
        open: Keys of the input that no parameter takes are handed over as well.
        schema: A JSON Schema of the input.
    """

    checker: TypeAdapter[dict[str, object]] | None
    keys: Mapping[str, tuple[str, ...]]
    whole: str
    context: str
    open: bool
    schema: Mapping[str, object]

    @classmethod
    def of(cls, function: Callable[..., object], signature: inspect.Signature | None = None) -> "Signature":
        """Read a function's signature.

        Args:
            function: What is to be called.
            signature: How, if it does not say so itself.

        Raises:
            SignatureError: A parameter cannot be filled by name, or its type hint cannot be read or checked.
        """
        given = (signature or inspect.signature(function)).parameters.values()
        hints = _hints(function, given)
        context = next((name for name, hint in hints.items() if _is_context(hint)), "")
        wanted = [it.replace(annotation=hints[it.name]) for it in given if it.name != context]
        spills = any(it.kind is Parameter.VAR_KEYWORD for it in wanted)
        keys = {it.name: _keys(it) for it in wanted if it.kind in _BY_NAME}
        whole = "input" if "input" in keys else ""
        if whole and len(keys) > 1:
            raise SignatureError("a parameter named `input` takes the whole input: no others can be filled from it")
        checker = _checker(wanted) if wanted else None
        name = str(getattr(function, "__name__", "input"))
        return cls(checker, keys, whole, context, spills, _schema(checker, keys[whole][0] if whole else "", name))

    def arguments(self, payload: Payload, context: Callable[[], Context], *, strict: bool = False) -> dict[str, object]:
        """Return the function's keyword arguments for an input; one that nobody asks for is not even read.

        Args:
            payload: The input.
            context: Makes the context, if the function asks for it.
            strict: Whether keys that no parameter takes are refused, or passed over.

        Raises:
            ActionFailed: The input does not fit, with everything that is wrong.
        """
        arguments: dict[str, object] = {}
        if self.checker is not None or strict:
            arguments, problems = self._read(load(payload), strict=strict)
            if problems:
                raise ActionFailed(Reason.INVALID_INPUT, _listed([problem for _, problem in problems]))
        if self.context:
            arguments[self.context] = context()
        return arguments

    def problems(self, payload: Payload, targets: Sequence[str]) -> list[str]:
        """Return what is wrong with an input whatever its bindings will put into it.

        Args:
            payload: The input as it was written.
            targets: JSON Pointers to where bindings put values.
        """
        if "" in targets:
            return []
        places = [_tokens(target) for target in targets]
        try:
            value = load(payload)
            _, problems = self._read({} if value is None and places else value, strict=True)
        except (
            Exception
        ):  # malformed, which others tell; or by a validator of the action's, which the attempt will tell
            return []
        unknown = self._unknown({place[0]: None for place in places})
        return [problem for where, problem in [*problems, *unknown] if not any(_meet(where, place) for place in places)]

    def _read(self, value: object, *, strict: bool) -> tuple[dict[str, object], list[_Problem]]:
        """Return the arguments that an input's value gives, and what is wrong with it, each with its place."""
        if self.whole:
            return _checked(self.checker, {self.keys[self.whole][0]: value}, skip=1)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            if self.checker is None:
                return {}, []
            wanted = ", ".join(keys[0] for keys in self.keys.values()) or "any keys"
            return {}, [((), f"the input must be an object ({wanted}), got {_kind(value)}")]
        unknown = self._unknown(value) if strict else []
        arguments, problems = _checked(self.checker, self._taken(value))
        return arguments, [*problems, *unknown]

    def _taken(self, value: Mapping[str, object]) -> dict[str, object]:
        """Return what of an input is taken by name."""
        if self.open:
            return {key: item for key, item in value.items() if key != self.context}
        known = self._known()
        return {key: item for key, item in value.items() if key in known}

    def _unknown(self, value: Mapping[str, object]) -> list[_Problem]:
        """Name the keys of an input that no parameter takes."""
        if self.open or self.whole:
            return []
        known = self._known()
        listed = f"; it takes {', '.join(sorted(known))}" if known else ", and takes no input"
        return [
            ((key, ""), f'the action does not know the key "{key}"{did_you_mean(key, known) or listed}')
            for key in value
            if key not in known
        ]

    def _known(self) -> set[str]:
        return {key for keys in self.keys.values() for key in keys}


def _hints(function: Callable[..., object], parameters: Iterable[Parameter]) -> dict[str, object]:
    """Return what parameters are annotated with, by their names."""
    hints: dict[str, object] = {}
    problems: list[str] = []
    for parameter in parameters:
        name = parameter.name
        try:
            hints[name] = _hint(function, parameter)
        except Exception as error:  # evaluating a hint runs the action's code
            problems.append(f"parameter {name!r}: its type hints cannot be read: {error}{_advice(error)}")
            continue
        if parameter.kind not in (*_BY_NAME, Parameter.VAR_KEYWORD) and not _is_context(hints[name]):
            problems.append(f"parameter {name!r} cannot be filled by name")
    if problems:
        raise SignatureError("; ".join(problems))
    return hints


def _hint(function: Callable[..., object], parameter: Parameter) -> object:
    if parameter.annotation is Parameter.empty:
        return Any
    hint = read_hint(function, parameter.name, parameter.annotation)
    accept_typed_dicts(hint)
    return Any if isinstance(hint, typing.ParamSpecKwargs) else hint


def _advice(error: Exception) -> str:
    return " (is it imported only `if TYPE_CHECKING`?)" if isinstance(error, NameError) else ""


def _is_context(hint: object) -> bool:
    """Say whether a parameter asks for the context; it may be optional, for calls without a server."""
    wraps = typing.get_origin(hint) in {typing.Union, types.UnionType, typing.Annotated}
    return hint is Context or (wraps and any(_is_context(part) for part in typing.get_args(hint)))


def _keys(parameter: Parameter) -> tuple[str, ...]:
    """Return the keys of an input that a parameter takes: its name, or what pydantic's `Field` calls it."""
    if parameter.default is Parameter.empty:
        alias = FieldInfo.from_annotation(parameter.annotation).validation_alias
    else:
        alias = FieldInfo.from_annotated_attribute(parameter.annotation, parameter.default).validation_alias
    match alias:
        case None:
            return (parameter.name,)
        case str():
            return (alias,)
        case AliasPath():
            return (str(alias.path[0]),)
        case AliasChoices():
            return tuple(str(choice if isinstance(choice, str) else choice.path[0]) for choice in alias.choices)


def _checker(parameters: Sequence[Parameter]) -> TypeAdapter[dict[str, object]]:
    """Return what checks arguments: a function of these parameters that gives them back, as pydantic calls it."""
    try:
        return _adapter(parameters)
    except Exception as error:  # a type may have hooks for pydantic, which are the action's code
        problems = [f"parameter {it.name!r} cannot be checked: {why}" for it in parameters if (why := _problem(it))]
        raise SignatureError("; ".join(problems) or f"its parameters cannot be checked: {error}") from error


def _problem(parameter: Parameter) -> str:
    """Return why a parameter cannot be checked; empty if it can."""
    try:
        _adapter([parameter])
    except Exception as error:
        return str(error).partition("\n")[0] or type(error).__name__
    return ""


def _adapter(parameters: Sequence[Parameter]) -> TypeAdapter[dict[str, object]]:
    def give(**arguments: object) -> dict[str, object]:
        return arguments

    by_name = [it if it.kind is it.VAR_KEYWORD else it.replace(kind=it.KEYWORD_ONLY) for it in parameters]
    give.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]  # what `inspect` looks for
    give.__annotations__ = {it.name: it.annotation for it in by_name}
    adapter: TypeAdapter[dict[str, object]] = TypeAdapter(cast("Any", give), config=_CONFIG)
    adapter.rebuild(raise_errors=True)
    return adapter


def _checked(
    checker: TypeAdapter[dict[str, object]] | None, arguments: Mapping[str, object], *, skip: int = 0
) -> tuple[dict[str, object], list[_Problem]]:
    """Return checked arguments, or what is wrong with them; the first `skip` parts of a place are not the input's."""
    if checker is None:
        return {}, []
    try:
        return checker.validate_python(ArgsKwargs((), dict(arguments))), []
    except ValidationError as error:
        details = error.errors(include_url=False)
        return {}, [(tuple(map(str, detail["loc"][skip:])), _said(detail)) for detail in details]


def _tokens(pointer: str) -> tuple[str, ...]:
    return tuple(jsonpointer.unescape(token) for token in pointer.split("/")[1:])


def _meet(one: Sequence[str], other: Sequence[str]) -> bool:
    """Say whether one of two places lies within the other, or is it."""
    return all(left == right for left, right in zip(one, other, strict=False))


class _Schema(GenerateJsonSchema):
    """Makes JSON Schemas without warnings: a default that JSON cannot hold is left out."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - so it is declared


def _schema(checker: TypeAdapter[dict[str, object]] | None, whole: str, name: str) -> Mapping[str, object]:
    if checker is None:
        return {}
    try:
        made = checker.json_schema(schema_generator=_Schema)
        # A bound may be infinite, which is no JSON.
        schema: dict[str, Any] = json.loads(json.dumps(made), parse_constant=lambda _: None)
    except Exception:  # a type that JSON Schema cannot describe
        return {}
    if not whole:
        schema = {"title": name, **schema}
        if schema.get("additionalProperties") is False:  # they are passed over
            del schema["additionalProperties"]
        return schema
    inner: dict[str, object] = dict(schema["properties"][whole])
    return inner | {"$defs": schema["$defs"]} if "$defs" in schema else inner


def _listed(problems: Sequence[str]) -> str:
    more = len(problems) - MOST_PROBLEMS
    return "; ".join(problems[:MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def _said(detail: ErrorDetails) -> str:
    message = "field required" if detail["type"] == _MISSING else detail["msg"]
    return f"{'.'.join(map(str, detail['loc']))}: {message[:1].lower()}{message[1:]}"


def _kind(value: object) -> str:
    if isinstance(value, Blob):
        return "a blob"
    return {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list"}[type(value)]
