"""The actions a server has, by name: how they are found, and how an attempt of one is run."""

import importlib
import importlib.metadata
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import MethodType, ModuleType
from typing import TypeVar, cast

from stepwave._actions.action import action_name
from stepwave._actions.context import Context
from stepwave_server.actions.answers import Emit, InThread, Taker
from stepwave_server.actions.call import Signature
from stepwave_server.actions.failures import cut
from stepwave_server.actions.hints import code_of, is_text, yields
from stepwave_server.actions.threads import run_in_thread
from stepwave_server.core.model import Payload
from stepwave_server.core.validate import did_you_mean

__all__ = ["Action", "ActionsError", "Emit", "Registry"]

ENTRY_POINTS = "stepwave.actions"
BUILT_IN = ("stepwave_server.actions.echo", "stepwave_server.actions.sleep", "stepwave_server.actions.fail")

T = TypeVar("T")

MOST_TEXT = 2_048
"""Characters of a description, and of a source."""


class ActionsError(Exception):
    """Raised when actions cannot be loaded; the message says which, from where, and why: all of them, a line each."""


@dataclass(frozen=True, slots=True)
class Action:
    """An action, ready to run.

    Attributes:
        name: Its name, as steps give it.
        description: The first paragraph of its docstring.
        input_schema: A JSON Schema of its input, as JSON text.
        streaming: It answers in chunks, as far as its kind of function and its hints say.
        threaded: It is called on a thread, which nothing can interrupt.
        source: Where it comes from, as `module:function`, or `built-in`.
        target: What it was made of.
    """

    name: str
    description: str
    input_schema: str
    streaming: bool
    threaded: bool
    source: str
    target: object
    _function: Callable[..., object]
    _signature: Signature
    _text: bool

    @classmethod
    def of(cls, target: object, *, name: str = "", source: str = "", call: inspect.Signature | None = None) -> "Action":
        """Make an action of what `stepwave.action` marked; a class is instantiated once, without arguments.

        Args:
            target: A function, a class, or an object that can be called or has `invoke` or `stream`.
            name: Its name, if it is not marked.
            source: Where it comes from, for people.
            call: How it is called, if it does not say so itself.

        Raises:
            ActionsError: It is not marked, its class cannot be instantiated, or its parameters cannot be filled.
        """
        name = name or action_name(target) or ""
        where = cut(source or _source(target), MOST_TEXT)
        if not name:
            raise ActionsError(f"{where} is not marked with @action")
        try:
            function = _entry(target)
            signature = Signature.of(function, call)
        except (Exception, SystemExit) as error:  # its class, its hints and their hooks are the author's code
            raise ActionsError(f"action {name!r} ({where}): {error}") from error
        chunk = yields(function)
        return cls(
            name=name,
            description=_description(target),
            input_schema=json.dumps(signature.schema),
            streaming=_streams(function, chunk),
            threaded=not _is_async(function),
            source=where,
            target=target,
            _function=function,
            _signature=signature,
            _text=is_text(chunk),
        )

    def is_of(self, other: "Action") -> bool:
        """Say whether it is made of the same object as another one; a method is the same if its object is."""
        mine, others = self.target, other.target
        if isinstance(mine, MethodType) and isinstance(others, MethodType):
            return mine.__self__ is others.__self__ and mine.__func__ is others.__func__
        return mine is others

    @property
    def place(self) -> str:
        """The file and line of its code; empty if it has none."""
        code = getattr(inspect.unwrap(code_of(self._function)), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""

    def check(self, payload: Payload, context: Callable[[], Context], *, strict: bool = False) -> None:
        """Check an input as an attempt does before it calls anything.

        Raises:
            ActionFailed: The input does not fit.
        """
        self._signature.arguments(payload, context, strict=strict)

    def problems(self, payload: Payload, targets: Sequence[str]) -> list[str]:
        """Return what is wrong with an input whatever its bindings, to these JSON Pointers, will put into it."""
        return self._signature.problems(payload, targets)

    async def run(
        self,
        payload: Payload,
        context: Callable[[], Context],
        emit: Emit,
        most_bytes: int,
        *,
        strict: bool = False,
        in_thread: InThread = run_in_thread,
    ) -> Payload:
        """Run one attempt.

        Args:
            payload: The step's input.
            context: Makes what the attempt knows of itself, if the action asks for it.
            emit: Where chunks of a stream go.
            most_bytes: The bound of the answer, chunks together included.
            strict: Whether keys of the input that the action does not know are refused, or passed over.
            in_thread: Calls a function on a thread, and gives its answer.

        Raises:
            ActionFailed: The input does not fit, or the answer cannot be taken.
            BaseException: Whatever the action raises.
        """
        arguments = self._signature.arguments(payload, context, strict=strict)
        taker = Taker(self._function, arguments, emit, most_bytes, text=self._text, in_thread=in_thread)
        return await (taker.on_thread() if self.threaded else taker.on_loop())


def _entry(target: object) -> Callable[..., object]:
    """Return what to call: `stream` or `invoke` of an object, or of a class's only instance; else the target itself."""
    if inspect.isroutine(target):
        return cast("Callable[..., object]", target)
    instance = target() if inspect.isclass(target) else target
    method = next((name for name in ("stream", "invoke") if hasattr(type(instance), name)), "")
    entry = getattr(instance, method) if method else instance
    if not callable(entry):
        raise TypeError("it has neither `invoke` nor `stream`, and cannot be called")
    return cast("Callable[..., object]", entry)


def _is_async(function: Callable[..., object]) -> bool:
    """Say whether a call belongs on the event loop: what a decorator wraps does not count, for it may change that."""
    code = code_of(function)
    return any(map(inspect.iscoroutinefunction, (function, code))) or inspect.isasyncgenfunction(code)


def _streams(function: Callable[..., object], chunk: object) -> bool:
    """Say whether a call gives a stream: by its kind, else by its own hints; those of a wrapper may be the inner one's.

    Args:
        function: What is called.
        chunk: The type of the chunks that it declares; `None`: it declares no stream.
    """
    code = code_of(function)
    if getattr(getattr(code, "__code__", None), "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE:
        return False
    if inspect.isasyncgenfunction(code) or inspect.isgeneratorfunction(code):
        return True
    return chunk is not None and not hasattr(function, "__wrapped__")


def _named(target: object) -> object:
    """Return what has the name and the docstring of a target: a partial's function, an instance's class."""
    if isinstance(target, partial):
        return _named(target.func)
    return target if isinstance(getattr(target, "__qualname__", None), str) else type(target)


def _source(target: object) -> str:
    named = _named(target)
    return f"{getattr(named, '__module__', None)}:{getattr(named, '__qualname__', None) or repr(named)}"


def _description(target: object) -> str:
    return cut((inspect.getdoc(_named(target)) or "").split("\n\n")[0].replace("\n", " "), MOST_TEXT)


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
        self._problems: list[str] = []
        for name in BUILT_IN:
            self._add_module(_import(name), source="built-in")
        for given in actions:
            self._try(self._add_given, given)
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
        """Say that there is no action of a name, and which near one there is."""
        near = did_you_mean(name, self._actions.keys())
        listed = ", ".join(action.name for action in self if action.source != "built-in")
        return f'unknown action "{name}"' + (near or (f"; there are: {listed}" if listed and len(listed) < 500 else ""))

    def _try(self, add: Callable[[T], None], given: T) -> None:
        """Add something, and note what is wrong with it: everything that is wrong is told at once."""
        try:
            add(given)
        except ActionsError as error:
            self._problems.append(str(error))

    def _add(self, action: Action) -> None:
        other = self._actions.setdefault(action.name, action)
        if not action.is_of(other):
            raise ActionsError(f"two actions are named {action.name!r}: {_told_apart(other, action)}")

    def _add_given(self, given: object) -> None:
        if isinstance(given, str):
            self._add_own(_import(given))
        elif isinstance(given, ModuleType):
            self._add_own(given)
        elif callable(given) or action_name(given) is not None:
            self._add(Action.of(given))
        else:
            raise ActionsError(f"no action: {given!r}")

    def _add_own(self, module: ModuleType) -> None:
        if not self._add_module(module):
            raise ActionsError(f"module {module.__name__!r} has no function or class marked with @action")

    def _add_module(self, module: ModuleType, *, source: str = "") -> bool:
        """Add what a module shows that is marked; say whether there is any."""
        marked = [item for item in vars(module).values() if action_name(item) is not None]
        for item in marked:
            self._try(lambda item: self._add(Action.of(item, source=source)), item)
        return bool(marked)

    def _add_entry_point(self, point: importlib.metadata.EntryPoint) -> None:
        try:
            loaded = point.load()
        except (Exception, SystemExit) as error:
            raise ActionsError(f"entry point {point.name!r} ({point.value}): {error}") from error
        self._add_given(loaded)


def _told_apart(one: Action, other: Action) -> str:
    """Name two actions, with the places of their code where their sources are equal."""
    if one.source != other.source:
        return f"{one.source} and {other.source}"
    if one.place != other.place:
        return f"{one.source} ({one.place}) and {other.source} ({other.place})"
    return f"two objects of {one.source}" + (f" ({one.place})" if one.place else "")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ActionsError(
                f"no module named {name!r} (looked in the working directory and installed packages)"
            ) from error
        raise ActionsError(f"module {name!r} needs a module that is not there: {error.name}") from error
    except (Exception, SystemExit) as error:  # a script may end the process that runs it
        raise ActionsError(f"module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
