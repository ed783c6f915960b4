"""The actions of a scripted run: those that the script replaces, and the real ones, as the engine's `Action`s."""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

from stepwave._actions.action import action, action_name
from stepwave._actions.context import Answer, Context
from stepwave._values.time import to_seconds
from stepwave_server.actions import Action, Registry
from stepwave_server.actions.answers import Emit, InThread
from stepwave_server.actions.code_location import current_line
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.threads import run_in_thread
from stepwave_server.actions.values import dump, load
from stepwave_server.core.model import WAIT_ACTION, Payload

from .loop import VirtualLoop
from .script import ActionScript, EntryList, Hangs, ScriptExhausted, Takes

__all__ = ["AttemptTracker", "ScriptedActions"]

Perform: TypeAlias = Callable[[Payload, Callable[[], Context], Emit, int, bool], Awaitable[Payload]]

_MOMENT = 1e-9


class AttemptTracker:
    """The attempts of a scripted run.

    Attributes:
        loop: The run's event loop.
        inputs: The input of each attempt, by step id and attempt.
        tasks: The task of each attempt, by step id and attempt.
        exhausted: Done when the script has run out.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.inputs: dict[tuple[str, int], object] = {}
        self.tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.exhausted: asyncio.Future[ScriptExhausted] = loop.create_future()

    def location(self, step_id: str, attempt: int) -> str:
        """Return the current line of an attempt's own code, for error notes; empty: unknown."""
        task = self.tasks.get((step_id, attempt))
        line = current_line(task) if task is not None and not task.done() else None
        if line is None or Path(line.file).parent == Path(__file__).parent:
            return ""
        return f", at {line.file}:{line.line}, in {line.function}"

    async def report_exhausted(self, name: str, context: Context, entries: int) -> Payload:
        """End the run, after everything else that happens at this moment of virtual time, and block."""
        error = ScriptExhausted(name, context.step_id, context.attempt, entries)
        await asyncio.sleep(_MOMENT)
        if not self.exhausted.done():
            self.exhausted.set_result(error)
        return await self.block()

    async def block(self) -> Payload:
        """Block until interrupted."""
        await self.loop.create_future()
        raise AssertionError("this future is never done")


@dataclass(frozen=True, slots=True)
class _ScriptedAction(Action):
    """An action whose attempts call `perform`."""

    perform: Perform

    @classmethod
    def replacing(cls, real: Action, perform: Perform) -> "_ScriptedAction":
        """Return a copy of an action that calls `perform`."""
        return cls(**{field.name: getattr(real, field.name) for field in fields(Action)}, perform=perform)

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
        """Run one attempt."""
        return await self.perform(payload, context, emit, max_bytes, strict)


class ScriptedActions(Registry):
    """The actions of a server, some of them replaced by a script.

    Args:
        given: The real actions, as for a server.
        script: The scripts of the replaced actions, by name. Under the empty name are those of steps whose workflows
            are chosen during the run.
        tracker: Records the attempts.
        entry_points: Whether to load the actions of installed packages too.

    Raises:
        ActionsError: An action cannot be loaded, or a callable of the script cannot be called with an input.
        TypeError, ValueError: An entry of the script is invalid.
    """

    def __init__(
        self,
        given: Iterable[object],
        script: Mapping[str, ActionScript],
        tracker: AttemptTracker,
        *,
        entry_points: bool,
    ):
        super().__init__(given, entry_points=entry_points)
        self._tracker = tracker
        self._script = script
        unknown = script.get("", ActionScript({}, partial=True))
        for name, real in self._actions.items():
            perform = (
                self._scripted(name, unknown, real) if unknown.entries and name not in script else self._real(real)
            )
            self._actions[name] = _ScriptedAction.replacing(real, self._recorded(perform))
        for name, action_script in script.items():
            if name:
                self._replace(name, action_script, unknown)

    async def complete(self, payload: Payload, context: Context, max_bytes: int) -> Payload | None:
        """Return the scripted answer to a step that waits to be completed; `None`: the script has no entry for it.

        Raises:
            Exception: An entry of the script.
        """
        script, action = self._script.get(WAIT_ACTION), self._actions[WAIT_ACTION]
        if script is None or script.key_for(context.step_id) is None or not isinstance(action, _ScriptedAction):
            return None
        return await action.perform(payload, lambda: context, _ignore, max_bytes, False)

    def _replace(self, name: str, script: ActionScript, unknown: ActionScript) -> None:
        merged = ActionScript({**unknown.entries, **script.entries}, script.partial)
        real = self._actions.get(name)
        shown = real if real is not None and script.partial else _stand_in(name)
        perform = self._scripted(name, merged, real)
        self._actions[name] = _ScriptedAction.replacing(shown, self._recorded(perform))

    def _recorded(self, perform: Perform) -> Perform:
        async def recorded(
            payload: Payload, context: Callable[[], Context], emit: Emit, max_bytes: int, strict: bool
        ) -> Payload:
            attempt = context()
            key = attempt.step_id, attempt.attempt
            task = asyncio.current_task()
            assert task is not None, "the engine runs each attempt as a task"
            self._tracker.inputs[key], self._tracker.tasks[key] = load(payload), task
            return await perform(payload, context, emit, max_bytes, strict)

        return recorded

    def _real(self, real: Action) -> Perform:
        """Call the real action. If it needs a thread, it waits for its turn."""

        async def performed(
            payload: Payload, context: Callable[[], Context], emit: Emit, max_bytes: int, strict: bool
        ) -> Payload:
            async def in_turn(call: Callable[[], object]) -> object:
                label = f"step {context().step_id!r} (action {real.name!r})"
                return await self._tracker.loop.in_turn(label, lambda: run_in_thread(call))

            return await real.run(payload, context, emit, max_bytes, strict=strict, in_thread=in_turn)

        return performed

    def _scripted(self, name: str, script: ActionScript, real: Action | None) -> Perform:
        """Use the next entry of the script. If the real action is known, check the input as it would."""
        performs = {step_id: self._entries(name, step_id, entries) for step_id, entries in script.entries.items()}
        perform_real = self._real(real) if real is not None and script.partial else None

        async def scripted(
            payload: Payload, context: Callable[[], Context], emit: Emit, max_bytes: int, strict: bool
        ) -> Payload:
            attempt = context()
            key = script.key_for(attempt.step_id)
            if key is None and perform_real is not None:
                return await perform_real(payload, context, emit, max_bytes, strict)
            if real is not None:
                real.check(payload, context, strict=strict)
            index = None if key is None else script.entries[key].next(attempt.step_id if key else "")
            if key is None or index is None:
                return await self._tracker.report_exhausted(name, attempt, len(performs.get(key or "", ())))
            return await performs[key][index](payload, context, emit, max_bytes, strict)

        return scripted

    def _entries(self, name: str, step_id: str, entries: EntryList) -> list[Perform]:
        title = f"the script of {name!r}" + (f" for step {step_id!r}" if step_id else "")
        return [
            self._entry(f"{title}, entry {number}", name, entry)
            for number, entry in enumerate(entries.entries, start=1)
        ]

    def _entry(self, place: str, name: str, entry: object) -> Perform:
        match entry:
            case Takes():
                return _delayed(to_seconds(entry.length), self._entry(place, name, entry.then))
            case Hangs():
                return self._hang
            case BaseException():
                return _raising(entry)
            case Answer():
                return _answering(place, entry.value)
            case _ if entry is Hangs:
                return self._hang
            case type() if issubclass(entry, BaseException):
                return _raising(_instance(place, entry))
            case _ if callable(entry):
                return self._called(place, name, entry)
        return _answering(place, entry)

    async def _hang(
        self, payload: Payload, context: Callable[[], Context], emit: Emit, max_bytes: int, strict: bool
    ) -> Payload:
        return await self._tracker.block()

    def _called(self, place: str, name: str, entry: Callable[..., object]) -> Perform:
        """Call a callable as a server calls an action: by its parameters, and on a thread if it is a plain function."""
        is_class_of_action = inspect.isclass(entry) and action_name(entry) is not None
        signature = None if is_class_of_action else _by_name(place, entry)
        real = self._real(Action.of(entry, name=name, source=place, call=signature))

        async def called(
            payload: Payload, context: Callable[[], Context], emit: Emit, max_bytes: int, strict: bool
        ) -> Payload:
            return await real(payload, context, emit, max_bytes, False)

        return called


def _ignore(*_: object) -> None:
    """Ignore a chunk: nobody sees those of a step that waits."""


def _stand_in(name: str) -> Action:
    """Return an action that accepts any input."""

    @action(name)
    async def stand_in(input: object = None) -> None:
        """Replaced by a script."""

    return Action.of(stand_in, source="the script")


def _by_name(place: str, entry: Callable[..., object]) -> inspect.Signature:
    """Return a signature without `*args` if there are `**kwargs`, as in mocks: calls pass keywords alone."""
    try:
        signature = inspect.signature(entry)
    except ValueError as error:
        raise TypeError(f"{place}: {error}: wrap it into a function") from error
    open_ended = any(it.kind is it.VAR_KEYWORD for it in signature.parameters.values())
    kept = [it for it in signature.parameters.values() if not (open_ended and it.kind is it.VAR_POSITIONAL)]
    return signature.replace(parameters=kept)


def _delayed(seconds: float, then: Perform) -> Perform:
    async def delayed(
        payload: Payload, context: Callable[[], Context], emit: Emit, max_bytes: int, strict: bool
    ) -> Payload:
        await asyncio.sleep(seconds)
        return await then(payload, context, emit, max_bytes, strict)

    return delayed


def _raising(error: BaseException) -> Perform:
    async def raising(
        payload: Payload, context: Callable[[], Context], emit: Emit, max_bytes: int, strict: bool
    ) -> Payload:
        raise error.with_traceback(None)  # without the traceback of an earlier raise

    return raising


def _instance(place: str, kind: type[BaseException]) -> BaseException:
    """Return an instance of an exception class."""
    try:
        return kind()
    except TypeError as error:
        raise TypeError(f"{place}: pass an instance of an exception that needs arguments: {error}") from error


def _answering(place: str, value: object) -> Perform:
    try:
        dump(value, sys.maxsize)
    except ActionFailed as error:
        raise ValueError(f"{place}: {error}") from None

    async def answering(
        payload: Payload, context: Callable[[], Context], emit: Emit, max_bytes: int, strict: bool
    ) -> Payload:
        return dump(value, max_bytes)

    return answering
