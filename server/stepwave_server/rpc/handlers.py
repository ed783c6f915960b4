"""The gRPC handlers: they parse requests, send encoded bytes, turn errors into statuses, and bound open calls."""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc.aio import ServicerContext

from stepwave.v1 import orchestrator_pb2
from stepwave_server.access.roles import Caller
from stepwave_server.core.validate import Violation
from stepwave_server.engine.errors import EngineError
from stepwave_server.journal import JournalError
from stepwave_server.rpc.permissions import Permissions
from stepwave_server.rpc.servicer import Orchestrator
from stepwave_server.rpc.statuses import (
    CallRefused,
    InvalidCall,
    MessageTooLarge,
    NotServed,
    Refusal,
    TooManyCalls,
    reason_name,
    status_of,
)
from stepwave_server.wire.workflows.unknown import unknown_fields

__all__ = ["MAX_ANSWER_BYTES", "SERVICE", "Bounds", "CallListener", "orchestrator_handler"]

logger = logging.getLogger(__name__)

_DESCRIPTOR = orchestrator_pb2.DESCRIPTOR.services_by_name["OrchestratorService"]
SERVICE = _DESCRIPTOR.full_name

Context: TypeAlias = ServicerContext[bytes, bytes]
UnaryMethod = Callable[[Message, Context], Awaitable[Message]]
StreamingMethod = Callable[[Message, Context], AsyncGenerator[bytes, None]]
Refuse: TypeAlias = Callable[[Refusal], grpc.Status]

CallListener: TypeAlias = Callable[[str, str, str, float | None], None]
"""Called with the method, code, reason of the refusal and duration of a call that has ended; no duration: a stream."""

MAX_ANSWER_BYTES = 6 << 20
"""Largest message that gRPC may send, in bytes: twice the largest message of the contract."""

CHANGING = frozenset(
    f"{name}Request"
    for name in ("ExecuteWorkflow", "StartRun", "AddSteps", "CompleteStep", "CancelRun", "DeleteRun", "PlanWorkflow")
)
"""The requests that decide what runs, or what is deleted."""

CHECKED_LATER = frozenset({"workflow"})
"""Fields whose unknown fields are reported by their own parser, together with their other problems."""


@dataclass(slots=True)
class Bounds:
    """Bounds on open calls, open streams and the size of a message.

    Streams are counted apart, so that long streams leave room for short calls.

    Attributes:
        calls: Calls that may be open at once, without streams.
        streams: Streams that may be open at once.
        message_bytes: Largest message from a caller, in bytes.
        open_calls: Calls that are open now.
        open_streams: Streams that are open now.
    """

    calls: int
    streams: int
    message_bytes: int
    open_calls: int = 0
    open_streams: int = 0

    def check(self, request: bytes) -> None:
        """Refuse a message that is too large.

        Raises:
            MessageTooLarge: The message is too large.
        """
        size = len(request)
        if size > self.message_bytes:
            raise MessageTooLarge(size, self.message_bytes)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call as open while inside.

        Raises:
            TooManyCalls: As many calls are open as may be.
        """
        if self.open_calls >= self.calls:
            raise TooManyCalls(self.calls, "calls")
        self.open_calls += 1
        try:
            yield
        finally:
            self.open_calls -= 1

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count a stream as open while inside.

        Raises:
            TooManyCalls: As many streams are open as may be.
        """
        if self.open_streams >= self.streams:
            raise TooManyCalls(self.streams, "streams")
        self.open_streams += 1
        try:
            yield
        finally:
            self.open_streams -= 1


class _Call:
    """One call, for a listener of calls: it is told when the call has ended.

    Args:
        method: The method.
        listener: The listener; `None`: nobody listens.
        status: Returns the status of a refused call.
        timed: Whether the duration is told.
    """

    __slots__ = ("_begin", "_code", "_listener", "_method", "_reason", "_status")

    def __init__(self, method: str, listener: CallListener | None, status: Refuse, *, timed: bool) -> None:
        self._method = method
        self._listener = listener
        self._status = status
        self._begin = time.perf_counter() if timed else None
        self._code, self._reason = grpc.StatusCode.CANCELLED.name, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tell()

    def _tell(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            seconds = None if self._begin is None else time.perf_counter() - self._begin
            listener(self._method, self._code, self._reason, seconds)

    def succeed(self) -> None:
        """Note that the call has succeeded."""
        self._code = grpc.StatusCode.OK.name

    def refuse(self, refusal: Refusal) -> grpc.Status:
        """Note that the call is refused, and return its status."""
        status = self._status(refusal)
        self._code, self._reason = status.code.name, reason_name(refusal)
        self._tell()  # before the caller knows, who may ask for the numbers then
        return status


def orchestrator_handler(
    orchestrator: Orchestrator, bounds: Bounds, permissions: Permissions, listener: CallListener | None = None
) -> grpc.GenericRpcHandler:
    """Return the handler of `OrchestratorService`.

    Args:
        orchestrator: The service.
        bounds: Bounds on open calls and the size of messages.
        permissions: Decides who may call.
        listener: Called with every call that has ended.
    """
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    refuse = partial(status_of, engine=orchestrator.engine_name)
    for method in _DESCRIPTOR.methods:
        function = getattr(orchestrator, method.name)
        admission = _Admission(method.name, GetMessageClass(method.input_type), bounds, permissions)
        if method.server_streaming:
            begin = partial(_Call, method.name, listener, refuse, timed=False)
            handlers[method.name] = grpc.unary_stream_rpc_method_handler(_streaming(function, admission, begin))
        else:
            begin = partial(_Call, method.name, listener, refuse, timed=True)
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(_unary(function, admission, begin))
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


@dataclass(frozen=True, slots=True)
class _Admission:
    """The checks of a call before its method runs.

    Attributes:
        method: The name of the method.
        message_type: The type of its request.
        bounds: The bounds on open calls and messages.
        permissions: Decides who may call.
    """

    method: str
    message_type: type[Message]
    bounds: Bounds
    permissions: Permissions

    @asynccontextmanager
    async def request(self, data: bytes, context: Context) -> AsyncGenerator[Message, None]:
        """Yield the request of a caller who may make the call, and record how the call ends.

        Raises:
            Unauthenticated, PermissionDenied, RunNotFound: The caller may not.
            InvalidCall, MessageTooLarge, NotServed: See `_parse`.
        """
        caller: Caller | None = None
        request: Message | None = None
        outcome = "CANCELLED"
        try:
            caller = await self.permissions.authenticate(context)
            request = _parse(data, self.message_type, self.bounds)
            self.permissions.check(caller, self.method, request, context)
            yield request
            outcome = "OK"
        except (CallRefused, EngineError, JournalError) as error:
            outcome = reason_name(error)
            raise
        except grpc.aio.BaseError:  # the caller disconnected or the server stopped during a write
            raise
        except Exception:
            outcome = "INTERNAL"
            raise
        finally:
            self.permissions.record(self.method, caller, request, context, outcome)


def _parse(data: bytes, message_type: type[Message], bounds: Bounds) -> Message:
    """Parse a request. It is done here because gRPC would reject malformed bytes without an `ErrorInfo`.

    Raises:
        InvalidCall: The bytes are not such a message.
        MessageTooLarge: The request is too large.
        NotServed: The request has fields that this server does not know, and without them the call might do something
            else than its caller wants. Reads ignore them, so that newer clients are served.
    """
    bounds.check(data)
    try:
        request = message_type.FromString(data)
    except DecodeError:
        problem = Violation("request", f"these bytes are not a {message_type.DESCRIPTOR.full_name}")
        raise InvalidCall([problem]) from None
    changes = message_type.DESCRIPTOR.name in CHANGING
    if changes and (unknown := unknown_fields(request, "request", skip=CHECKED_LATER)):
        raise NotServed(unknown)
    return request


def _log_defect() -> CallRefused:
    """Log an unexpected error. The caller gets no details of it."""
    logger.exception("a defect of the server ended a call")
    return CallRefused("the server met a defect of its own; its log says more")


def _log_unreadable(error: JournalError) -> JournalError:
    """Log that the journal cannot be read, and return the error for the caller."""
    logger.error("%s", error)
    return error


def _sendable(response: bytes) -> bytes:
    """Return a response if gRPC can send it. gRPC reports one that is too large as a disconnected caller.

    Raises:
        ValueError: The response is too large.
    """
    if len(response) > MAX_ANSWER_BYTES:
        raise ValueError(
            f"a response of {len(response):,} bytes is larger than the {MAX_ANSWER_BYTES:,} that can be sent"
        )
    return response


def _unary(
    method: UnaryMethod, admission: _Admission, begin: Callable[[], _Call]
) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def serve(data: bytes, context: Context) -> bytes:
        with begin() as call:
            try:
                async with admission.request(data, context) as request:
                    with admission.bounds.call():
                        response = _sendable((await method(request, context)).SerializeToString())
            except (CallRefused, EngineError) as error:
                refusal: Refusal = error
            except JournalError as error:
                refusal = _log_unreadable(error)
            except Exception:
                refusal = _log_defect()
            else:
                call.succeed()
                return response
            await context.abort_with_status(call.refuse(refusal))
            raise AssertionError("gRPC did not abort")

    return serve


def _streaming(
    method: StreamingMethod, admission: _Admission, begin: Callable[[], _Call]
) -> Callable[[bytes, Context], Awaitable[None]]:
    """Return a handler that writes what a method yields.

    It calls `context.write` rather than yields, because only then is it cancelled as soon as the caller disconnects.
    """

    async def serve(data: bytes, context: Context) -> None:
        with begin() as call:
            try:
                async with admission.request(data, context) as request:
                    permitted = admission.permissions.until_refused(admission.method, request, context)
                    with admission.bounds.stream():
                        async with permitted, aclosing(method(request, context)) as batches:
                            async for batch in batches:
                                await context.write(_sendable(batch))
            except (CallRefused, EngineError) as error:
                refusal: Refusal = error
            except JournalError as error:
                refusal = _log_unreadable(error)
            except grpc.aio.BaseError:  # the caller disconnected or the server stopped during a write
                raise
            except Exception:
                refusal = _log_defect()
            else:
                call.succeed()
                return
            await context.abort_with_status(call.refuse(refusal))

    return serve
