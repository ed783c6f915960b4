"""The actions a server has, by name: how they are found, and how an attempt of one is run."""

import importlib
import importlib.metadata
import inspect
import json
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from types import ModuleType
from typing import cast

from stepwave import Context
from stepwave._action import action_name
from stepwave_server.actions.call import Signature
from stepwave_server.actions.threads import run_in_thread
from stepwave_server.actions.values import Chunks, dump
from stepwave_server.core.model import Payload
from stepwave_server.core.validate import did_you_mean

__all__ = ["Action", "ActionsError", "Emit", "Registry"]

ENTRY_POINTS = "stepwave.actions"
BUILT_IN = ("stepwave_server.actions.echo", "stepwave_server.actions.sleep", "stepwave_server.actions.fail")

Emit = Callable[[Payload], None]
"""Shows a chunk to the run's watchers; may be called from any thread."""


class ActionsError(Exception):
    """Raised when actions cannot be loaded; the message says which, from where, and why."""


@dataclass(frozen=True, slots=True)
class Action:
    """An action, ready to run.

    Attributes:
        name: Its name, as steps give it.
        description: The first paragraph of its docstring.
        input_schema: A JSON Schema of its input, as JSON text.
        streaming: It answers in chunks.
        threaded: It runs on a thread, which nothing can interrupt.
        source: Where it comes from, as `module:function`, or `built-in`.
    """

    name: str
    description: str
    input_schema: str
    streaming: bool
    threaded: bool
    source: str
    _function: Callable[..., object]
    _signature: Signature

    @classmethod
    def of(cls, target: Callable[..., object], *, source: str = "") -> "Action":
        """Make an action of a marked function or class; a class is instantiated once, without arguments.

        Raises:
            ActionsError: It is not marked, its class cannot be instantiated, or its parameters cannot be filled.
        """
        name = action_name(target)
        where = source or f"{target.__module__}:{target.__qualname__}"
        if name is None:
            raise ActionsError(f"{where} is not marked with @action")
        try:
            function = _entry(target)
            signature = Signature.of(function)
        except Exception as error:
            raise ActionsError(f"action {name!r} ({where}): {error}") from error
        inner = inspect.unwrap(function)  # what a decorator wraps says how it is to be called
        streaming = inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner)
        threaded = not (inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner))
        description = (inspect.getdoc(target) or "").split("\n\n")[0].replace("\n", " ")
        schema = json.dumps(signature.schema)
        return cls(name, description, schema, streaming, threaded, where, function, signature)

    def check(self, payload: Payload, context: Callable[[], Context]) -> None:
        """Check an input as an attempt does before it calls anything.

        Raises:
            ActionFailed: The input does not fit.
        """
        self._signature.arguments(payload, context)

    async def run(self, payload: Payload, context: Callable[[], Context], emit: Emit, most_bytes: int) -> Payload:
        """Run one attempt.

        Args:
            payload: The step's input.
            context: Makes what the attempt knows of itself, if the action asks for it.
            emit: Where chunks of a stream go.
            most_bytes: The bound of the answer, chunks together included.

        Raises:
            ActionFailed: The input does not fit, or the answer cannot be taken.
            BaseException: Whatever the action raises.
        """
        arguments = self._signature.arguments(payload, context)
        if self.streaming:
            return dump(await self._stream(arguments, emit, Chunks(most_bytes)), most_bytes)
        if self.threaded:
            return await run_in_thread(lambda: dump(self._function(**arguments), most_bytes))
        value = self._function(**arguments)
        return dump(await value if inspect.isawaitable(value) else value, most_bytes)

    async def _stream(self, arguments: dict[str, object], emit: Emit, chunks: Chunks) -> object:
        stream = self._function(**arguments)
        if self.threaded:
            await _drain_on_thread(cast("Generator[object, None, None]", stream), emit, chunks)
        else:
            await _drain(cast("AsyncGenerator[object, None]", stream), emit, chunks)
        return chunks.result()


async def _drain(stream: AsyncGenerator[object, None], emit: Emit, chunks: Chunks) -> None:
    async with aclosing(stream):
        async for item in stream:
            if (chunk := chunks.add(item)) is not None:
                emit(chunk)


async def _drain_on_thread(stream: Generator[object, None, None], emit: Emit, chunks: Chunks) -> None:
    """Drain a stream that is not async. A thread cannot be ended; when nobody waits, its stream is."""
    gone = threading.Event()

    def drain() -> None:
        with closing(stream):
            for item in stream:
                if gone.is_set():
                    return
                if (chunk := chunks.add(item)) is not None:
                    emit(chunk)

    try:
        await run_in_thread(drain)
    finally:
        gone.set()


def _entry(target: Callable[..., object]) -> Callable[..., object]:
    """Return what to call: the function itself, or the `stream` or `invoke` of a class's only instance."""
    if not inspect.isclass(target):
        return target
    instance = target()
    entry = getattr(instance, "stream", None) or getattr(instance, "invoke", None)
    assert entry is not None, "the mark was checked to find one of them"
    return cast("Callable[..., object]", entry)


class Registry:
    """The actions a server has.

    Args:
        actions: Where they come from: marked functions and classes, modules, or names of modules.
        entry_points: Load those of installed packages too, from the group `stepwave.actions`.

    Raises:
        ActionsError: Something cannot be loaded, or two actions have one name.
    """

    def __init__(self, actions: Iterable[object] = (), *, entry_points: bool = True) -> None:
        self._actions: dict[str, Action] = {}
        for name in BUILT_IN:
            self._add_module(_import(name), source="built-in")
        for given in actions:
            self._add_given(given)
        if entry_points:
            self._add_entry_points()

    def __iter__(self) -> Iterator[Action]:
        """Iterate over the actions, by name."""
        return iter(sorted(self._actions.values(), key=lambda action: action.name))

    def get(self, name: str) -> Action | None:
        """Return the action of a name; `None` if there is none."""
        return self._actions.get(name)

    def unknown(self, name: str) -> str:
        """Say that there is no action of a name, and which near one there is."""
        near = did_you_mean(name, self._actions.keys())
        listed = ", ".join(action.name for action in self if action.source != "built-in")
        return f'unknown action "{name}"' + (near or (f"; there are: {listed}" if listed and len(listed) < 500 else ""))

    def _add(self, action: Action) -> None:
        other = self._actions.get(action.name)
        if other is not None and other.source != action.source:
            raise ActionsError(f"two actions are named {action.name!r}: {other.source} and {action.source}")
        self._actions[action.name] = action

    def _add_given(self, given: object) -> None:
        if isinstance(given, str):
            self._add_named(given)
        elif isinstance(given, ModuleType):
            self._add_own(given)
        elif callable(given):
            self._add(Action.of(given))
        else:
            raise ActionsError(f"no action: {given!r}")

    def _add_named(self, name: str) -> None:
        self._add_own(_import(name))

    def _add_own(self, module: ModuleType) -> None:
        if not self._add_module(module):
            raise ActionsError(f"module {module.__name__!r} has no function or class marked with @action")

    def _add_module(self, module: ModuleType, *, source: str = "") -> bool:
        """Add the marked functions and classes that a module shows; say whether there are any."""
        marked = [item for item in vars(module).values() if callable(item) and action_name(item) is not None]
        for item in marked:
            self._add(Action.of(item, source=source))
        return bool(marked)

    def _add_entry_points(self) -> None:
        for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
            try:
                loaded = point.load()
            except Exception as error:
                raise ActionsError(f"entry point {point.name!r} ({point.value}): {error}") from error
            self._add_given(loaded)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ActionsError(
                f"no module named {name!r} (looked in the working directory and installed packages)"
            ) from error
        raise ActionsError(f"module {name!r} needs a module that is not there: {error.name}") from error
    except Exception as error:
        raise ActionsError(f"module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
