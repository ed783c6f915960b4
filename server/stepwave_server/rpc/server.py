"""The gRPC server: services, options, start and stop."""

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc

from stepwave_server.rpc.handlers import MAX_ANSWER_BYTES, SERVICE, Bounds, CallListener, orchestrator_handler
from stepwave_server.rpc.health import HEALTH, Health, served
from stepwave_server.rpc.listening import bind, check_address, check_protection, start
from stepwave_server.rpc.permissions import Permissions
from stepwave_server.rpc.reflection import reflection_handlers
from stepwave_server.rpc.servicer import Orchestrator
from stepwave_server.rpc.tls import TlsFiles

__all__ = ["HARD_LIMIT_FACTOR", "GrpcServer", "disconnects_expected", "server_options"]

HARD_LIMIT_FACTOR = 2
"""Factor over the bound on messages at which gRPC itself rejects one. Below it, the error has an `ErrorInfo`."""

HANDSHAKE_SECONDS = 20.0
"""Seconds within which a new connection must speak HTTP/2. The default of gRPC is two minutes."""

NEVER = 2**31 - 1
"""Milliseconds that never pass: gRPC then sets no timer.

Timers that are far off are expensive. Once a second, gRPC walks through all of them, and with one for each of 10,000
connections this takes up to a quarter of a second, for which calls wait.
"""

logger = logging.getLogger(__name__)

_GRPC_LOG = "grpc._cython.cygrpc"

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"

_serving: ContextVar[bool] = ContextVar("stepwave_serving", default=False)


class GrpcServer:
    """Serves the orchestrator, health checks and reflection at one address.

    Args:
        orchestrator: The service.
        listen: `HOST:PORT` or `unix:PATH`; port 0 picks a free port.
        bounds: Bounds on open calls and the size of messages.
        permissions: Decides who may call. Health checks are open to all.
        tls: The files for TLS; `None`: plain text.
        insecure: Whether plain text is allowed at addresses other than loopback.
        max_connection_streams: Calls and streams that may be open at once on one connection.
        max_connection_age: Seconds for which a connection takes new calls, and then as long again for its streams to
            end; 0: no limit.
        health: Where health checks are answered, too, in plain text: another address; empty: nowhere else.
        on_call: Called with every call that has ended; `None`: nobody listens.

    Attributes:
        bounds: The bounds, with the numbers of open calls and streams.

    Raises:
        ListenError: The address is malformed, or not loopback while `insecure` is false.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        listen: str,
        bounds: Bounds,
        *,
        permissions: Permissions,
        tls: TlsFiles | None = None,
        insecure: bool = False,
        max_connection_streams: int = 1_000,
        max_connection_age: float = 0.0,
        health: str = "",
        on_call: CallListener | None = None,
    ) -> None:
        check_address(listen)
        check_protection(listen, encrypted=tls is not None, insecure=insecure)
        self.bounds = bounds
        self._listen = listen
        self._tls = tls
        self._server = grpc.aio.server(
            interceptors=(disconnects_expected(),),
            options=[
                *server_options(bounds.message_bytes * HARD_LIMIT_FACTOR),
                *_connection_options(max_connection_streams),
                *_age_options(max_connection_age),
            ],
        )
        self._health = Health("", SERVICE)
        self._health_address = health
        self._health_server = AsyncExitStack()
        handlers = (orchestrator_handler(orchestrator, bounds, permissions, on_call), self._health.handler())
        self._server.add_generic_rpc_handlers((*handlers, *reflection_handlers((SERVICE, HEALTH), permissions)))

    def bind(self) -> str:
        """Bind the address and return it. Calls from now on wait until the server serves.

        Raises:
            ListenError: The address cannot be bound.
            TlsError: The files for TLS cannot be used.
        """
        return bind(self._server, self._listen, None if self._tls is None else self._tls.credentials())

    async def start(self) -> None:
        """Start serving. Calls succeed from now on. A cancellation takes effect once gRPC has started.

        Raises:
            ListenError: The address for health checks alone is malformed, or cannot be bound.
        """
        await start(self._server)
        await self._health_server.enter_async_context(served(self._health, self._health_address))
        await self.set_serving(serving=True)

    async def set_serving(self, *, serving: bool) -> None:
        """Set the health that checks report."""
        self._health.set_serving(serving=serving)

    async def stop(self, grace: float) -> None:
        """Accept no more calls, and give open calls `grace` seconds to end."""
        self._health.close()
        await self._server.stop(grace)
        await self._health_server.aclose()


class _ServingMarker(grpc.aio.ServerInterceptor):
    """Marks the tasks of this server's calls, since other gRPC servers may share the process."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        _serving.set(True)
        return await continuation(handler_call_details)


class _DisconnectFilter(logging.Filter):
    """Drops the tracebacks that gRPC logs when a caller disconnects, which is not an error.

    gRPC sends a call's last message and its status after the handler has returned. If the caller disconnects then, the
    send fails, mostly before gRPC knows the reason, and gRPC logs an error. No handler can catch it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, grpc.aio.InternalError) or not _serving.get():
            return True
        logger.debug("a caller disconnected before its call had ended")
        return False


_disconnect_filter = _DisconnectFilter()


def disconnects_expected() -> grpc.aio.ServerInterceptor:
    """Return an interceptor for a server. With it, callers that disconnect leave no tracebacks in the log."""
    logging.getLogger(_GRPC_LOG).addFilter(_disconnect_filter)
    return _ServingMarker()


def server_options(most_received: int) -> list[tuple[str, int]]:
    """Return the options of a server that receives messages of at most so many bytes."""
    return [
        ("grpc.max_receive_message_length", most_received),
        ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
        ("grpc.so_reuseport", 0),  # two servers must not share a port unnoticed
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _connection_options(max_streams: int) -> list[tuple[str, int]]:
    """Return the options that bound what one connection takes.

    gRPC counts a stream that its client has reset until the stream is freed. Without a bound, a flood of them fills the
    queue of calls that the server has not begun, and gRPC cancels calls of other connections.
    """
    return [
        ("grpc.max_concurrent_streams", max_streams),
        ("grpc.server_handshake_timeout_ms", math.ceil(HANDSHAKE_SECONDS * 1_000)),
        ("grpc.keepalive_time_ms", NEVER),  # by default, a ping after two hours; streams have heartbeats of their own
    ]


def _age_options(seconds: float) -> list[tuple[str, int]]:
    """Return the options that end old connections. gRPC varies the age by a tenth, so that not all end at once.

    Without a grace, gRPC would let a long stream keep its connection for ever.
    """
    milliseconds = math.ceil(seconds * 1_000)
    if not milliseconds:
        return []
    return [("grpc.max_connection_age_ms", milliseconds), ("grpc.max_connection_age_grace_ms", milliseconds)]
