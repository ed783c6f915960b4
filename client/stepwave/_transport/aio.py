"""The transport of the asynchronous face: grpc.aio on the caller's event loop."""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, cast

import grpc
from grpc import aio

from stepwave.v1 import orchestrator_pb2_grpc

from .base import FINISH_WITHIN, MessageStream, Stream, Unary
from .channel import channel_options
from .rpc_errors import from_rpc_error
from .trace import trace_metadata

__all__ = ["AsyncTransport", "LoopAffinity"]

Request = TypeVar("Request")
Response = TypeVar("Response")
Result = TypeVar("Result")


class LoopAffinity:
    """The event loop that something belongs to from its first use on; on another one, gRPC fails in riddles or hangs.

    Args:
        what: What belongs there, as the subject of a sentence.
    """

    def __init__(self, what: str = "this client") -> None:
        self._what = what
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0

    def bind(self) -> None:
        """Bind to the running loop, if it is not bound.

        Raises:
            RuntimeError: It is bound to another one.
        """
        self.check()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._process = os.getpid()

    def check(self) -> None:
        """Check that this is the loop that it is bound to, if any, and still the same process.

        Raises:
            RuntimeError: It is another one.
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

    def holds(self) -> bool:
        """Return whether the caller may use the client here: `check` passes."""
        try:
            self.check()
        except RuntimeError:
            return False
        return True

    def elsewhere(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop that it is bound to, if that runs on another thread of this process."""
        if self._loop is None or os.getpid() != self._process or not self._loop.is_running():
            return None
        return None if self.holds() else self._loop


class AsyncTransport:
    """Calls by grpc.aio. The channel is made at the first call, on the loop that runs then, and lives on no other one.

    Args:
        address: Where the server is.
        affinity: Binds it to its loop; by default, one of its own.
    """

    def __init__(self, address: str, affinity: LoopAffinity | None = None) -> None:
        self.address = address
        self.affinity = affinity or LoopAffinity()
        self._channel: aio.Channel | None = None
        self._stub: orchestrator_pb2_grpc.OrchestratorServiceAsyncStub | None = None
        self._closed = False

    async def unary(self, method: Unary[Request, Response], request: Request, within: float) -> Response:
        """Make a call, and wait for its answer for `within` seconds at most."""
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
        """Begin a streaming call that may last for `within` seconds; `None`: for ever."""
        return _AsyncStream(self, self._call(method.name, request, within))

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    def now(self) -> float:
        """Return the time in seconds, by a clock that never goes back."""
        return time.monotonic()

    async def shielded(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run something to its end, even if the caller is cancelled meanwhile; that cancellation goes on afterwards."""
        caller, task = asyncio.current_task(), asyncio.ensure_future(work)
        hurried = caller is not None and caller.cancelling() > 0
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            try:
                if not hurried:  # else it is cancelled for the second time, and will not wait any longer
                    await asyncio.wait({task})
            finally:
                task.cancel()
            raise

    async def computed(self, work: Callable[[], Result]) -> Result:
        """Run a function on a thread. One whose caller is cancelled meanwhile runs to its end, and goes unheard."""
        return await asyncio.to_thread(work)

    async def close(self) -> None:
        """Free the connection; calls under way are cut off. Idempotent.

        On another loop than its own this is only told to its own, if that still runs: to wait for it would last for
        ever.
        """
        self._closed = True
        channel, self._channel, self._stub = self._channel, None, None
        if channel is None:
            return
        if self.affinity.holds():
            await channel.close()
        elif loop := self.affinity.elsewhere():
            asyncio.run_coroutine_threadsafe(channel.close(), loop)

    def check_open(self) -> None:
        """Tell the end of a call by `close` from the cancellation of the task that waits for it: both come as one.

        Raises:
            RuntimeError: The client was closed, and the task goes on.
        """
        task = asyncio.current_task()
        if self._closed and not (task and task.cancelling()):
            raise RuntimeError("this client is closed")

    def _call(self, name: str, request: object, within: float | None) -> Any:
        self.check_open()
        self.affinity.bind()
        if self._stub is None:
            self._channel = aio.insecure_channel(self.address, options=channel_options(self.address))
            self._stub = orchestrator_pb2_grpc.OrchestratorServiceStub(self._channel)
        return getattr(self._stub, name)(request, timeout=within, metadata=trace_metadata())


class _AsyncStream(Generic[Response]):
    """A streaming call of grpc.aio; a message is asked for only when the caller wants one."""

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
        if self._transport.affinity.holds():  # a call is its loop's: no other thread may touch it
            self._call.cancel()
