"""Calls of `RunnableService` at one address. Whatever the service does, a call ends with an answer or a failure."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

from stepwave.v1 import runnable_pb2
from stepwave_server.actions.runnables.entry import Runnable
from stepwave_server.actions.runnables.errors import failed_call, malformed, not_connected, too_late
from stepwave_server.core.model import Failure
from stepwave_server.telemetry.parent import current_headers
from stepwave_server.wire.events.encode import LogEntry
from stepwave_server.wire.runnables import (
    AnswerMalformed,
    Message,
    Output,
    ShownProgress,
    from_invoke_response,
    from_stream_response,
)

__all__ = ["Connection", "check_files"]

SERVICE = runnable_pb2.DESCRIPTOR.services_by_name["RunnableService"].full_name

CONNECT_SECONDS = 10.0
"""How long a connection is waited for, before the attempt fails."""

END_SECONDS = 5.0
"""How long a stream may stay open after its answer. Then the answer counts."""

MESSAGE_BYTES = 64 << 10
"""Bytes of a message beside its payload."""

T = TypeVar("T")
StreamCall: TypeAlias = "grpc.aio.UnaryStreamCall[Any, Any]"


class Connection:
    """The connection to a service. It is made with the first call, and made again when it is lost.

    Args:
        runnable: Where the service is.
        max_bytes: Maximum size of a payload in bytes.
    """

    def __init__(self, runnable: Runnable, max_bytes: int) -> None:
        self.runnable = runnable
        self.max_bytes = max_bytes
        self._channel: grpc.aio.Channel | None = None

    async def close(self) -> None:
        """Close the connection. Calls under way fail."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def invoke(self, attempt: runnable_pb2.Attempt) -> Output | Failure:
        """Run an attempt there, and return its answer or its failure.

        Raises:
            ActionFailed: There is neither.
        """
        method: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = self._open().unary_unary(
            f"/{SERVICE}/Invoke", request_serializer=runnable_pb2.InvokeRequest.SerializeToString
        )
        connected = await self._connect()
        call = method(runnable_pb2.InvokeRequest(attempt=attempt), timeout=self._timeout(attempt), metadata=_metadata())
        try:
            data = await call
        except grpc.aio.AioRpcError as error:
            raise failed_call(self.runnable, error, connected=connected, begun=False) from error
        finally:
            call.cancel()
        return self._read(from_invoke_response, runnable_pb2.InvokeResponse, data)

    async def stream(self, attempt: runnable_pb2.Attempt) -> AsyncGenerator[Message]:
        """Run an attempt there. Yield its chunks, progress and logs, then its answer or its failure, if there is one.

        Raises:
            ActionFailed: The call failed, or the messages are not those of the contract.
        """
        method: grpc.aio.UnaryStreamMultiCallable[Any, Any] = self._open().unary_stream(
            f"/{SERVICE}/Stream", request_serializer=runnable_pb2.StreamRequest.SerializeToString
        )
        connected = await self._connect()
        call = method(runnable_pb2.StreamRequest(attempt=attempt), timeout=self._timeout(attempt), metadata=_metadata())
        begun = has_chunks = False
        try:
            while (message := await self._next(call)) is not None:
                begun = True
                if isinstance(message, (Output, Failure)):
                    await self._check_end(call)
                    yield message
                    return
                has_chunks = has_chunks or not isinstance(message, (ShownProgress, LogEntry))
                yield message
        except grpc.aio.AioRpcError as error:
            raise failed_call(self.runnable, error, connected=connected, begun=begun) from error
        finally:
            call.cancel()
        if not has_chunks:
            raise malformed(self.runnable, "it ended without an answer")

    async def _next(self, call: StreamCall) -> Message | None:
        """Return the next message of a stream; `None`: it has ended."""
        data = await call.read()
        if not isinstance(data, bytes):
            return None
        return self._read(from_stream_response, runnable_pb2.StreamResponse, data)

    async def _check_end(self, call: StreamCall) -> None:
        """Check that nothing follows an answer. A broken connection takes nothing from it any more.

        Raises:
            ActionFailed: Another message follows.
        """
        try:
            async with asyncio.timeout(END_SECONDS):
                more = await self._next(call)
        except (TimeoutError, grpc.aio.AioRpcError):
            return
        if more is not None:
            twice = isinstance(more, (Output, Failure))
            raise malformed(self.runnable, "it answered twice" if twice else "it went on after its answer")

    def _read(self, read: Callable[[Any], T], kind: Any, data: bytes) -> T:
        """Return what a message says.

        Raises:
            ActionFailed: It is not one of the contract.
        """
        try:
            return read(kind.FromString(data))
        except DecodeError:
            raise malformed(self.runnable, "it sent a message of another contract") from None
        except AnswerMalformed as error:
            raise malformed(self.runnable, str(error)) from None

    def _timeout(self, attempt: runnable_pb2.Attempt) -> float | None:
        """Return how many seconds an attempt has left; `None`: it has no timeout.

        Raises:
            ActionFailed: It has none left.
        """
        if not attempt.HasField("deadline"):
            return None
        left = attempt.deadline.seconds + attempt.deadline.nanos / 1e9 - time.time()
        if left <= 0:
            raise too_late(self.runnable)
        return left

    async def _connect(self) -> bool:
        """Wait for a connection to a healthy host. Return false if none can be made now: a call tells why.

        Raises:
            ActionFailed: There is neither within `CONNECT_SECONDS`.
        """
        channel, known = self._open(), (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                while (state := channel.get_state(try_to_connect=True)) not in known:
                    await channel.wait_for_state_change(state)
        except TimeoutError:
            raise not_connected(self.runnable, f"no answer within {CONNECT_SECONDS:g} s") from None
        except grpc.aio.UsageError:  # the channel is closed
            raise not_connected(self.runnable, "this server is stopping") from None
        return state is grpc.ChannelConnectivity.READY

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = self._new_channel()
        return self._channel

    def _new_channel(self) -> grpc.aio.Channel:
        runnable, options = self.runnable, _options(self.runnable, self.max_bytes)
        target = runnable.address if runnable.address.startswith("unix:") else f"dns:///{runnable.address}"
        if not runnable.tls:
            return grpc.aio.insecure_channel(target, options)
        try:
            return grpc.aio.secure_channel(target, _credentials(runnable), options)
        except OSError as error:
            raise not_connected(runnable, f"{error.filename} cannot be read: {error.strerror}") from None


def _credentials(runnable: Runnable) -> grpc.ChannelCredentials:
    """Return the credentials of a channel.

    Raises:
        OSError: A file cannot be read.
    """
    return grpc.ssl_channel_credentials(*(_bytes(path) for path in (runnable.ca, runnable.key, runnable.cert)))


def check_files(runnable: Runnable) -> str:
    """Return why the files for TLS cannot be read; empty: they can."""
    try:
        _credentials(runnable)
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    return ""


def _bytes(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _metadata() -> tuple[tuple[str, str], ...]:
    """Return the current trace context, as metadata."""
    return tuple(current_headers().items())


def _options(runnable: Runnable, max_bytes: int) -> list[tuple[str, Any]]:
    service_config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": runnable.health},
    }
    named = [("grpc.ssl_target_name_override", runnable.server_name)] if runnable.server_name else []
    return [
        ("grpc.service_config", json.dumps(service_config)),
        ("grpc.max_receive_message_length", max_bytes + MESSAGE_BYTES),
        ("grpc.max_send_message_length", -1),  # inputs are bounded already
        # Any server of gRPC accepts a ping every five minutes. More would need a setting there.
        ("grpc.keepalive_time_ms", 300_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # To find a restarted host soon; gRPC's default pauses grow from one second to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        *named,
    ]
