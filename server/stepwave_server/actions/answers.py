"""What an action gives back becomes its answer: a value, or a stream of chunks, whichever way it comes.

The kind of a function does not say all: decorators change it. So what comes back decides. An awaitable is awaited, an
iterator, async or not, is a stream, and all else is a value.
"""

import asyncio
import inspect
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import CoroutineType
from typing import NoReturn

from stepwave._actions.context import Answer
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.threads import run_in_thread
from stepwave_server.actions.values import bounded, dump
from stepwave_server.core.model import Blob, Payload, Reason

__all__ = ["Chunks", "Emit", "InThread", "Taker"]

Emit = Callable[[Payload], None]
"""Shows a chunk to the run's watchers; may be called from any thread."""

InThread = Callable[[Callable[[], object]], Awaitable[object]]
"""Calls a function on a thread, and gives its answer."""

PLAIN = frozenset({type(None), bool, int, float, str, list, dict, tuple})
"""Types of most values, which are neither awaited nor streamed."""

MOST_AWAITED = 10
"""Awaitables that may come out of each other."""

MOST_AT_ONCE = 100
LONGEST_AT_ONCE = 0.002
"""Chunks, and seconds, after which a stream that never waits lets others have the event loop."""

LIVELINESS = 1.0
"""Seconds after which a thread that waits for the event loop looks whether anybody still wants its chunks."""


@dataclass(slots=True)
class Chunks:
    """What a stream said so far; it comes to its explicit answer, else its chunks as they were shown.

    These are joined if all are strings, else a list. Of no chunks, the declared type decides.

    Attributes:
        most_bytes: The bound of all chunks together, and of the answer.
        text: The function declares that it yields strings.
    """

    most_bytes: int
    text: bool = False
    _said: list[Payload] = field(default_factory=list)
    _size: int = 0
    _joined: list[str] | None = field(default_factory=list)
    _answer: Payload | None = None

    def add(self, item: object) -> Payload | None:
        """Take what a stream yielded, and return the chunk to show; `None` if it was the answer.

        Raises:
            ActionFailed: It is no JSON, too much in all, or came after the answer.
        """
        if self._answer is not None:
            raise ActionFailed(Reason.ACTION_ERROR, "it went on after its answer")
        if isinstance(item, Answer):
            self._answer = dump(item.value, self.most_bytes)
            return None
        chunk = dump(item, self.most_bytes)
        self._size += len(chunk) if isinstance(chunk, str) else len(chunk.data)
        if self._size > self.most_bytes:
            raise ActionFailed(Reason.RESOURCE_EXHAUSTED, f"its chunks pass the {self.most_bytes:,} bytes allowed")
        self._said.append(chunk)
        if self._joined is not None and isinstance(item, str):
            self._joined.append(item)
        else:
            self._joined = None
        return chunk

    def result(self) -> Payload:
        """Return what the stream came to.

        Raises:
            ActionFailed: It is too large, or its chunks are blobs, which no list of JSON holds.
        """
        if self._answer is not None:
            return self._answer
        if self._joined is not None and (self._joined or self.text):
            return dump("".join(self._joined), self.most_bytes)
        texts = [chunk for chunk in self._said if not isinstance(chunk, Blob)]
        if len(texts) < len(self._said):
            raise ActionFailed(Reason.ACTION_ERROR, "it streamed blobs, which make no answer: yield an Answer last")
        return bounded(f"[{','.join(texts)}]", self.most_bytes)


class Taker:
    """Calls one attempt's function, and takes what it gives back.

    Args:
        function: What to call.
        arguments: Its keyword arguments.
        emit: Where chunks of a stream go.
        most_bytes: The bound of the answer.
        text: The function declares that it yields strings.
        in_thread: Calls a function on a thread, and gives its answer.
    """

    __slots__ = ("_arguments", "_emit", "_function", "_in_thread", "_most_bytes", "_text")

    def __init__(
        self,
        function: Callable[..., object],
        arguments: Mapping[str, object],
        emit: Emit,
        most_bytes: int,
        *,
        text: bool = False,
        in_thread: InThread = run_in_thread,
    ) -> None:
        self._function = function
        self._arguments = arguments
        self._emit = emit
        self._most_bytes = most_bytes
        self._text = text
        self._in_thread = in_thread

    async def on_loop(self) -> Payload:
        """Call the function on the event loop, and return the answer that it comes to.

        Raises:
            ActionFailed: The answer cannot be taken.
            BaseException: Whatever the function raises.
        """
        process = os.getpid()
        try:
            given = self._function(**self._arguments)
            if type(given) is CoroutineType:
                given = await given
            if type(given) in PLAIN:  # nearly all
                return dump(given, self._most_bytes)
            return await self._take(given)
        finally:
            if os.getpid() != process:
                _end_fork()

    async def on_thread(self) -> Payload:
        """Call the function on a thread, and return the answer that it comes to. Raises what `on_loop` does.

        A thread cannot be ended; when nobody waits for it any more, a stream on it is.
        """
        pace = _ThreadPace(asyncio.get_running_loop())
        try:
            given = await self._in_thread(partial(self._call, pace))
        finally:
            pace.stop()
        return given.payload if isinstance(given, _Taken) else await self._giving(given).on_loop()

    def _giving(self, given: object) -> "Taker":
        """Return what takes something that was given already."""
        emit, most_bytes, text = self._emit, self._most_bytes, self._text
        return Taker(lambda: given, {}, emit, most_bytes, text=text, in_thread=self._in_thread)

    async def _take(self, given: object) -> Payload:
        for _ in range(MOST_AWAITED):
            if not inspect.isawaitable(given):
                break
            given = await given
        if isinstance(given, AsyncIterable):
            return await self._drain_on_loop(given)
        if isinstance(given, Iterator):
            return await self._giving(given).on_thread()
        return dump(given, self._most_bytes)

    async def _drain_on_loop(self, stream: AsyncIterable[object]) -> Payload:
        chunks, pace, iterator = self._new_chunks(), _Pace(asyncio.get_running_loop()), aiter(stream)
        try:
            async for item in iterator:
                self._show(chunks, item)
                if pace.is_due():
                    time.sleep(0)  # noqa: ASYNC251 - threads get the interpreter, which a loop that never waits keeps
                    await asyncio.sleep(0)
        finally:
            await _aclose(iterator)
        return chunks.result()

    def _call(self, pace: "_ThreadPace") -> object:
        """Return the answer of a call on this thread, or what must be taken on the event loop."""
        process = os.getpid()
        try:
            given = self._function(**self._arguments)
            if isinstance(given, AsyncIterable) or inspect.isawaitable(given):
                return given
            if isinstance(given, Iterator):
                return _Taken(self._drain_on_thread(given, pace))
            return _Taken(dump(given, self._most_bytes))
        finally:
            if os.getpid() != process:
                _end_fork()

    def _drain_on_thread(self, stream: Iterator[object], pace: "_ThreadPace") -> Payload:
        chunks = self._new_chunks()
        try:
            for item in stream:
                self._show(chunks, item)
                if not pace.go_on():
                    break
        finally:
            _close(stream)
        return chunks.result()

    def _new_chunks(self) -> Chunks:
        return Chunks(self._most_bytes, self._text)

    def _show(self, chunks: Chunks, item: object) -> None:
        chunk = chunks.add(item)
        if chunk is not None:
            self._emit(chunk)


@dataclass(frozen=True, slots=True)
class _Taken:
    """An answer that needs nothing more: an action's own value can be anything, but never this."""

    payload: Payload


class _Pace:
    """Tells when a stream has had the event loop for long enough.

    Args:
        loop: The event loop; time is its own, so that streams in virtual time take turns by count alone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._count = 0
        self._since = loop.time()

    def is_due(self) -> bool:
        """Count a chunk, and say whether it is others' turn; if it is, the count begins anew."""
        self._count += 1
        now = self._loop.time()
        if self._count < MOST_AT_ONCE and now - self._since < LONGEST_AT_ONCE:
            return False
        self._count, self._since = 0, now
        return True


class _ThreadPace:
    """Holds a stream on a thread back while the event loop has not shown its chunks.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stopped = False
        self._count = 0
        self._caught_up: threading.Event | None = None

    def stop(self) -> None:
        """Let the stream end: nobody waits for it any more."""
        self._stopped = True
        if self._caught_up is not None:
            self._caught_up.set()

    def go_on(self) -> bool:
        """Count a chunk, wait for the loop if it is behind, and say whether the stream may go on."""
        self._count += 1
        if self._count % MOST_AT_ONCE == 0:
            self._wait()
        return not self._stopped

    def _wait(self) -> None:
        caught_up = self._caught_up = threading.Event()
        if self._stopped:
            return
        try:
            self._loop.call_soon_threadsafe(caught_up.set)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self._stopped = True
            return
        while not caught_up.wait(LIVELINESS):
            if self._loop.is_closed():
                self._stopped = True
                return


def _end_fork() -> NoReturn:
    """End this process, which an action has forked, where it leaves the action's code: it would be another server.

    It ends as Python ends one, but for the clean-up, which is for its parent to do.
    """
    error = sys.exc_info()[1]
    code = 0 if error is None else 1
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        code = error.code or 0
    elif error is not None:
        traceback.print_exception(error)
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _close(iterator: Iterator[object]) -> None:
    close = getattr(iterator, "close", None)
    if callable(close):
        close()


async def _aclose(iterator: AsyncIterator[object]) -> None:
    close = getattr(iterator, "aclose", None)
    if callable(close):
        await close()
