"""Tools of agents as actions: tools of LangChain, and functions with a schema as OpenAI's models take them.

LangChain is not imported: its tools are known by their attributes.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Any, Generic, Protocol, TypeVar, cast

from stepwave._values.payload import dump_json

from .failure import ActionError

__all__ = ["InvokableTool", "ToolAction", "is_tool", "tool_of_function", "tool_of_object"]

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

_BRANCHES = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties"})
"""Keywords that may allow keys beside those of `properties`."""

_NO_ARGUMENTS: Mapping[str, object] = {"type": "object", "properties": {}}
_PARAMETERS = ("parameters", "input_schema", "inputSchema")  # in the forms of OpenAI, Anthropic and MCP
_OTHER_KEYS = frozenset({"type", "name", "description", "strict"})
_SINGLE_INPUT = "tool_input"  # the only argument of LangChain's tools that take one text


class InvokableTool(Protocol):
    """A tool of LangChain, or an object that looks like one: it also has `invoke` or `ainvoke`, and a schema."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...


class ToolAction(Generic[R_co]):
    """A function with the schema of its arguments, to be marked as an action.

    Attributes:
        name: The name of the tool.
        description: The description for people and models.
        input_schema: The JSON Schema of its arguments, as JSON text.
        function: The function. It takes the arguments by keyword.
        keys: The names of the arguments.
        required: The names of those that must be given.
        takes_others: Whether it takes arguments of other names, too.
        model: The pydantic model that checks and converts the arguments when the tool is called; `None`: nothing does,
            so that they must match the schema.
    """

    def __init__(
        self,
        name: str,
        description: str,
        schema: Mapping[str, object],
        function: Callable[..., R_co],
        model: type | None = None,
    ) -> None:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        if not isinstance(properties, Mapping) or not isinstance(required, list | tuple):
            raise ValueError(  # noqa: TRY004 - the schema has the right type, and a wrong value
                f"tool {name!r}: `properties` must be an object, and `required` a list"
            )
        for key, value in properties.items():
            if not isinstance(value, Mapping | bool):
                raise ValueError(f"tool {name!r}: the schema of {key!r} must be an object, got {value!r}")  # noqa: TRY004 - as above
        self.name = name
        self.description = description
        # Many tools name draft 7. The keywords of tools mean the same in draft 2020-12, or are refused there.
        self.input_schema = dump_json({key: value for key, value in schema.items() if key != "$schema"})
        self.function = function
        self.keys = tuple(dict.fromkeys(map(str, (*properties, *required))))
        self.required = tuple(map(str, required))
        more = schema.get("additionalProperties", "properties" not in schema)
        self.takes_others = more is not False or not _BRANCHES.isdisjoint(schema)
        self.model = model

    def __call__(self, /, **arguments: Any) -> R_co:
        """Call the function, without a check of the arguments."""
        return self.function(**arguments)


def tool_of_function(schema: Mapping[str, object], function: Callable[..., R]) -> ToolAction[R]:
    """Return the tool of a function and its schema, in a form of OpenAI, Anthropic or MCP.

    Raises:
        TypeError: The function cannot be called.
        ValueError: The schema has none of these forms.
    """
    if inspect.isclass(function) or not callable(function):
        raise TypeError(f"the schema is that of a function, got {function!r}")
    kinds = ("custom", None) if "input_schema" in schema else ("function",)
    if schema.get("type", kinds[-1]) not in kinds:
        raise ValueError(f'the schema must have the type "function", got {schema["type"]!r}')
    declared = schema.get("function", schema)
    name = declared.get("name") if isinstance(declared, Mapping) else None
    if not isinstance(declared, Mapping) or not isinstance(name, str):
        raise ValueError(  # noqa: TRY004 - as above
            "the schema has no name: want {'type': 'function', 'function': {'name': …, 'parameters': …}}"
        )
    key = next((key for key in _PARAMETERS if key in declared), "")
    if not key and (unknown := declared.keys() - _OTHER_KEYS):
        listed = ", ".join(map(repr, sorted(unknown)))
        raise ValueError(f"tool {name!r}: the schema of the arguments is in `parameters`, got {listed}")
    parameters = declared.get(key) or _NO_ARGUMENTS
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise ValueError(f"tool {name!r}: `{key}` must be a JSON Schema of the type object, got {parameters!r}")
    return ToolAction(name, str(declared.get("description") or ""), parameters, function)


def tool_of_object(tool: InvokableTool) -> ToolAction[Any]:
    """Return the tool of an object with the attributes of LangChain's tools.

    Raises:
        TypeError: It has not the attributes of a tool, or needs arguments that only an agent can give it.
    """
    if inspect.isclass(tool) and _has_invoke(tool):
        raise TypeError(f"got the class {tool.__name__}; give an instance: action.from_tool({tool.__name__}(…))")
    name = getattr(tool, "name", None)
    invoke = getattr(tool, "ainvoke" if _is_async(tool) else "invoke", None)
    if not isinstance(name, str) or not callable(invoke):
        raise TypeError(
            f"a tool has a name, a schema and `invoke`, got {tool!r}; "
            "give a function with its schema, or mark it with @action"
        )
    schema, model = _schema_of(tool, name)
    description = inspect.cleandoc(str(getattr(tool, "description", None) or ""))
    return ToolAction(name, description, schema, _caller(tool, invoke), model)


def is_tool(target: object) -> bool:
    """Return whether an object, or a class, looks like a tool of LangChain."""
    try:
        return _has_invoke(target) and (hasattr(target, "args_schema") or hasattr(target, "tool_call_schema"))
    except Exception:  # reading an attribute may run the author's code
        return False


def _has_invoke(target: object) -> bool:
    return callable(getattr(target, "invoke", None)) or callable(getattr(target, "ainvoke", None))


def _is_async(tool: object) -> bool:
    """Return whether a tool has async code of its own. Without any, LangChain's `ainvoke` would call it on a thread."""
    if hasattr(tool, "coroutine"):
        return tool.coroutine is not None
    if hasattr(tool, "_arun"):
        owner = next(kind for kind in type(tool).__mro__ if "_arun" in vars(kind))
        return not owner.__module__.startswith("langchain_core.")
    return hasattr(tool, "ainvoke")


def _caller(tool: object, invoke: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a tool. In messages, it has the place of the tool's own code."""

    async def call_async(**arguments: object) -> object:
        try:
            answer = await invoke(arguments)
        except NotImplementedError as error:
            if not (hasattr(tool, "invoke") and _lacks_async_code(tool, error)):
                raise
            import asyncio

            answer = await asyncio.to_thread(tool.invoke, arguments)
        return _content(answer)

    def call(**arguments: object) -> object:
        return _content(invoke(arguments))

    caller, names = (call_async, ("coroutine", "_arun")) if _is_async(tool) else (call, ("func", "_run"))
    code = next((found for name in names if (found := getattr(tool, name, None)) is not None), type(tool))
    return update_wrapper(cast("Callable[..., Any]", caller), code, assigned=("__module__", "__qualname__"), updated=())


def _lacks_async_code(tool: object, error: NotImplementedError) -> bool:
    """Return whether `_arun` of a tool raised this error itself, as those of many tools do that have sync code alone.

    Code that it calls may raise the same error after it had effects: then the tool must not be called again.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = getattr(getattr(tool, "_arun", None), "__code__", None)
    return trace is not None and trace.tb_frame.f_code is code


def _content(answer: object) -> object:
    """Return an answer, or the content of one that is a message of a tool.

    Raises:
        ActionError: The message is one of an error.
    """
    if not (hasattr(answer, "tool_call_id") and hasattr(answer, "content")):
        return answer
    if getattr(answer, "status", None) == "error":
        raise ActionError(str(answer.content))
    return cast("object", answer.content)


def _schema_of(tool: object, name: str) -> tuple[Mapping[str, object], type | None]:
    """Return the JSON Schema of a tool's arguments, and the pydantic model that the tool converts them with.

    Raises:
        TypeError: It has no schema, or needs arguments that are not in its schema.
    """
    own: Any = getattr(tool, "args_schema", None)
    arguments = getattr(tool, "args", None) if own is None else None
    if isinstance(arguments, Mapping) and [*arguments] == [_SINGLE_INPUT]:
        return {"type": "object", "properties": arguments, "required": [_SINGLE_INPUT]}, None
    shown: Any = getattr(tool, "tool_call_schema", own)
    if isinstance(shown, Mapping):
        return shown, None
    if hasattr(shown, "model_json_schema"):
        _check_injected(name, own or _input_schema(tool), shown)
        if not hasattr(own, "model_validate"):
            return shown.model_json_schema(), None
        schema = (own if _needs_aliases(own, shown) else shown).model_json_schema()
        # LangChain leaves this out of the schema, and passes other arguments on nevertheless.
        others = {"additionalProperties": True} if own.model_config.get("extra") == "allow" else {}
        return schema | others, own
    if hasattr(shown, "schema"):  # a model of pydantic 1
        return shown.schema(), None
    raise TypeError(f"tool {name!r} has no schema: want `args_schema`, a JSON Schema or a pydantic model")


def _needs_aliases(full: Any, shown: Any) -> bool:
    """Return whether a model takes arguments by their aliases alone, which LangChain leaves out of the schema.

    Args:
        full: The model of all arguments.
        shown: The model of those that are in the schema.
    """
    by_name = full.model_config.get("populate_by_name") or full.model_config.get("validate_by_name")
    fields = full.model_fields
    return not by_name and fields.keys() == shown.model_fields.keys() and any(it.alias for it in fields.values())


def _input_schema(tool: object) -> Any:
    """Return the model of all arguments of a tool that declares none, as LangChain makes it of the tool's code."""
    get_input_schema = getattr(tool, "get_input_schema", None)
    return get_input_schema() if callable(get_input_schema) else None


def _check_injected(name: str, full: Any, shown: Any) -> None:
    """Check that a tool needs no arguments that are not in its schema, because an agent injects them.

    Args:
        name: The name of the tool.
        full: The model of all arguments.
        shown: The model of those that are in the schema.

    Raises:
        TypeError: It needs some.
    """
    fields = getattr(full, "model_fields", {})
    needed = [key for key, field in fields.items() if field.is_required() and key not in shown.model_fields]
    if needed:
        raise TypeError(
            f"tool {name!r} needs {', '.join(map(repr, needed))}, which only an agent gives it; "
            "call it in a function of your own, and mark that with @action"
        )
