"""Arguments of an action's function: taken from the input's keys by name, and checked against type hints.

Pydantic checks them in the way of its `validate_call`, so that a signature means the same here.
"""

import inspect
import json
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import Parameter
from typing import Any, TypeAlias, cast

import jsonpointer
from pydantic import AliasChoices, AliasPath, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ArgsKwargs, ErrorDetails

from stepwave._actions.context import Context
from stepwave._actions.hints import advice, is_context, read_hint
from stepwave._actions.typed_dicts import accept_typed_dicts
from stepwave._values.payload import Blob
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.output_schema import SilentSchema
from stepwave_server.actions.values import Unread, load
from stepwave_server.core.model import Payload, Reason
from stepwave_server.core.validate import did_you_mean

__all__ = [
    "Check",
    "Problem",
    "Signature",
    "SignatureError",
    "describe",
    "overlap",
    "problems_of",
    "tokens",
    "type_name",
    "unknown_key",
]

MAX_PROBLEMS = 10

Problem: TypeAlias = tuple[tuple[str, ...], str]
"""A path in the input, and the problem there."""

Check: TypeAlias = Callable[[Mapping[str, object]], tuple[dict[str, object], list[Problem]]]
"""Returns the arguments that a function gets for some keys of an input, or their problems."""

_CONFIG = ConfigDict(arbitrary_types_allowed=True)
_MISSING = "missing_keyword_only_argument"
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class SignatureError(Exception):
    """Raised when a parameter of an action cannot be filled from an input. Lists all such parameters."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a function.

    Attributes:
        check: Checks the arguments from the input, and fills in defaults; `None`: there are no such parameters.
        keys: The keys of the input by the parameter that takes them.
        whole: The name of the parameter that takes the whole input; empty: none.
        unread: Whether that parameter takes the input as it came, as `Unread`.
        context: The name of the parameter that takes the context; empty: none.
        takes_others: Whether the function takes any other key as well, by `**kwargs`.
        schema: A JSON Schema of the input; empty: none.
    """

    check: Check | None
    keys: Mapping[str, tuple[str, ...]]
    whole: str
    unread: bool
    context: str
    takes_others: bool
    schema: Mapping[str, object]

    @classmethod
    def of(cls, function: Callable[..., object], signature: inspect.Signature | None = None) -> "Signature":
        """Read a function's signature.

        Args:
            function: The function.
            signature: Its signature, if `inspect` cannot tell it.

        Raises:
            SignatureError: A parameter cannot be filled by name, or its type hint cannot be read or checked.
        """
        parameters = (signature or inspect.signature(function)).parameters.values()
        hints = _hints(function, parameters)
        context = next((name for name, hint in hints.items() if is_context(hint)), "")
        unread = _is_unread(hints.get("input"))
        if unread:
            hints["input"] = object
        filled = [it.replace(annotation=hints[it.name]) for it in parameters if it.name != context]
        takes_others = any(it.kind is Parameter.VAR_KEYWORD for it in filled)
        keys = {it.name: _keys(it) for it in filled if it.kind in _BY_NAME}
        whole = "input" if "input" in keys else ""
        if whole and len(keys) > 1:
            raise SignatureError("a parameter named `input` takes the whole input: no others can be filled from it")
        checker = _checker(filled) if filled else None
        name = str(getattr(function, "__name__", "input"))
        return cls(
            check=None if checker is None else partial(_checked, checker, 1 if whole else 0),
            keys=keys,
            whole=whole,
            unread=unread,
            context=context,
            takes_others=takes_others,
            schema=_schema(checker, keys[whole][0] if whole else "", name),
        )

    def arguments(self, payload: Payload, context: Callable[[], Context], *, strict: bool = False) -> dict[str, object]:
        """Return the function's keyword arguments for an input. The input is not read if no parameter takes it.

        Args:
            payload: The input.
            context: Returns the context; called only if the function takes it.
            strict: Whether keys that no parameter takes are an error, or ignored.

        Raises:
            ActionFailed: The input does not match the parameters. All problems are listed.
        """
        arguments: dict[str, object] = {}
        if self.check is not None or strict:
            value = Unread(payload) if self.unread else load(payload)
            arguments, problems = self._read(value, strict=strict)
            if problems:
                raise ActionFailed(Reason.INVALID_INPUT, _listed([problem for _, problem in problems]))
        if self.context:
            arguments[self.context] = context()
        return arguments

    def problems(self, payload: Payload, targets: Sequence[str]) -> list[str]:
        """Return the problems of an input that no value of its bindings can solve.

        Args:
            payload: The input without the values of its bindings.
            targets: JSON Pointers to the values that bindings will set.
        """
        if "" in targets:
            return []
        paths = [tokens(target) for target in targets]
        try:
            value = load(payload)
            _, problems = self._read({} if value is None and paths else value, strict=True)
        except Exception:  # malformed JSON is reported elsewhere, and an error of the action's validator by the attempt
            return []
        unknown = self._unknown({path[0]: None for path in paths})
        return [text for at, text in [*problems, *unknown] if not any(overlap(at, path) for path in paths)]

    def _read(self, value: object, *, strict: bool) -> tuple[dict[str, object], list[Problem]]:
        """Return the arguments in an input's value, and its problems."""
        if self.whole:
            return self._checked({self.keys[self.whole][0]: value})
        if value is None:
            value = {}
        if not isinstance(value, dict):
            if self.check is None:
                return {}, []
            expected = ", ".join(keys[0] for keys in self.keys.values()) or "any keys"
            return {}, [((), f"the input must be an object ({expected}), got {type_name(value)}")]
        unknown = self._unknown(value) if strict else []
        arguments, problems = self._checked(self._select(value))
        return arguments, [*problems, *unknown]

    def _checked(self, given: Mapping[str, object]) -> tuple[dict[str, object], list[Problem]]:
        return ({}, []) if self.check is None else self.check(given)

    def _select(self, value: Mapping[str, object]) -> dict[str, object]:
        """Return the keys of an input that parameters take, with their values."""
        if self.takes_others:
            return {key: item for key, item in value.items() if key != self.context}
        known = self._known()
        return {key: item for key, item in value.items() if key in known}

    def _unknown(self, value: Mapping[str, object]) -> list[Problem]:
        """Return a problem for every key of an input that no parameter takes."""
        if self.takes_others or self.whole:
            return []
        known = self._known()
        return [((key, ""), unknown_key(key, known)) for key in value if key not in known]

    def _known(self) -> set[str]:
        return {key for keys in self.keys.values() for key in keys}


def _hints(function: Callable[..., object], parameters: Iterable[Parameter]) -> dict[str, object]:
    """Return the type hints of parameters, by name."""
    hints: dict[str, object] = {}
    problems: list[str] = []
    for parameter in parameters:
        name = parameter.name
        try:
            hints[name] = _hint(function, parameter)
        except Exception as error:  # evaluating a hint runs the action's code
            problems.append(f"parameter {name!r}: its type hints cannot be read: {error}{advice(error)}")
            continue
        if parameter.kind not in (*_BY_NAME, Parameter.VAR_KEYWORD) and not is_context(hints[name]):
            problems.append(f"parameter {name!r} cannot be filled by name")
    if problems:
        raise SignatureError("; ".join(problems))
    return hints


def _hint(function: Callable[..., object], parameter: Parameter) -> object:
    hint = read_hint(function, parameter)
    accept_typed_dicts(hint)
    return Any if isinstance(hint, typing.ParamSpecKwargs) else hint


def _is_unread(hint: object) -> bool:
    """Return whether a hint is `Unread`. It may be optional, for calls without a server."""
    return hint is Unread or Unread in typing.get_args(hint)


def _keys(parameter: Parameter) -> tuple[str, ...]:
    """Return the keys of an input that a parameter takes: its name, or its aliases in pydantic's `Field`."""
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
    """Return the checker of arguments: pydantic's adapter of a function that has these parameters."""
    try:
        return _adapter(parameters)
    except Exception as error:  # hooks of types for pydantic are the action's code
        problems = [
            f"parameter {it.name!r} cannot be checked: {reason}" for it in parameters if (reason := _problem(it))
        ]
        raise SignatureError("; ".join(problems) or f"its parameters cannot be checked: {error}") from error


def _problem(parameter: Parameter) -> str:
    """Return why a parameter cannot be checked; empty if it can."""
    try:
        _adapter([parameter])
    except Exception as error:
        return str(error).partition("\n")[0] or type(error).__name__
    return ""


def _adapter(parameters: Sequence[Parameter]) -> TypeAdapter[dict[str, object]]:
    def collect(**arguments: object) -> dict[str, object]:
        return arguments

    by_name = [it if it.kind is it.VAR_KEYWORD else it.replace(kind=it.KEYWORD_ONLY) for it in parameters]
    collect.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]  # where `inspect` looks
    collect.__annotations__ = {it.name: it.annotation for it in by_name}
    adapter: TypeAdapter[dict[str, object]] = TypeAdapter(cast("Any", collect), config=_CONFIG)
    adapter.rebuild(raise_errors=True)
    return adapter


def _checked(
    checker: TypeAdapter[dict[str, object]], skip: int, arguments: Mapping[str, object]
) -> tuple[dict[str, object], list[Problem]]:
    """Return checked arguments, or their problems. The first `skip` parts of a problem's path are left out."""
    try:
        return checker.validate_python(ArgsKwargs((), dict(arguments))), []
    except ValidationError as error:
        return {}, problems_of(error, skip)


def problems_of(error: ValidationError, skip: int = 0) -> list[Problem]:
    """Return the problems that pydantic found. The first `skip` parts of their paths are left out."""
    details = error.errors(include_url=False)
    return [(tuple(map(str, detail["loc"][skip:])), describe(detail)) for detail in details]


def tokens(pointer: str) -> tuple[str, ...]:
    """Return the tokens of a JSON Pointer."""
    return tuple(jsonpointer.unescape(token) for token in pointer.split("/")[1:])


def overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether one of two paths is a prefix of the other."""
    return all(left == right for left, right in zip(one, other, strict=False))


def _schema(checker: TypeAdapter[dict[str, object]] | None, whole: str, name: str) -> Mapping[str, object]:
    if checker is None:
        return {}
    try:
        raw = checker.json_schema(schema_generator=SilentSchema)
        # A bound may be infinite, which JSON cannot hold.
        schema: dict[str, Any] = json.loads(json.dumps(raw), parse_constant=lambda _: None)
    except Exception:  # a type that JSON Schema cannot describe
        return {}
    if not whole:
        schema = {"title": name, **schema}
        if schema.get("additionalProperties") is False:  # unknown keys are ignored
            del schema["additionalProperties"]
        return schema
    inner: dict[str, object] = dict(schema["properties"][whole])
    return inner | {"$defs": schema["$defs"]} if "$defs" in schema else inner


def _listed(problems: Sequence[str]) -> str:
    more = len(problems) - MAX_PROBLEMS
    return "; ".join(problems[:MAX_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def unknown_key(key: str, known: Collection[str]) -> str:
    """Return the problem of a key of an input that no parameter takes."""
    listed = f"; it takes {', '.join(sorted(known))}" if known else ", and takes no input"
    return f'the action does not know the key "{key}"{did_you_mean(key, known) or listed}'


def describe(detail: ErrorDetails) -> str:
    """Return a problem that pydantic found, with its place if it is not one of the whole value."""
    message = "field required" if detail["type"] == _MISSING else detail["msg"]
    place = f"{'.'.join(map(str, detail['loc']))}: " if detail["loc"] else ""
    return f"{place}{message[:1].lower()}{message[1:]}"


def type_name(value: object) -> str:
    """Return the name of the type of a JSON value or blob."""
    if isinstance(value, Blob):
        return "a blob"
    return {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list"}[type(value)]
