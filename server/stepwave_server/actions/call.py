"""How an action's code is called: parameters from the input's keys by name, checked against type hints."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, PydanticSchemaGenerationError, ValidationError, create_model
from pydantic.errors import PydanticUserError

from stepwave import Blob, Context
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.values import load
from stepwave_server.core.model import Payload, Reason

__all__ = ["Signature", "SignatureError"]

MOST_PROBLEMS = 10


class SignatureError(Exception):
    """Raised when an action's parameters cannot be filled from an input."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function wants.

    Attributes:
        model: Checks the parameters that are filled by name; `None`: there are none.
        names: Those parameters by the model's field names.
        whole: The name of the parameter that takes the whole input; empty: there is none.
        context: The name of the parameter that takes the context; empty: there is none.
        open: Keys of the input that are no parameter are handed over as well.
        schema: A JSON Schema of the input.
    """

    model: type[BaseModel] | None
    names: Mapping[str, str]
    whole: str
    context: str
    open: bool
    schema: Mapping[str, object]

    @classmethod
    def of(cls, function: Callable[..., object]) -> "Signature":
        """Read a function's signature.

        Raises:
            SignatureError: A parameter is positional-only, `*args`, or of a type that cannot be checked.
        """
        hints = _hints(function)
        fields: dict[str, tuple[object, object]] = {}
        names: dict[str, str] = {}
        whole = context = ""
        spills = False
        for parameter in inspect.signature(function).parameters.values():
            hint = hints.get(parameter.name, object if parameter.annotation is parameter.empty else None)
            if _is_context(hint):
                context = parameter.name
            elif parameter.kind is parameter.VAR_KEYWORD:
                spills = True
            elif parameter.kind in {parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL}:
                raise SignatureError(f"parameter {parameter.name!r} cannot be filled by name")
            else:
                whole = parameter.name if parameter.name == "input" else whole
                name = f"p{len(fields)}"
                names[name] = parameter.name
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[name] = (hint, Field(default, alias=parameter.name))
        if whole and len(fields) > 1:
            raise SignatureError("a parameter named `input` takes the whole input: no others can be filled from it")
        model = _model(function, fields, names) if fields else None
        return cls(model, names, whole, context, spills, _schema(model, whole))

    def arguments(self, payload: Payload, context: Callable[[], Context]) -> dict[str, object]:
        """Return the function's keyword arguments for an input; one that nobody asks for is not even read.

        Raises:
            ActionFailed: The input does not fit, with everything that is wrong.
        """
        arguments: dict[str, object] = {}
        if self.model is not None or self.open:
            value = load(payload)
            arguments = self._checked({self.whole: value}) if self.whole else self._by_name(value)
        if self.context:
            arguments[self.context] = context()
        return arguments

    def _by_name(self, value: object) -> dict[str, object]:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            wanted = ", ".join(self.names.values()) or "any keys"
            raise ActionFailed(Reason.INVALID_INPUT, f"the input must be an object ({wanted}), got {_kind(value)}")
        arguments = self._checked(value)
        if self.open:
            taken = {*self.names.values(), self.context}
            arguments.update((key, item) for key, item in value.items() if key not in taken)
        return arguments

    def _checked(self, value: Mapping[str, object]) -> dict[str, object]:
        if self.model is None:
            return {}
        try:
            checked = self.model.model_validate(value)
        except ValidationError as error:
            raise ActionFailed(Reason.INVALID_INPUT, _problems(error)) from None
        return {name: getattr(checked, key) for key, name in self.names.items()}


def _hints(function: Callable[..., object]) -> dict[str, object]:
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError) as error:
        raise SignatureError(f"its type hints cannot be read: {error}") from error


def _is_context(hint: object) -> bool:
    """Say whether a parameter asks for the context; it may be optional, for calls without a server."""
    wraps = typing.get_origin(hint) in {typing.Union, types.UnionType, typing.Annotated}
    return hint is Context or (wraps and any(part is Context for part in typing.get_args(hint)))


def _model(
    function: Callable[..., object], fields: Mapping[str, tuple[object, object]], names: Mapping[str, str]
) -> type[BaseModel]:
    config = ConfigDict(arbitrary_types_allowed=True, extra="ignore", title=getattr(function, "__name__", "input"))
    try:
        return create_model("Input", __config__=config, **fields)  # type: ignore[call-overload,no-any-return]  # built at run time
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as error:
        raise SignatureError(f"its parameters ({', '.join(names.values())}) cannot be checked: {error}") from error


def _schema(model: type[BaseModel] | None, whole: str) -> Mapping[str, object]:
    if model is None:
        return {}
    try:
        schema = model.model_json_schema(by_alias=True)
    except PydanticUserError:  # a type that JSON Schema cannot describe
        return {}
    if not whole:
        return schema
    inner: dict[str, object] = dict(schema["properties"][whole])
    return inner | {"$defs": schema["$defs"]} if "$defs" in schema else inner


def _problems(error: ValidationError) -> str:
    problems = [_problem(detail["loc"], detail["msg"]) for detail in error.errors(include_url=False)]
    more = len(problems) - MOST_PROBLEMS
    return "; ".join(problems[:MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def _problem(location: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, location))}: {message[:1].lower()}{message[1:]}"


def _kind(value: object) -> str:
    if isinstance(value, Blob):
        return "a blob"
    return {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list"}[type(value)]
