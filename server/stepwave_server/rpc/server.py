"""The gRPC server: its services, its options, its address, and how it stops."""

import re

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection

from stepwave_server.rpc.handlers import SERVICE, Bounds, orchestrator_handler
from stepwave_server.rpc.servicer import Orchestrator

__all__ = ["GrpcServer", "ListenError"]

ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):(\d+)")
MOST_PORT = 65535
LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:", "unix:")
HARD_LIMIT_FACTOR = 2
"""gRPC itself cuts off messages of so many times the bound; below, the answer says what is wrong."""


class ListenError(Exception):
    """Raised when the server cannot listen at its address."""


class GrpcServer:
    """Serves the orchestrator, health and reflection at one address, in plain text.

    Args:
        orchestrator: The service.
        listen: `HOST:PORT` or `unix:PATH`; port 0 picks one.
        bounds: How many calls may be open, and how large messages may be.
        insecure: Listen beyond loopback.

    Raises:
        ListenError: The address is malformed, or not loopback and `insecure` is not said.
    """

    def __init__(self, orchestrator: Orchestrator, listen: str, bounds: Bounds, *, insecure: bool) -> None:
        if not _is_address(listen):
            raise ListenError(f"{listen!r} is no address: want HOST:PORT, as 127.0.0.1:50051, or unix:PATH")
        if not insecure and not listen.startswith(LOOPBACK):
            raise ListenError(f"{listen} is not loopback: plain text is served there only with --insecure")
        self._listen = listen
        self._server = grpc.aio.server(options=_options(bounds.message_bytes * HARD_LIMIT_FACTOR))
        self._server.add_generic_rpc_handlers((orchestrator_handler(orchestrator, bounds),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def bind(self) -> str:
        """Take the address, and return it; who calls from now on waits until the server serves.

        Raises:
            ListenError: It cannot be had.
        """
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise ListenError(
                f"cannot listen at {self._listen}: is it taken, or no address of this machine?"
            ) from error
        if self._listen.startswith("unix:"):
            return self._listen
        return f"{self._listen.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Begin to serve; calls succeed from now on."""
        await self._server.start()
        await self.set_serving(serving=True)

    async def set_serving(self, *, serving: bool) -> None:
        """Tell health checks whether to send calls here."""
        state = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, state)

    async def stop(self, grace: float) -> None:
        """Take no more calls, and give open ones `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)


def _is_address(listen: str) -> bool:
    if listen.startswith("unix:"):
        return listen != "unix:"
    found = ADDRESS.fullmatch(listen)
    return found is not None and int(found[1]) <= MOST_PORT  # gRPC takes a larger one modulo 65536


def _options(most_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", most_bytes),
        ("grpc.max_send_message_length", most_bytes),
        ("grpc.so_reuseport", 0),  # two servers must not share a port unseen
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
