"""The gRPC server: services, options, address, start and stop."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc

from stepwave_server.rpc.handlers import MAX_ANSWER_BYTES, SERVICE, Bounds, CallListener, orchestrator_handler
from stepwave_server.rpc.health import HEALTH, Health
from stepwave_server.rpc.reflection import reflection_handlers
from stepwave_server.rpc.servicer import Orchestrator

__all__ = ["GrpcServer", "ListenError", "check_metrics_address"]

ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):(\d+)")
MAX_PORT = 65535
LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:", "unix:")
HARD_LIMIT_FACTOR = 2
"""Factor over the bound on messages at which gRPC itself rejects one. Below it, the error has an `ErrorInfo`."""

logger = logging.getLogger(__name__)

_GRPC_LOG = "grpc._cython.cygrpc"

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"

_serving: ContextVar[bool] = ContextVar("stepwave_serving", default=False)


class ListenError(Exception):
    """Raised when the server cannot listen at its address."""


class GrpcServer:
    """Serves the orchestrator, health checks and reflection at one address, in plain text.

    Args:
        orchestrator: The service.
        listen: `HOST:PORT` or `unix:PATH`; port 0 picks a free port.
        bounds: Bounds on open calls and the size of messages.
        insecure: Whether to allow addresses other than loopback.
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
        insecure: bool,
        on_call: CallListener | None = None,
    ) -> None:
        if not _is_address(listen):
            raise ListenError(
                f"{listen!r} is not an address: expected HOST:PORT, such as 127.0.0.1:50051, or unix:PATH"
            )
        if not insecure and not listen.startswith(LOOPBACK):
            raise ListenError(f"{listen} is not loopback: plain text is served there only with --insecure")
        self.bounds = bounds
        self._listen = listen
        self._server = grpc.aio.server(
            interceptors=(_ServingMarker(),), options=_options(bounds.message_bytes * HARD_LIMIT_FACTOR)
        )
        self._health = Health("", SERVICE)
        handlers = (orchestrator_handler(orchestrator, bounds, on_call), self._health.handler())
        self._server.add_generic_rpc_handlers((*handlers, *reflection_handlers((SERVICE, HEALTH))))
        logging.getLogger(_GRPC_LOG).addFilter(_disconnect_filter)

    def bind(self) -> str:
        """Bind the address and return it. Calls from now on wait until the server serves.

        Raises:
            ListenError: The address cannot be bound.
        """
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise ListenError(
                f"cannot listen at {self._listen}: is it in use, or not an address of this machine?"
            ) from error
        if self._listen.startswith("unix:"):
            return self._listen
        return f"{self._listen.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Start serving. Calls succeed from now on. A cancellation takes effect once gRPC has started."""
        starting = asyncio.create_task(self._server.start())
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting  # gRPC cannot stop a server whose start was cancelled
            raise
        await self.set_serving(serving=True)

    async def set_serving(self, *, serving: bool) -> None:
        """Set the health that checks report."""
        self._health.set_serving(serving=serving)

    async def stop(self, grace: float) -> None:
        """Accept no more calls, and give open calls `grace` seconds to end."""
        self._health.close()
        await self._server.stop(grace)


def check_metrics_address(listen: str, *, insecure: bool) -> None:
    """Check the address of the metrics. Anyone who reaches it can read them.

    Args:
        listen: `HOST:PORT`; empty: there is none.
        insecure: Whether to allow addresses other than loopback.

    Raises:
        ListenError: It is malformed, or not loopback while `insecure` is false.
    """
    if listen and (listen.startswith("unix:") or not _is_address(listen)):
        raise ListenError(f"{listen!r} is not an address for metrics: expected HOST:PORT, such as 127.0.0.1:9464")
    if listen and not insecure and not listen.startswith(LOOPBACK):
        raise ListenError(f"{listen} is not loopback: metrics are served there only with --insecure")


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


def _is_address(listen: str) -> bool:
    if listen.startswith("unix:"):
        return listen != "unix:"
    found = ADDRESS.fullmatch(listen)
    return found is not None and int(found[1]) <= MAX_PORT  # gRPC takes a larger port modulo 65536


def _options(most_received: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", most_received),
        ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
        ("grpc.so_reuseport", 0),  # two servers must not share a port unnoticed
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
