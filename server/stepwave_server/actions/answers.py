"""Answers of actions: an action's function is called, and its result becomes a value or a stream of chunks.

The result decides, rather than the kind of function, which a decorator may change. An awaitable is awaited, an
iterator, async or not, is a stream, and everything else is a value.
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
from stepwave_server.telemetry.redaction import current_redaction

__all__ = ["Chunks", "Emit", "InThread", "Invocation"]

Emit = Callable[[Payload], None]
"""Sends a chunk to the run's watchers. May be called from any thread."""

InThread = Callable[[Callable[[], object]], Awaitable[object]]
"""Calls a function on a thread, and returns its result."""

PLAIN_TYPES = frozenset({type(None), bool, int, float, str, list, dict, tuple})
"""Common types of values, which are neither awaited nor streamed."""

MAX_AWAITED = 10
"""Awaitables that may result in each other."""

BURST_CHUNKS = 100
"""Chunks after which a stream that never waits yields to the event loop."""

BURST_SECONDS = 0.002
"""Seconds after which a stream that never waits yields to the event loop."""

LOOP_CHECK_INTERVAL = 1.0
"""Seconds after which a thread that waits for the event loop checks whether the loop is closed."""


@dataclass(slots=True)
class Chunks:
    """The chunks of a stream, and the answer that they result in.

    A stream's answer is its explicit answer, else its chunks: one string if all are strings, else a list. If there are
    no chunks, the declared type decides.

    Attributes:
        max_bytes: Bound on all chunks together, and on the answer.
        text: Whether the function declares that it yields strings.
    """

    max_bytes: int
    text: bool = False
    _chunks: list[Payload] = field(default_factory=list)
    _size: int = 0
    _strings: list[str] | None = field(default_factory=list)
    _answer: Payload | None = None

    def add(self, item: object) -> Payload | None:
        """Add an item of a stream, and return the chunk to emit; `None`: the item is the answer.

        Raises:
            ActionFailed: The item is not JSON, the chunks exceed the bound, or the item came after the answer.
        """
        if self._answer is not None:
            raise ActionFailed(Reason.ACTION_ERROR, "it went on after its answer")
        if isinstance(item, Answer):
            self._answer = dump(item.value, self.max_bytes)
            return None
        chunk = dump(item, self.max_bytes)
        self._size += len(chunk) if isinstance(chunk, str) else len(chunk.data)
        if self._size > self.max_bytes:
            raise ActionFailed(Reason.RESOURCE_EXHAUSTED, f"its chunks exceed the {self.max_bytes:,} bytes allowed")
        self._chunks.append(chunk)
        if self._strings is not None and isinstance(item, str):
            self._strings.append(item)
        else:
            self._strings = None
        return chunk

    def result(self) -> Payload:
        """Return the answer.

        Raises:
            ActionFailed: The answer is too large, or there are blobs among the chunks, which a JSON list cannot hold.
        """
        if self._answer is not None:
            return self._answer
        if self._strings is not None and (self._strings or self.text):
            return dump("".join(self._strings), self.max_bytes)
        texts = [chunk for chunk in self._chunks if not isinstance(chunk, Blob)]
        if len(texts) < len(self._chunks):
            raise ActionFailed(Reason.ACTION_ERROR, "it streamed blobs, which make no answer: yield an Answer last")
        return bounded(f"[{','.join(texts)}]", self.max_bytes)


class Invocation:
    """One call of an action's function.

    Args:
        function: The function.
        arguments: Its keyword arguments.
        emit: Sends the chunks of a stream.
        max_bytes: Bound on the answer.
        text: Whether the function declares that it yields strings.
        in_thread: Calls a function on a thread, and returns its result.
    """

    __slots__ = ("_arguments", "_emit", "_function", "_in_thread", "_max_bytes", "_text")

    def __init__(
        self,
        function: Callable[..., object],
        arguments: Mapping[str, object],
        emit: Emit,
        max_bytes: int,
        *,
        text: bool = False,
        in_thread: InThread = run_in_thread,
    ) -> None:
        self._function = function
        self._arguments = arguments
        self._emit = emit
        self._max_bytes = max_bytes
        self._text = text
        self._in_thread = in_thread

    async def run_on_loop(self) -> Payload:
        """Call the function on the event loop, and return its answer.

        Raises:
            ActionFailed: The answer is not JSON, or too large.
            BaseException: The function raised it.
        """
        process = os.getpid()
        try:
            result = self._function(**self._arguments)
            if type(result) is CoroutineType:
                result = await result
            if type(result) in PLAIN_TYPES:  # the common case
                return dump(result, self._max_bytes)
            return await self._resolve(result)
        finally:
            if os.getpid() != process:
                _exit_fork()

    async def run_on_thread(self) -> Payload:
        """Call the function on a thread, and return its answer. Raises the same as `run_on_loop`.

        A thread cannot be interrupted. After a cancellation, a stream on a thread ends with its next chunk.
        """
        pacer = _ThreadPacer(asyncio.get_running_loop())
        try:
            result = await self._in_thread(partial(self._call, pacer))
        finally:
            pacer.stop()
        return result.payload if isinstance(result, _Resolved) else await self._with_result(result).run_on_loop()

    def _with_result(self, result: object) -> "Invocation":
        """Return an invocation whose function returns a result that exists already."""
        emit, max_bytes, text = self._emit, self._max_bytes, self._text
        return Invocation(lambda: result, {}, emit, max_bytes, text=text, in_thread=self._in_thread)

    async def _resolve(self, result: object) -> Payload:
        for _ in range(MAX_AWAITED):
            if not inspect.isawaitable(result):
                break
            result = await result
        if isinstance(result, AsyncIterable):
            return await self._drain_on_loop(result)
        if isinstance(result, Iterator):
            return await self._with_result(result).run_on_thread()
        return dump(result, self._max_bytes)

    async def _drain_on_loop(self, stream: AsyncIterable[object]) -> Payload:
        chunks, pacer, iterator = self._new_chunks(), _LoopPacer(asyncio.get_running_loop()), aiter(stream)
        try:
            async for item in iterator:
                self._emit_chunk(chunks, item)
                if pacer.must_yield():
                    time.sleep(0)  # noqa: ASYNC251 - releases the interpreter lock for other threads
                    await asyncio.sleep(0)
        finally:
            await _aclose(iterator)
        return chunks.result()

    def _call(self, pacer: "_ThreadPacer") -> object:
        """Return the answer of a call on this thread, or a result that must be resolved on the event loop."""
        process = os.getpid()
        try:
            result = self._function(**self._arguments)
            if isinstance(result, AsyncIterable) or inspect.isawaitable(result):
                return result
            if isinstance(result, Iterator):
                return _Resolved(self._drain_on_thread(result, pacer))
            return _Resolved(dump(result, self._max_bytes))
        finally:
            if os.getpid() != process:
                _exit_fork()

    def _drain_on_thread(self, stream: Iterator[object], pacer: "_ThreadPacer") -> Payload:
        chunks = self._new_chunks()
        try:
            for item in stream:
                self._emit_chunk(chunks, item)
                if not pacer.may_continue():
                    break
        finally:
            _close(stream)
        return chunks.result()

    def _new_chunks(self) -> Chunks:
        return Chunks(max_bytes=self._max_bytes, text=self._text)

    def _emit_chunk(self, chunks: Chunks, item: object) -> None:
        chunk = chunks.add(item)
        if chunk is not None:
            self._emit(chunk)


@dataclass(frozen=True, slots=True)
class _Resolved:
    """A complete answer. The class is private, so it cannot be confused with an action's own result."""

    payload: Payload


class _LoopPacer:
    """Decides when a stream on the event loop must yield to other tasks.

    Args:
        loop: The event loop. Its own clock is used, so that in virtual time only the number of chunks counts.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._count = 0
        self._start = loop.time()

    def must_yield(self) -> bool:
        """Count a chunk, and return whether the stream must yield now. If so, the count restarts."""
        self._count += 1
        now = self._loop.time()
        if self._count < BURST_CHUNKS and now - self._start < BURST_SECONDS:
            return False
        self._count, self._start = 0, now
        return True


class _ThreadPacer:
    """Pauses a stream on a thread until the event loop has sent its chunks.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stopped = False
        self._count = 0
        self._caught_up: threading.Event | None = None

    def stop(self) -> None:
        """Stop the stream at its next chunk, because its answer is no longer awaited."""
        self._stopped = True
        if self._caught_up is not None:
            self._caught_up.set()

    def may_continue(self) -> bool:
        """Count a chunk, wait for the loop if it lags behind, and return whether the stream may continue."""
        self._count += 1
        if self._count % BURST_CHUNKS == 0:
            self._wait()
        return not self._stopped

    def _wait(self) -> None:
        caught_up = self._caught_up = threading.Event()
        if self._stopped:
            return
        try:
            self._loop.call_soon_threadsafe(caught_up.set)
        except RuntimeError:  # the loop is closed
            self._stopped = True
            return
        while not caught_up.wait(LOOP_CHECK_INTERVAL):
            if self._loop.is_closed():
                self._stopped = True
                return


def _exit_fork() -> NoReturn:
    """Exit a forked process that has left the action's code, so that it does not go on as a second server.

    The exit code is Python's. Clean-up is left to the parent.
    """
    error = sys.exc_info()[1]
    code = 0 if error is None else 1
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        code = error.code or 0
    elif error is not None:
        _print(error)
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _print(error: BaseException) -> None:
    """Print the traceback of an exception of a forked process, as Python does at the end of a process."""
    text = "".join(traceback.format_exception(error))
    redact = current_redaction()
    sys.stderr.write(text if redact is None else redact(text))


def _close(iterator: Iterator[object]) -> None:
    close = getattr(iterator, "close", None)
    if callable(close):
        close()


async def _aclose(iterator: AsyncIterator[object]) -> None:
    close = getattr(iterator, "aclose", None)
    if callable(close):
        await close()
