"""The registry of actions: discovery, and the calls of their functions."""

import importlib
import importlib.metadata
import inspect
import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TypeVar, cast

from stepwave._actions.action import action_name, is_idempotent, is_same_target
from stepwave._actions.context import Context
from stepwave._actions.hints import chunk_type, code_of, is_text, method_name, read_return_hint
from stepwave._actions.tools import ToolAction, is_tool
from stepwave_server.actions.answers import Emit, InThread, Invocation
from stepwave_server.actions.call import Signature
from stepwave_server.actions.chat_complete import ChatAnswer, chat_complete
from stepwave_server.actions.failures import cut
from stepwave_server.actions.http_request import HttpAnswer, http_request
from stepwave_server.actions.known import unknown_action
from stepwave_server.actions.outbound import Outbound
from stepwave_server.actions.output_schema import output_schema
from stepwave_server.actions.threads import run_in_thread
from stepwave_server.actions.tool_signature import tool_signature
from stepwave_server.actions.values import keep_numbers
from stepwave_server.core.model import Payload

__all__ = ["Action", "ActionsError", "Emit", "Registry", "check_module_name"]

ENTRY_POINTS = "stepwave.actions"
BUILT_IN = tuple(f"stepwave_server.actions.{name}" for name in ("echo", "fail", "sleep", "wait", "workflow"))
CALLING = {chat_complete: ChatAnswer, http_request: HttpAnswer}
"""Built-in actions that call other services, and the types of their answers."""

T = TypeVar("T")

MAX_TEXT = 2_048
"""Characters in a description and in a source."""


class ActionsError(Exception):
    """Raised when actions cannot be loaded. The message has a line for each problem."""


@dataclass(frozen=True, slots=True)
class Action:
    """An action.

    Attributes:
        name: The name by which steps refer to it.
        description: The first paragraph of its docstring, or a tool's description.
        input_schema: A JSON Schema of its input, as JSON text.
        output_schema: A JSON Schema of its output where it is JSON, as JSON text; empty: not known.
        idempotent: Whether its author says that to run it twice has the same effect as to run it once.
        streaming: Whether it answers in chunks, judged by its kind of function and its hints.
        threaded: Whether it is called on a thread, which cannot be interrupted.
        source: Its source, as `module:function`, or `built-in`.
        target: The function, class or object that it was created from.
    """

    name: str
    description: str
    input_schema: str
    output_schema: str
    idempotent: bool
    streaming: bool
    threaded: bool
    source: str
    target: object
    _function: Callable[..., object]
    _signature: Signature
    _text: bool

    @classmethod
    def of(
        cls,
        target: object,
        *,
        name: str = "",
        source: str = "",
        call: inspect.Signature | None = None,
        answer: object = None,
    ) -> "Action":
        """Create an action from a target marked by `stepwave.action`. A class is instantiated once, without arguments.

        Args:
            target: A function, a class, an agent's tool, or an object that can be called or has `invoke` or `stream`.
            name: The name, if the target is not marked.
            source: The source, for messages; by default the target's module and name.
            call: The signature, if `inspect` cannot tell it.
            answer: The type of its answer, if its return type does not tell it.

        Raises:
            ActionsError: The target is not marked, cannot be instantiated, or has parameters that cannot be filled.
        """
        name = name or action_name(target) or ""
        source = cut(source or _source(target), MAX_TEXT)
        if not name:
            raise ActionsError(f"{source} is not marked with @action")
        try:
            function = _function_of(target)
            signature = tool_signature(target) if isinstance(target, ToolAction) else Signature.of(function, call)
        except (Exception, SystemExit) as error:  # the class, the hints and their hooks are the author's code
            raise ActionsError(f"action {name!r} ({source}): {error}") from error
        chunk = _chunk_type(function)
        return cls(
            name=name,
            description=_description(target),
            input_schema=json.dumps(signature.schema),
            output_schema=output_schema(target, answer),
            idempotent=is_idempotent(target),
            streaming=_streams(function, chunk),
            threaded=not _is_async(function),
            source=source,
            target=target,
            _function=function,
            _signature=signature,
            _text=is_text(chunk),
        )

    def is_same_as(self, other: "Action") -> bool:
        """Return whether two actions have the same target. Methods are the same if their objects are identical."""
        return is_same_target(self.target, other.target)

    @property
    def code_location(self) -> str:
        """The file and line of its code; empty if it has none."""
        code = getattr(inspect.unwrap(code_of(self._function)), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""

    @property
    def keys(self) -> tuple[str, ...] | None:
        """The keys of the input that it takes; `None`: it takes the whole input."""
        signature = self._signature
        return None if signature.whole else tuple(key for keys in signature.keys.values() for key in keys)

    @property
    def takes_others(self) -> bool:
        """Whether it takes any other key of the input as well."""
        return self._signature.takes_others

    def check(self, payload: Payload, context: Callable[[], Context], *, strict: bool = False) -> None:
        """Check an input without calling the function.

        Raises:
            ActionFailed: The input does not match the parameters.
        """
        self._signature.arguments(payload, context, strict=strict)

    def problems(self, payload: Payload, targets: Sequence[str]) -> list[str]:
        """Return the problems of an input that no values of its bindings, at these JSON Pointers, can solve."""
        return self._signature.problems(payload, targets)

    async def run(
        self,
        payload: Payload,
        context: Callable[[], Context],
        emit: Emit,
        max_bytes: int,
        *,
        strict: bool = False,
        in_thread: InThread = run_in_thread,
    ) -> Payload:
        """Run one attempt.

        Args:
            payload: The step's input.
            context: Returns the attempt's context; called only if the action takes it.
            emit: Sends the chunks of a stream.
            max_bytes: Bound on the answer, and on all chunks together.
            strict: Whether unknown keys of the input are an error, or ignored.
            in_thread: Calls a function on a thread, and returns its result.

        Raises:
            ActionFailed: The input does not match the parameters, or the answer is not JSON or too large.
            BaseException: The action raised it.
        """
        keep_numbers()
        arguments = self._signature.arguments(payload, context, strict=strict)
        invocation = Invocation(self._function, arguments, emit, max_bytes, text=self._text, in_thread=in_thread)
        return await (invocation.run_on_thread() if self.threaded else invocation.run_on_loop())


def _function_of(target: object) -> Callable[..., object]:
    """Return the function to call: `stream` or `invoke` of an object or a class's instance, else the target itself."""
    if isinstance(target, ToolAction):
        return target.function
    if inspect.isroutine(target):
        return cast("Callable[..., object]", target)
    instance = target() if inspect.isclass(target) else target
    method = method_name(type(instance))
    function = getattr(instance, method) if method else instance
    if not callable(function):
        raise TypeError("it has neither `invoke` nor `stream`, and cannot be called")
    return cast("Callable[..., object]", function)


def _chunk_type(function: Callable[..., object]) -> object:
    """Return the declared type of a function's chunks; `None`: it declares no stream, or its hint cannot be read."""
    try:
        return chunk_type(read_return_hint(function))
    except Exception:  # evaluating a hint runs the action's code; chunks are not checked against it
        return None


def _is_async(function: Callable[..., object]) -> bool:
    """Return whether to call a function on the event loop. The function inside a decorator does not count."""
    code = code_of(function)
    return any(map(inspect.iscoroutinefunction, (function, code))) or inspect.isasyncgenfunction(code)


def _streams(function: Callable[..., object], chunk: object) -> bool:
    """Return whether a function streams, by its kind, else by its own hints. A wrapper has its inner function's hints.

    Args:
        function: The function.
        chunk: The declared type of its chunks; `None`: it declares no stream.
    """
    code = code_of(function)
    if getattr(getattr(code, "__code__", None), "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE:
        return False
    if inspect.isasyncgenfunction(code) or inspect.isgeneratorfunction(code):
        return True
    return chunk is not None and not hasattr(function, "__wrapped__")


def _named_object(target: object) -> object:
    """Return the object with the name and the docstring of a target: a partial's function, an instance's class."""
    if isinstance(target, ToolAction):
        return _named_object(target.function)
    if isinstance(target, partial):
        return _named_object(target.func)
    return target if isinstance(getattr(target, "__qualname__", None), str) else type(target)


def _source(target: object) -> str:
    named = _named_object(target)
    return f"{getattr(named, '__module__', None)}:{getattr(named, '__qualname__', None) or repr(named)}"


def _description(target: object) -> str:
    if isinstance(target, ToolAction):
        return cut(target.description, MAX_TEXT)
    return cut((inspect.getdoc(_named_object(target)) or "").split("\n\n")[0].replace("\n", " "), MAX_TEXT)


class Registry:
    """The actions of a server.

    Args:
        actions: Marked functions and classes, modules, names of modules, or actions.
        entry_points: Whether to load the actions of installed packages as well, from the group `stepwave.actions`.
        outbound: Sends the requests of built-in actions; by default to public addresses only.

    Raises:
        ActionsError: An action cannot be loaded, or two actions have the same name.
    """

    def __init__(
        self, actions: Iterable[object] = (), *, entry_points: bool = True, outbound: Outbound | None = None
    ) -> None:
        self._actions: dict[str, Action] = {}
        self._problems: list[str] = []
        for name in BUILT_IN:
            self._add_module(_import(name), source="built-in")
        outbound = outbound or Outbound()
        for make, answer in CALLING.items():
            self._add(Action.of(make(outbound), source="built-in", answer=answer))
        for item in actions:
            self._try(self._add_item, item)
        if entry_points:
            for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
                self._try(self._add_entry_point, point)
        if self._problems:
            raise ActionsError("\n".join(dict.fromkeys(self._problems)))

    def __iter__(self) -> Iterator[Action]:
        """Iterate over the actions, by name."""
        return iter(sorted(self._actions.values(), key=lambda action: action.name))

    def get(self, name: str) -> Action | None:
        """Return the action of a name; `None` if there is none."""
        return self._actions.get(name)

    def unknown(self, name: str) -> str:
        """Return the error message for an unknown name, with a hint if there is one."""
        return unknown_action(name, self._actions.keys())

    def missing(self, targets: Iterable[object]) -> list[object]:
        """Return the marked targets that are not the actions of their names, in order."""
        return [target for target in targets if not self._has(target)]

    def add(self, targets: Iterable[object]) -> None:
        """Add marked functions and classes while the server runs. Those that are there already are not added again.

        Raises:
            ActionsError: An action cannot be loaded, or another action has its name. None is added then.
        """
        actions, problems = dict(self._actions), []
        for target in self.missing(targets):
            try:
                _put(actions, Action.of(target))
            except ActionsError as error:
                problems.append(str(error))
        if problems:
            raise ActionsError("\n".join(dict.fromkeys(problems)))
        self._actions = actions  # replaced, not changed: threads that check large workflows read it

    def _has(self, target: object) -> bool:
        action = self._actions.get(action_name(target) or "")
        return action is not None and is_same_target(action.target, target)

    def _try(self, add: Callable[[T], None], item: T) -> None:
        """Add an item, and collect its problem, so that all problems are reported together."""
        try:
            add(item)
        except ActionsError as error:
            self._problems.append(str(error))

    def _add(self, action: Action) -> None:
        _put(self._actions, action)

    def _add_item(self, item: object) -> None:
        if isinstance(item, str):
            self._add_named_module(_import(item))
        elif isinstance(item, ModuleType):
            self._add_named_module(item)
        elif isinstance(item, Action):
            self._add(item)
        elif action_name(item) is None and is_tool(item):
            raise ActionsError(f"a tool, not an action: {item!r}; make one by action.from_tool(tool)")
        elif callable(item) or action_name(item) is not None:
            self._add(Action.of(item))
        else:
            raise ActionsError(f"not an action: {item!r}")

    def _add_named_module(self, module: ModuleType) -> None:
        if self._add_module(module):
            return
        problem = f"module {module.__name__!r} has no function or class marked with @action"
        tools = [name for name, item in vars(module).items() if is_tool(item) and not isinstance(item, type)]
        raise ActionsError(f"{problem}; make an action of a tool by action.from_tool({tools[0]})" if tools else problem)

    def _add_module(self, module: ModuleType, *, source: str = "") -> bool:
        """Add the marked attributes of a module, and return whether there are any."""
        marked = [item for item in vars(module).values() if action_name(item) is not None]
        for item in marked:
            self._try(lambda item: self._add(Action.of(item, source=source)), item)
        return bool(marked)

    def _add_entry_point(self, point: importlib.metadata.EntryPoint) -> None:
        try:
            loaded = point.load()
        except (Exception, SystemExit) as error:
            raise ActionsError(f"entry point {point.name!r} ({point.value}): {error}") from error
        self._add_item(loaded)


def _put(actions: dict[str, Action], action: Action) -> None:
    other = actions.setdefault(action.name, action)
    if not action.is_same_as(other):
        raise ActionsError(f"two actions are named {action.name!r}: {_distinguish(other, action)}")


def _distinguish(one: Action, other: Action) -> str:
    """Describe two actions of the same name, with their code's locations if their sources are equal."""
    if one.source != other.source:
        return f"{one.source} and {other.source}"
    if one.code_location != other.code_location:
        return f"{one.source} ({one.code_location}) and {other.source} ({other.code_location})"
    return f"two objects of {one.source}" + (f" ({one.code_location})" if one.code_location else "")


def check_module_name(name: str) -> None:
    """Check that the name of a module is no path.

    Raises:
        ActionsError: It is a path. The message says what to give instead.
    """
    if "/" in name or name.endswith(".py"):
        raise ActionsError(_path_problem(name))


def _import(name: str) -> ModuleType:
    check_module_name(name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ActionsError(
                f"no module named {name!r} (looked in the working directory and installed packages)"
            ) from error
        raise ActionsError(f"module {name!r} needs a module that is missing: {error.name}{_place(error)}") from error
    except (Exception, SystemExit) as error:  # a script may call `sys.exit`
        problem = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise ActionsError(f"module {name!r} cannot be imported: {problem}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """Return the line that keeps a module from being imported; empty for a syntax error, whose message names its line.

    It is the innermost line, or for `SystemExit` the innermost line of a module's body: `argparse`, for example, exits
    deep in its own code.
    """
    exits = isinstance(error, SystemExit)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.name == "<module>" or not exits]
    if not frames or frames[-1].filename.startswith("<") or frames[-1].filename == __file__:
        return ""
    return f" ({frames[-1].filename}:{frames[-1].lineno})"


def _path_problem(path: str) -> str:
    """Return what to give in place of the path of a module or a package."""
    bare = Path(path.removesuffix(".py")).resolve()
    file = bare.with_name(f"{bare.name}.py")
    if not (file.is_file() or bare.is_dir()):
        return f"{path!r} is a path, and there is no such module; give a module's name, such as tools for tools.py"
    if bare.name == "__init__":
        bare = bare.parent
    if bare.is_relative_to(Path.cwd()) and bare != Path.cwd():
        name = ".".join(bare.relative_to(Path.cwd()).parts)
        return f"{path!r} is a path; give the name of the module: {name}"
    command = f"start the command in {bare.parent}, and give the name of the module: {bare.name}"
    return f"{path!r} is a path outside the working directory; {command}"
