"""The transport of `AsyncClient`: grpc.aio on the caller's event loop."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, cast

import grpc
from grpc import aio

from stepwave.v1 import orchestrator_pb2_grpc

from .base import FINISH_WITHIN, MessageStream, Stream, Unary
from .channel import channel_options, trace_metadata
from .rpc_errors import from_rpc_error
from .security import PLAIN, Security

__all__ = ["AsyncTransport", "LoopAffinity"]

Request = TypeVar("Request")
Response = TypeVar("Response")
Result = TypeVar("Result")


class LoopAffinity:
    """The event loop of an object, fixed at its first use. On another loop, gRPC hangs or fails with obscure errors.

    Args:
        what: The object, as the subject of an error message.
    """

    def __init__(self, what: str = "this client") -> None:
        self._what = what
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0

    def bind(self) -> None:
        """Bind to the running loop. Idempotent.

        Raises:
            RuntimeError: It is bound to another loop.
        """
        self.check()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._process = os.getpid()

    def check(self) -> None:
        """Check that it is unbound, or that the running loop and the process are those it is bound to.

        Raises:
            RuntimeError: The loop or the process is another one.
        """
        if self._loop is None:
            return
        if os.getpid() != self._process:
            raise RuntimeError(f"{self._what} was used before this process was forked: make a client in the child")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"{self._what} belongs to another event loop, that of its first use: make a client inside each "
                "asyncio.run(…), or keep one loop for all"
            )

    def matches(self) -> bool:
        """Return whether `check` passes."""
        try:
            self.check()
        except RuntimeError:
            return False
        return True

    def other_loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop that it is bound to, if this loop runs on another thread of this process."""
        if self._loop is None or os.getpid() != self._process or not self._loop.is_running():
            return None
        return None if self.matches() else self._loop


class AsyncTransport:
    """Calls by grpc.aio. The first call makes the channel, on the running loop.

    Args:
        address: The server's address.
        affinity: The loop that the channel belongs to; `None`: that of the first call.
        security: The protection of the channel.
    """

    def __init__(self, address: str, affinity: LoopAffinity | None = None, *, security: Security = PLAIN) -> None:
        self.address = address
        self.security = security
        self.affinity = affinity or LoopAffinity()
        self._channel: aio.Channel | None = None
        self._stub: orchestrator_pb2_grpc.OrchestratorServiceAsyncStub | None = None
        self._closed = False

    async def unary(self, method: Unary[Request, Response], request: Request, within: float) -> Response:
        """Make a call, and wait at most `within` seconds for its response."""
        call = self._call(method.name, request, within)
        try:
            response: Response = await call
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.address) from error
        except asyncio.CancelledError:
            self.check_open()
            raise
        return response

    def stream(
        self, method: Stream[Request, Response], request: Request, within: float | None
    ) -> MessageStream[Response]:
        """Begin a streaming call that may last `within` seconds; `None`: no limit."""
        return _AsyncStream(self, self._call(method.name, request, within))

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    def now(self) -> float:
        """Return the time of a monotonic clock, in seconds."""
        return time.monotonic()

    async def shielded(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end, even if the caller is cancelled meanwhile, and then raise that cancellation."""
        caller, task = asyncio.current_task(), asyncio.ensure_future(work)
        was_cancelled = caller is not None and caller.cancelling() > 0
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            try:
                if not was_cancelled:  # a second cancellation does not wait
                    await asyncio.wait({task})
            finally:
                task.cancel()
            raise

    async def computed(self, work: Callable[[], Result]) -> Result:
        """Run a function on a thread. If the caller is cancelled meanwhile, the function's result is dropped."""
        return await asyncio.to_thread(work)

    async def close(self) -> None:
        """Free the connection. Calls under way end. Idempotent.

        On another loop, this only schedules the closing on the channel's own loop, if that runs: waiting could block
        forever.
        """
        self._closed = True
        channel, self._channel, self._stub = self._channel, None, None
        if channel is None:
            return
        if self.affinity.matches():
            await channel.close()
        elif loop := self.affinity.other_loop():
            asyncio.run_coroutine_threadsafe(channel.close(), loop)

    def check_open(self) -> None:
        """Check that a `CancelledError` comes from the caller's task and not from `close`, which raises the same error.

        Raises:
            RuntimeError: The client was closed, and the task is not cancelled.
        """
        task = asyncio.current_task()
        if self._closed and not (task and task.cancelling()):
            raise RuntimeError("this client is closed")

    def _call(self, name: str, request: object, within: float | None) -> Any:
        self.check_open()
        self.affinity.bind()
        if self._stub is None:
            self._channel = self._make_channel()
            self._stub = orchestrator_pb2_grpc.OrchestratorServiceStub(self._channel)
        metadata = (*trace_metadata(), *self.security.metadata())
        return getattr(self._stub, name)(request, timeout=within, metadata=metadata)

    def _make_channel(self) -> aio.Channel:
        options = channel_options(self.address)
        if self.security.tls:
            return aio.secure_channel(self.address, self.security.credentials(), options=options)
        return aio.insecure_channel(self.address, options=options)


class _AsyncStream(Generic[Response]):
    """A streaming call of grpc.aio. Nothing is read ahead of the caller."""

    __slots__ = ("_call", "_transport")

    def __init__(self, transport: AsyncTransport, call: aio.UnaryStreamCall[Any, Response]) -> None:
        self._transport = transport
        self._call = call

    async def read(self) -> Response | None:
        self._transport.affinity.check()
        try:
            message = await self._call.read()
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._transport.address) from error
        except asyncio.CancelledError:
            self._transport.check_open()
            raise
        return None if message is aio.EOF else cast("Response", message)

    async def finish(self) -> None:
        self._transport.affinity.check()
        try:
            await asyncio.wait_for(self._call.code(), FINISH_WITHIN)
        except TimeoutError:
            pass
        finally:
            self._call.cancel()

    def cancel(self) -> None:
        if self._transport.affinity.matches():  # only the loop's own thread may cancel its call
            self._call.cancel()
