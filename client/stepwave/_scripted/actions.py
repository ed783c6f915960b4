"""The actions of a scripted run: those that the script replaces, and the real others, each as the engine wants it."""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

from stepwave._actions.action import action
from stepwave._actions.context import Answer, Context
from stepwave._values.time import to_seconds
from stepwave_server.actions import Action, Registry
from stepwave_server.actions.answers import Emit, InThread
from stepwave_server.actions.code_location import current_line
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.threads import run_in_thread
from stepwave_server.actions.values import dump, load
from stepwave_server.core.model import Payload

from .entries import Hangs, Lines, Part, Takes
from .loop import VirtualLoop
from .script_errors import ScriptExhausted

__all__ = ["Stage", "StagedActions"]

Perform: TypeAlias = Callable[[Payload, Callable[[], Context], Emit, int, bool], Awaitable[Payload]]

_MOMENT = 1e-9


class Stage:
    """Where a scripted run takes place.

    Attributes:
        loop: The loop it runs on.
        inputs: What each attempt was given, by step id and number.
        tasks: What runs each attempt, or ran it, by the same.
        broken: Done once the script has run out.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.inputs: dict[tuple[str, int], object] = {}
        self.tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.broken: asyncio.Future[ScriptExhausted] = loop.create_future()

    def where(self, step_id: str, attempt: int) -> str:
        """Say at which line of its author's an attempt stands, if it is known; for a run that is broken off."""
        task = self.tasks.get((step_id, attempt))
        line = current_line(task) if task is not None and not task.done() else None
        if line is None or Path(line.file).parent == Path(__file__).parent:
            return ""
        return f", at {line.file}:{line.line}, in {line.function}"

    async def exhausted(self, name: str, context: Context, entries: int) -> Payload:
        """End the run when all has happened that can at this moment, so that it can be told; the attempt waits."""
        error = ScriptExhausted(name, context.step_id, context.attempt, entries)
        await asyncio.sleep(_MOMENT)
        if not self.broken.done():
            self.broken.set_result(error)
        return await self.wait()

    async def wait(self) -> Payload:
        """Wait until interrupted."""
        await self.loop.create_future()
        raise AssertionError("nothing else ends this")


@dataclass(frozen=True, slots=True)
class _Staged(Action):
    """An action that is performed as the stage says."""

    perform: Perform

    @classmethod
    def like(cls, real: Action, perform: Perform) -> "_Staged":
        """Make one that is as another to whoever asks."""
        return cls(**{field.name: getattr(real, field.name) for field in fields(Action)}, perform=perform)

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
        """Run one attempt."""
        return await self.perform(payload, context, emit, most_bytes, strict)


class StagedActions(Registry):
    """The actions of a server, as they are performed on a stage.

    Args:
        given: Where they come from, as for a server.
        script: What replaces some of them, by name.
        stage: Where that is.
        entry_points: Load those of installed packages too.

    Raises:
        ActionsError: An action cannot be loaded, or a callable of the script cannot be called with an input.
        TypeError, ValueError: An entry of the script is none.
    """

    def __init__(self, given: Iterable[object], script: Mapping[str, Part], stage: Stage, *, entry_points: bool):
        super().__init__(given, entry_points=entry_points)
        self._stage = stage
        for name, real in self._actions.items():
            self._actions[name] = _Staged.like(real, self._recorded(self._real(real)))
        for name, part in script.items():
            played = self._played(name, part, self._actions.get(name))
            self._actions[name] = _Staged.like(_stand_in(name), self._recorded(played))

    def _recorded(self, perform: Perform) -> Perform:
        async def recorded(
            payload: Payload, context: Callable[[], Context], emit: Emit, most_bytes: int, strict: bool
        ) -> Payload:
            attempt = context()
            key = attempt.step_id, attempt.attempt
            task = asyncio.current_task()
            assert task is not None, "the engine runs each attempt as a task"
            self._stage.inputs[key], self._stage.tasks[key] = load(payload), task
            return await perform(payload, context, emit, most_bytes, strict)

        return recorded

    def _real(self, real: Action) -> Perform:
        """Perform an action itself; what needs a thread of it gets its turn."""

        async def performed(
            payload: Payload, context: Callable[[], Context], emit: Emit, most_bytes: int, strict: bool
        ) -> Payload:
            async def in_turn(call: Callable[[], object]) -> object:
                who = f"step {context().step_id!r} (action {real.name!r})"
                return await self._stage.loop.in_turn(who, lambda: run_in_thread(call))

            return await real.run(payload, context, emit, most_bytes, strict=strict, in_thread=in_turn)

        return performed

    def _played(self, name: str, part: Part, real: Action | None) -> Perform:
        """Perform what the script says, if the action itself, where it is known, would take the input."""
        performs = {step_id: self._entries(name, step_id, lines) for step_id, lines in part.items()}

        async def played(
            payload: Payload, context: Callable[[], Context], emit: Emit, most_bytes: int, strict: bool
        ) -> Payload:
            if real is not None:
                real.check(payload, context, strict=strict)
            attempt = context()
            whose = attempt.step_id if attempt.step_id in part else ""
            place = part[whose].next() if whose in part else None
            if place is None:
                return await self._stage.exhausted(name, attempt, len(performs.get(whose, ())))
            return await performs[whose][place](payload, context, emit, most_bytes, strict)

        return played

    def _entries(self, name: str, step_id: str, lines: Lines) -> list[Perform]:
        whose = f"the script of {name!r}" + (f" for step {step_id!r}" if step_id else "")
        return [
            self._entry(f"{whose}, entry {place}", name, entry) for place, entry in enumerate(lines.entries, start=1)
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
                return _raising(_made(place, entry))
            case _ if callable(entry):
                return self._called(place, name, entry)
        return _answering(place, entry)

    async def _hang(
        self, payload: Payload, context: Callable[[], Context], emit: Emit, most_bytes: int, strict: bool
    ) -> Payload:
        return await self._stage.wait()

    def _called(self, place: str, name: str, entry: Callable[..., object]) -> Perform:
        """Call a callable as a server calls actions: what it names of the input, on a thread if it is a plain one."""
        real = self._real(Action.of(entry, name=name, source=place, call=_by_name(place, entry)))

        async def called(
            payload: Payload, context: Callable[[], Context], emit: Emit, most_bytes: int, strict: bool
        ) -> Payload:
            return await real(payload, context, emit, most_bytes, False)

        return called


def _stand_in(name: str) -> Action:
    """Return an action that takes any input."""

    @action(name)
    async def stand_in(input: object = None) -> None:
        """Stand in for what a script says."""

    return Action.of(stand_in, source="the script")


def _by_name(place: str, entry: Callable[..., object]) -> inspect.Signature:
    """Return the signature of what is called by keywords alone: a mock takes any, and its `*args` are none."""
    try:
        signature = inspect.signature(entry)
    except ValueError as error:
        raise TypeError(f"{place}: {error}: wrap it into a function") from error
    open_ended = any(it.kind is it.VAR_KEYWORD for it in signature.parameters.values())
    kept = [it for it in signature.parameters.values() if not (open_ended and it.kind is it.VAR_POSITIONAL)]
    return signature.replace(parameters=kept)


def _delayed(seconds: float, then: Perform) -> Perform:
    async def delayed(
        payload: Payload, context: Callable[[], Context], emit: Emit, most_bytes: int, strict: bool
    ) -> Payload:
        await asyncio.sleep(seconds)
        return await then(payload, context, emit, most_bytes, strict)

    return delayed


def _raising(error: BaseException) -> Perform:
    async def raising(
        payload: Payload, context: Callable[[], Context], emit: Emit, most_bytes: int, strict: bool
    ) -> Payload:
        raise error.with_traceback(None)  # raised before, it would tell of that too

    return raising


def _made(place: str, kind: type[BaseException]) -> BaseException:
    """Make an exception of which the class alone was given."""
    try:
        return kind()
    except TypeError as error:
        raise TypeError(f"{place}: an exception that needs arguments must be given with them: {error}") from error


def _answering(place: str, value: object) -> Perform:
    try:
        dump(value, sys.maxsize)
    except ActionFailed as error:
        raise ValueError(f"{place}: {error}") from None

    async def answering(
        payload: Payload, context: Callable[[], Context], emit: Emit, most_bytes: int, strict: bool
    ) -> Payload:
        return dump(value, most_bytes)

    return answering
