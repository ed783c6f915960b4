"""The `action` decorator, which marks functions, classes, objects and tools of agents as actions."""

import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from inspect import Parameter
from types import MethodType
from typing import Any, TypeAlias, TypeVar, overload

from .declarations import code_place
from .hints import is_context, read_hint
from .tools import InvokableTool, ToolAction, is_tool, tool_of_function, tool_of_object

__all__ = [
    "NEEDS_MCP_SERVERS",
    "UNKNOWN_ACTION",
    "ActionLike",
    "action",
    "action_name",
    "is_idempotent",
    "is_same_target",
    "name_of",
]

# A marked function or class, or the name of an action of the server.
ActionLike: TypeAlias = Callable[..., object] | str

UNKNOWN_ACTION = "UNKNOWN_ACTION"
"""The reason of a violation: the server has no action of this name."""

NEEDS_MCP_SERVERS = "the server needs --mcp-servers FILE, or STEPWAVE_MCP_SERVERS in its environment"
"""The hint of errors about the actions `mcp.call` and `mcp.list`, on a server that has no MCP servers."""

_MARK = "__stepwave_action__"
_IDEMPOTENT = "__stepwave_idempotent__"
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_WRAPPERS = (staticmethod, classmethod)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")

Target = TypeVar("Target", bound=Callable[..., object])
R = TypeVar("R")


class _ActionDecorator:
    """Marks functions, classes and objects as actions (`@action`), and makes actions of agents' tools (`from_tool`)."""

    __slots__ = ()

    @overload
    def __call__(self, target: Target, /) -> Target: ...

    @overload
    def __call__(self, name: str = "", /, *, idempotent: bool = False) -> Callable[[Target], Target]: ...

    def __call__(
        self, target: Target | str = "", /, *, idempotent: bool = False
    ) -> Target | Callable[[Target], Target]:
        """Mark a function, or a class with `invoke` and/or `stream`, as an action.

        The function or class is returned unchanged, so it can be called and tested as before. Each parameter gets the
        value of the same key of the step's input, checked against its type hint. A parameter named `input` gets the
        whole input. One annotated `Context` gets the attempt's context. Async functions run on the server's event loop,
        others on threads. Generators, async or not, answer in chunks.

        An object that can be called, or has `invoke` or `stream`, is an action too if it is given a name:
        `action("search")(functools.partial(find, limit=3))`. For the tools of agents, see `from_tool`.

        Args:
            target: The function or class, when used as `@action`. Its own name is the action's, as for `@action()`.
            name: The action's name, when used as `@action("name")`: `[A-Za-z_][A-Za-z0-9_.-]{0,127}`.
            idempotent: Whether to run it twice with the same input has the same effect as to run it once. `ListActions`
                tells it to callers; the server retries and resumes steps of all actions.

        Raises:
            TypeError: The target cannot be an action, has no name of its own, or cannot be marked.
            ValueError: The name is malformed.
        """
        if target == "":
            return lambda marked: _mark(marked, _own_name(marked), idempotent=idempotent)
        if isinstance(target, str):
            name = _checked_name(target)
            return lambda marked: _mark(marked, name, idempotent=idempotent)
        return _mark(target, _own_name(target), idempotent=idempotent)

    @overload
    def from_tool(self, tool: InvokableTool, /, *, name: str = "", idempotent: bool = False) -> ToolAction[Any]: ...

    @overload
    def from_tool(
        self, schema: Mapping[str, Any], function: Callable[..., R], /, *, name: str = "", idempotent: bool = False
    ) -> ToolAction[R]: ...

    def from_tool(
        self,
        tool: InvokableTool | Mapping[str, Any],
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str = "",
        idempotent: bool = False,
    ) -> ToolAction[Any]:
        """Make an action of an agent's tool, without changing it.

            search = action.from_tool(search_tool)  # a tool of LangChain
            weather = action.from_tool(WEATHER_SCHEMA, get_weather)  # a function with the schema for OpenAI's models

        The action has the tool's name, description and schema. The step's input must match the schema before the tool
        is called. The result can be called as well, with keywords, as in a test.

        Async tools and functions run on the server's event loop, others on threads. The type hints of a
        function do not matter, but a parameter annotated `Context` gets the attempt's context. Generators answer in
        chunks. The answer of a LangChain tool is its content, without the artifact. Exceptions are failures,
        as those of other actions.

        Args:
            tool: A tool of `langchain_core.tools`, or an object with the same attributes. Arguments that are injected
                are not in its schema, and stay at their defaults.
            schema: In place of a tool, the schema of a function: `{"type": "function", "function": {"name": …,
                "description": …, "parameters": …}}`, or the same without the inner object. `parameters` is a JSON
                Schema, read as draft 2020-12. `strict` is for models alone. The forms of Anthropic and MCP, with
                `input_schema` or `inputSchema`, are read, too.
            function: The function that the schema describes. It gets the arguments by keyword.
            name: The action's name; by default the tool's.
            idempotent: As for `@action`.

        Raises:
            TypeError: It is no tool, or the class of one. Its function does not take the arguments of the schema, or
                needs one that is optional there. It needs arguments that are injected.
            ValueError: The schema has none of these forms, JSON cannot hold it, or the name is no name of an action.
                Whether it is a JSON Schema is checked when a server loads the action.
        """
        if isinstance(tool, Mapping):
            if function is None:
                raise TypeError("a schema needs its function: action.from_tool(schema, function)")
            made = tool_of_function(tool, function)
            _check_function(made)
        elif function is not None:
            raise TypeError(f"give a function with its schema, a mapping, and a tool alone; got {type(tool).__name__}")
        else:
            made = tool_of_object(tool)
        return _mark(made, _tool_name(made, name), idempotent=idempotent)


action = _ActionDecorator()


def _tool_name(tool: ToolAction[Any], name: str) -> str:
    if name or _NAME.fullmatch(tool.name):
        return _checked_name(name or tool.name)
    raise ValueError(f"the tool's name {tool.name!r} is no name of an action ({_NAME.pattern}): give another by name=…")


def _check_function(tool: ToolAction[Any]) -> None:
    """Check that a tool's function takes the arguments of its schema.

    Raises:
        TypeError: It does not.
    """
    try:
        parameters = inspect.signature(tool.function).parameters.values()
    except (TypeError, ValueError):  # a built-in function may have no signature
        return
    takes_others = any(it.kind is Parameter.VAR_KEYWORD for it in parameters)
    taken = [it for it in parameters if it.kind not in _VARIADIC and not _takes_context(tool.function, it)]
    required = [it.name for it in taken if it.default is Parameter.empty]
    by_name = [it.name for it in taken if it.kind is not Parameter.POSITIONAL_ONLY]
    by_position = [
        it.name for it in taken if it.kind is Parameter.POSITIONAL_ONLY and it.name in (*tool.keys, *required)
    ]
    unknown = [] if takes_others else [key for key in tool.keys if key not in (*by_name, *by_position)]
    problems = [f"has no parameter {key!r}, which is in the schema" for key in unknown]
    problems += [f"takes {key!r} by position alone" for key in by_position]
    if not tool.takes_others:  # else the schema may demand more than it lists
        missing = [key for key in required if key in by_name and key not in tool.required]
        problems += [
            f"needs {key!r}, which is {'optional' if key in tool.keys else 'not'} in the schema" for key in missing
        ]
    if problems:
        place = code_place(tool.function)
        raise TypeError(f"tool {tool.name!r}: {place} {'; it '.join(problems)}: arguments are passed by keyword")


def _takes_context(function: Callable[..., object], parameter: Parameter) -> bool:
    with suppress(Exception):  # evaluating a hint runs the author's code
        return is_context(read_hint(function, parameter))
    return False


def _own_name(target: object) -> str:
    name = getattr(target, "__name__", None)
    _check_no_tool(target)
    if isinstance(target, _WRAPPERS) or not _is_runnable(target):
        raise _no_action(target)
    if not isinstance(name, str):
        raise TypeError(f'an object of {type(target).__name__} has no name of its own: write action("name")(…)')
    return _checked_name(name)


def _check_no_tool(target: object) -> None:
    """Check that an object is no tool, whose `invoke` would take its input as arguments of `invoke` itself.

    Raises:
        TypeError: It is one.
    """
    if not inspect.isclass(target) and is_tool(target):
        raise TypeError(
            f"an object of {type(target).__name__} is a tool: make an action of it by action.from_tool(tool)"
        )


def _no_action(target: object) -> TypeError:
    if isinstance(target, _WRAPPERS):
        return TypeError(f"put @action below @{type(target).__name__}, on the function itself")
    return TypeError(f"an action is a function or a class, or an object with a name, got {type(target).__name__}")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"malformed action name {name!r}: want {_NAME.pattern}")
    return name


def _is_runnable(target: object) -> bool:
    return callable(target) or hasattr(target, "invoke") or hasattr(target, "stream")


def _mark(target: Target, name: str, *, idempotent: bool) -> Target:
    _check_no_tool(target)
    if inspect.isclass(target):
        if not (hasattr(target, "invoke") or hasattr(target, "stream")):
            raise TypeError(f"class {target.__name__} has neither `invoke` nor `stream`")
    elif isinstance(target, _WRAPPERS) or not _is_runnable(target):
        raise _no_action(target)
    try:
        setattr(target, _MARK, name)
        setattr(target, _IDEMPOTENT, idempotent)
    except Exception as error:  # an object may raise anything from `__setattr__`
        kind = type(target).__name__
        raise TypeError(f"an object of {kind} cannot be marked; functools.partial(…) of it can") from error
    return target


def action_name(target: object) -> str | None:
    """Return the name that `action` gave to a target; `None` if it is not marked.

    Subclasses and instances do not inherit the mark of a class.
    """
    name = _marked(target, _MARK)
    return name if isinstance(name, str) else None


def is_idempotent(target: object) -> bool:
    """Return whether `action` was told that a target is idempotent."""
    return _marked(target, _IDEMPOTENT) is True


def _marked(target: object, mark: str) -> object:
    """Return a mark of a target itself; `None`: it has none."""
    try:
        if isinstance(target, MethodType):
            target = target.__func__
        own = type.__getattribute__(target, "__dict__") if isinstance(target, type) else vars(target)
    except Exception:  # an object without attributes, or a proxy without a target
        return None
    return own.get(mark)


def is_same_target(one: object, other: object) -> bool:
    """Return whether two targets are the same. Methods are the same if their objects are identical."""
    if isinstance(one, MethodType) and isinstance(other, MethodType):
        return one.__self__ is other.__self__ and one.__func__ is other.__func__
    return one is other


def name_of(action: ActionLike) -> str:
    """Return the name of an action, given as its name or as the marked function or class.

    Raises:
        TypeError: The function or class is not marked.
    """
    if isinstance(action, str):
        return action
    name = action_name(action)
    if name is None and is_tool(action):
        raise TypeError(f"{action!r} is a tool, not an action: make one by action.from_tool(tool)")
    if name is None:
        raise TypeError(f"{action!r} is not an action: mark it with @stepwave.action")
    return name
