"""`RunnableService`: runs attempts of the actions of this process for servers elsewhere."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

import grpc
from grpc.aio import ServicerContext

from stepwave.v1 import runnable_pb2
from stepwave_server.actions import Action
from stepwave_server.core.info import DEFAULT_NAMESPACE, RunKey
from stepwave_server.core.model import SECOND, Failure
from stepwave_server.core.validate import did_you_mean
from stepwave_server.engine.attempts.hosted import AttemptHost, HostedAttempt, HostedStep
from stepwave_server.engine.errors import EngineError
from stepwave_server.rpc.health import HEALTH, Health
from stepwave_server.rpc.listening import bind, check_address, check_protection, start
from stepwave_server.rpc.permissions import Permissions
from stepwave_server.rpc.reflection import reflection_handlers
from stepwave_server.rpc.server import HARD_LIMIT_FACTOR, disconnects_expected, server_options
from stepwave_server.rpc.statuses import CallRefused, InvalidCall, Refusal, status_of
from stepwave_server.rpc.tls import TlsFiles
from stepwave_server.telemetry.parent import PROPAGATOR
from stepwave_server.wire.runnables import (
    Output,
    attempt_problems,
    to_invoke_response,
    to_stream_response,
)
from stepwave_server.wire.values import from_payload, from_time

__all__ = ["RUNNABLE_SERVICE", "RunnableServer"]

RUNNABLE_SERVICE = runnable_pb2.DESCRIPTOR.services_by_name["RunnableService"].full_name

MESSAGE_BYTES = 64 << 10
"""Bytes of a message beside its payload."""

Context: TypeAlias = ServicerContext[Any, Any]
Handle: TypeAlias = Callable[[Any, Context], Awaitable[Any]]


class RunnableServer:
    """Serves `RunnableService`, health checks and reflection at one address.

    Args:
        host: Runs the attempts.
        listen: `HOST:PORT` or `unix:PATH`; port 0 picks a free port.
        tls: The files for TLS; `None`: plain text.
        insecure: Whether plain text is allowed at addresses other than loopback.

    Raises:
        ListenError: The address is malformed, or not loopback while `insecure` is false.
    """

    def __init__(self, host: AttemptHost, listen: str, *, tls: TlsFiles | None = None, insecure: bool = False) -> None:
        check_address(listen)
        check_protection(listen, encrypted=tls is not None, insecure=insecure)
        self.health = Health("", RUNNABLE_SERVICE)
        self._listen = listen
        self._tls = tls
        most = (host.max_payload_bytes + MESSAGE_BYTES) * HARD_LIMIT_FACTOR
        self._server = grpc.aio.server(interceptors=(disconnects_expected(),), options=server_options(most))
        handlers = (_handler(_Servicer(host)), self.health.handler())
        self._server.add_generic_rpc_handlers(
            (*handlers, *reflection_handlers((RUNNABLE_SERVICE, HEALTH), Permissions()))
        )

    async def start(self) -> str:
        """Bind the address, start serving, and return the address. Attempts are taken from now on.

        Raises:
            ListenError: The address cannot be bound.
            TlsError: The files for TLS cannot be used.
        """
        address = bind(self._server, self._listen, None if self._tls is None else self._tls.credentials())
        await start(self._server)
        self.health.set_serving(serving=True)
        return address

    async def stop(self, grace: float) -> None:
        """Accept no more calls, and give open calls `grace` seconds to end."""
        self.health.close()
        await self._server.stop(grace)


class _Servicer:
    """Runs an attempt for each call.

    Args:
        host: Runs the attempts.
    """

    def __init__(self, host: AttemptHost) -> None:
        self._host = host
        self._actions = {action.name: action for action in host.actions}

    async def invoke(self, request: runnable_pb2.InvokeRequest, context: Context) -> runnable_pb2.InvokeResponse:
        """Run an attempt, and return what it came to."""
        attempt = await self._begin(request.attempt, context)
        try:
            return to_invoke_response(await attempt.answer())
        finally:
            attempt.interrupt()

    async def stream(self, request: runnable_pb2.StreamRequest, context: Context) -> None:
        """Run an attempt, and write its chunks and progress, then what it came to."""
        attempt = await self._begin(request.attempt, context)
        try:
            while shown := await attempt.next_shown():
                for item in shown:
                    await context.write(to_stream_response(item))
            outcome = await attempt.answer()
            await context.write(to_stream_response(outcome if isinstance(outcome, Failure) else Output(outcome)))
        finally:
            attempt.interrupt()

    async def _begin(self, message: runnable_pb2.Attempt, context: Context) -> HostedAttempt:
        """Start an attempt.

        Raises:
            AbortError: The attempt cannot be accepted.
        """
        try:
            if problems := attempt_problems(message, self._host.max_payload_bytes):
                raise InvalidCall(problems)
            action = self._actions.get(message.action) or await self._abort_unknown(message.action, context)
            return self._host.begin(action, _step(message, context))
        except (CallRefused, EngineError) as error:
            await context.abort_with_status(status_of(cast("Refusal", error)))

    async def _abort_unknown(self, name: str, context: Context) -> Action:
        known = self._actions.keys()
        listed = ", ".join(sorted(known)[:10])
        hint = did_you_mean(name, known) or f"; this host has {listed}"
        await context.abort(grpc.StatusCode.NOT_FOUND, f'unknown action "{name[:200]}"{hint}')


def _step(message: runnable_pb2.Attempt, context: Context) -> HostedStep:
    return HostedStep(
        key=RunKey(message.namespace or DEFAULT_NAMESPACE, message.run_id),
        step_id=message.step_id,
        attempt=message.attempt,
        input=from_payload(message.input),
        timeout=_timeout(message, context),
        ends_with_call=context.time_remaining() is not None,
        fallback=message.idempotency_key.endswith("/fallback"),
        headers=_headers(context),
    )


def _timeout(message: runnable_pb2.Attempt, context: Context) -> float | None:
    """Return the timeout of an attempt in seconds; `None`: none.

    The deadline of the call is preferred: it is a duration on the wire, so the clocks of both sides may differ.
    """
    remaining = context.time_remaining()
    if remaining is not None:
        return remaining
    if not message.HasField("deadline"):
        return None
    return (from_time(message.deadline) - time.time_ns()) / SECOND


def _headers(context: Context) -> dict[str, str]:
    """Return the caller's trace context, as headers."""
    metadata = dict(context.invocation_metadata() or ())
    return {key: value for key in PROPAGATOR.fields if isinstance(value := metadata.get(key), str)}


def _handler(servicer: _Servicer) -> grpc.GenericRpcHandler:
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Invoke": grpc.unary_unary_rpc_method_handler(
            servicer.invoke,
            runnable_pb2.InvokeRequest.FromString,
            runnable_pb2.InvokeResponse.SerializeToString,
        ),
        "Stream": grpc.unary_stream_rpc_method_handler(
            servicer.stream,
            runnable_pb2.StreamRequest.FromString,
            runnable_pb2.StreamResponse.SerializeToString,
        ),
    }
    return grpc.method_handlers_generic_handler(RUNNABLE_SERVICE, methods)
