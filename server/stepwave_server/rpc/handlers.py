"""How methods meet gRPC: requests read, errors to statuses, bounds of open calls and streams, and ready bytes sent."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc.aio import ServicerContext

from stepwave.v1 import orchestrator_pb2
from stepwave_server.core.validate import Violation
from stepwave_server.engine.errors import EngineError
from stepwave_server.journal import JournalError
from stepwave_server.rpc.servicer import Orchestrator
from stepwave_server.rpc.statuses import (
    CallRefused,
    InvalidCall,
    MessageTooLarge,
    NotServed,
    Refusal,
    TooManyCalls,
    status_of,
)
from stepwave_server.wire.workflows.unknown import unknown_fields

__all__ = ["MOST_ANSWER_BYTES", "SERVICE", "Bounds", "orchestrator_handler"]

logger = logging.getLogger(__name__)

_DESCRIPTOR = orchestrator_pb2.DESCRIPTOR.services_by_name["OrchestratorService"]
SERVICE = _DESCRIPTOR.full_name

Context: TypeAlias = ServicerContext[bytes, bytes]
Unary = Callable[[Message, Context], Awaitable[Message]]
Streaming = Callable[[Message, Context], AsyncGenerator[bytes, None]]

MOST_ANSWER_BYTES = 6 << 20
"""Twice as many bytes as a message of the contract has at most: gRPC sends none that is larger."""

LOOKED_INTO = frozenset({"workflow"})
"""Fields whose unknown ones are named where they are parsed, together with all else that is wrong there."""


@dataclass(slots=True)
class Bounds:
    """How many calls and streams may be open at once, and how many bytes a message may have.

    Long streams don't use up the places of short calls.
    """

    calls: int
    streams: int
    message_bytes: int
    open_calls: int = 0
    open_streams: int = 0

    def check(self, request: bytes) -> None:
        """Refuse a message that is too large.

        Raises:
            MessageTooLarge: It is.
        """
        size = len(request)
        if size > self.message_bytes:
            raise MessageTooLarge(f"a message of {size:,} bytes is larger than the {self.message_bytes:,} allowed")

    @contextmanager
    def call(self) -> Iterator[None]:
        """Take the place of a call while inside.

        Raises:
            TooManyCalls: There is none.
        """
        if self.open_calls >= self.calls:
            raise TooManyCalls(f"{self.calls:,} calls are open, as many as this server allows")
        self.open_calls += 1
        try:
            yield
        finally:
            self.open_calls -= 1

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Take the place of a stream while inside.

        Raises:
            TooManyCalls: There is none.
        """
        if self.open_streams >= self.streams:
            raise TooManyCalls(f"{self.streams:,} streams are open, as many as this server allows")
        self.open_streams += 1
        try:
            yield
        finally:
            self.open_streams -= 1


def orchestrator_handler(orchestrator: Orchestrator, bounds: Bounds) -> grpc.GenericRpcHandler:
    """Return what serves `OrchestratorService`."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for method in _DESCRIPTOR.methods:
        function = getattr(orchestrator, method.name)
        kind = GetMessageClass(method.input_type)
        if method.server_streaming:
            handlers[method.name] = grpc.unary_stream_rpc_method_handler(_streaming(function, kind, bounds))
        else:
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(_unary(function, kind, bounds))
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _read(data: bytes, kind: type[Message], bounds: Bounds) -> Message:
    """Read a request. gRPC itself would refuse bytes that it cannot read without a reason that callers know.

    Raises:
        InvalidCall, MessageTooLarge, NotServed: It is none, is too large, or says what this server does not understand.
    """
    bounds.check(data)
    try:
        request = kind.FromString(data)
    except DecodeError:
        problem = Violation("request", f"these bytes are no {kind.DESCRIPTOR.full_name}")
        raise InvalidCall([problem]) from None
    if unknown := unknown_fields(request, "request", skip=LOOKED_INTO):
        raise NotServed(unknown)
    return request


def _defect() -> CallRefused:
    """Note an error that nobody foresaw; the caller learns no more than that there was one."""
    logger.exception("a defect of the server ended a call")
    return CallRefused("the server met a defect of its own; its log says more")


def _unreadable(error: JournalError) -> JournalError:
    """Note that a journal cannot be read; the caller learns it, too."""
    logger.error("%s", error)
    return error


def _sendable(answer: bytes) -> bytes:
    """Return an answer that gRPC can send. One that is too large would end its call as if the caller had gone.

    Raises:
        ValueError: It is too large.
    """
    if len(answer) > MOST_ANSWER_BYTES:
        raise ValueError(
            f"an answer of {len(answer):,} bytes is larger than the {MOST_ANSWER_BYTES:,} that can be sent"
        )
    return answer


def _unary(method: Unary, kind: type[Message], bounds: Bounds) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def serve(data: bytes, context: Context) -> bytes:
        try:
            request = _read(data, kind, bounds)
            with bounds.call():
                return _sendable((await method(request, context)).SerializeToString())
        except (CallRefused, EngineError) as error:
            refusal: Refusal = error
        except JournalError as error:
            refusal = _unreadable(error)
        except Exception:
            refusal = _defect()
        await context.abort_with_status(status_of(refusal))
        raise AssertionError("gRPC did not abort")

    return serve


def _streaming(method: Streaming, kind: type[Message], bounds: Bounds) -> Callable[[bytes, Context], Awaitable[None]]:
    """Write what a method yields. Unlike a handler that yields, this one hears at once that its caller has gone."""

    async def serve(data: bytes, context: Context) -> None:
        try:
            request = _read(data, kind, bounds)
            with bounds.stream():
                async with aclosing(method(request, context)) as batches:
                    async for batch in batches:
                        await context.write(_sendable(batch))
                return
        except (CallRefused, EngineError) as error:
            refusal: Refusal = error
        except JournalError as error:
            refusal = _unreadable(error)
        except grpc.aio.BaseError:  # the caller went away, or the server stopped, while a write was under way
            raise
        except Exception:
            refusal = _defect()
        await context.abort_with_status(status_of(refusal))

    return serve
