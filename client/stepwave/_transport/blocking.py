"""The transport of `Client`: gRPC's blocking calls, as coroutines that never suspend."""

import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, Protocol, TypeVar

import grpc
import grpc.experimental

from stepwave.v1 import orchestrator_pb2_grpc

from .base import FINISH_WITHIN, MessageStream, Stream, Unary
from .channel import trace_metadata
from .rpc_errors import from_rpc_error
from .security import PLAIN, Security, open_channel

__all__ = ["SyncTransport", "drive", "drive_each"]

# The caller's thread alone handles the events of a stream. Otherwise, Ctrl-C can interrupt it where it has just taken a
# lock of gRPC, which then stays taken: gRPC's own thread waits for it forever, and so do all later calls.
_ON_THE_CALLERS_THREAD = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)

Request = TypeVar("Request")
Response = TypeVar("Response")
Response_co = TypeVar("Response_co", covariant=True)
Result = TypeVar("Result")


def drive(work: Awaitable[Result]) -> Result:
    """Run an awaitable that never suspends to its end, on the caller's thread and without an event loop."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    steps.close()
    raise AssertionError("a coroutine over the blocking transport was suspended")


def drive_each(source: AsyncIterator[Result]) -> Iterator[Result]:
    """Iterate over an asynchronous iterator that never suspends."""
    while True:
        try:
            item = drive(source.__anext__())
        except StopAsyncIteration:
            return
        yield item


class SyncTransport:
    """Calls that block. The first call makes the channel, so a process may fork before it.

    Args:
        address: The server's address.
        security: The protection of the channel.
    """

    def __init__(self, address: str, security: Security = PLAIN) -> None:
        self.address = address
        self.security = security
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stub: orchestrator_pb2_grpc.OrchestratorServiceStub | None = None
        self._closed = False

    async def unary(self, method: Unary[Request, Response], request: Request, within: float) -> Response:
        """Make a call, and wait at most `within` seconds for its response."""
        try:
            response: Response = self._call(method.name, request, within)
        except grpc.RpcError as error:
            self.check_open()
            raise from_rpc_error(error, self.address) from error
        return response

    def stream(
        self, method: Stream[Request, Response], request: Request, within: float | None
    ) -> MessageStream[Response]:
        """Begin a streaming call that may last `within` seconds; `None`: no limit."""
        return _SyncStream(self, self._call(method.name, request, within))

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)  # noqa: ASYNC251 - this transport blocks

    def now(self) -> float:
        """Return the time of a monotonic clock, in seconds."""
        return time.monotonic()

    async def shielded(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end. Only a `KeyboardInterrupt` can stop it."""
        return await work

    async def computed(self, work: Callable[[], Result]) -> Result:
        """Run a function on the caller's own thread."""
        return work()

    async def close(self) -> None:
        """Free the connection. Calls of other threads end. Idempotent."""
        with self._lock:
            self._closed = True
            channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            channel.close()

    def check_open(self) -> None:
        """Check that no thread has closed the client.

        Raises:
            RuntimeError: The client is closed.
        """
        if self._closed:
            raise RuntimeError("this client is closed")

    def _call(self, name: str, request: object, within: float | None) -> Any:
        with self._lock:
            self.check_open()
            if self._stub is None:
                self._channel = open_channel(self.address, self.security, [_ON_THE_CALLERS_THREAD])
                self._stub = orchestrator_pb2_grpc.OrchestratorServiceStub(self._channel)
            method = getattr(self._stub, name)
        try:
            return method(request, timeout=within, metadata=(*trace_metadata(), *self.security.metadata()))
        except ValueError:  # raised by gRPC when another thread has closed the channel
            self.check_open()
            raise


class _Call(Protocol[Response_co]):
    """A blocking stream of gRPC, which has no public type."""

    def __next__(self) -> Response_co: ...

    def cancel(self) -> None: ...


class _EndTimeouts:
    """Cancels calls that do not end in time, on one thread for all clients: a `threading.Timer` each takes 0.5 ms."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[float, list[_Call[Any]]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def cancel_late(self, call: _Call[Any]) -> Iterator[None]:
        """Cancel a call unless the block ends within `FINISH_WITHIN`."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # a fork has no threads of its parent
                self._thread = threading.Thread(target=self._cancel_all, name="stepwave-timeouts", daemon=True)
                self._thread.start()
        pending = [call]
        self._calls.put((time.monotonic() + FINISH_WITHIN, pending))
        try:
            yield
        finally:
            pending.clear()

    def _cancel_all(self) -> None:
        while True:
            due, pending = self._calls.get()
            if pending:
                time.sleep(max(due - time.monotonic(), 0))
            for call in list(pending):
                call.cancel()


_TIMEOUTS = _EndTimeouts()


class _SyncStream(Generic[Response]):
    """A streaming call that blocks. Nothing is read ahead of the caller."""

    __slots__ = ("_call", "_transport")

    def __init__(self, transport: SyncTransport, call: _Call[Response]) -> None:
        self._transport = transport
        self._call = call

    async def read(self) -> Response | None:
        try:
            return next(self._call, None)
        except grpc.RpcError as error:
            self._transport.check_open()
            raise from_rpc_error(error, self._transport.address) from error

    async def finish(self) -> None:
        with _TIMEOUTS.cancel_late(self._call), suppress(grpc.RpcError):
            next(self._call, None)  # nothing but the end is left to read
        self._call.cancel()

    def cancel(self) -> None:
        self._call.cancel()
