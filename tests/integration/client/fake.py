"""A scripted server: real gRPC, no engine."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc import aio

from stepwave.v1 import event_pb2, run_pb2
from stepwave.v1 import orchestrator_pb2 as pb

__all__ = ["GUARD", "Fake", "batch", "finished", "run_finished", "started"]

GUARD = 10.0
"""Seconds after which a hanging test fails."""

Context: TypeAlias = "aio.ServicerContext[Any, Any]"
Streamer: TypeAlias = Callable[[Any, Context], AsyncIterator[Message]]
Answerer: TypeAlias = Callable[[Any, Context], Any]


class Fake:
    """A scripted server on a port of its own, which can be stopped and started again at the same address.

    Attributes:
        execute, watch, export: The handlers of streams; a test may set them at any time.
        answer: The handler of all other calls: it returns the response or aborts.
        on_cancel: The handler of `CancelRun`; by default, it succeeds.
        requests: Every request, in order.
        metadata: The metadata of every request, beside `requests`.
        opened: Set when a stream has been opened.
        freed: Set when the last open stream has ended.
        cancelled: Set when a run has been cancelled.
    """

    def __init__(self) -> None:
        self.execute: Streamer = silent
        self.watch: Streamer = silent
        self.export: Streamer = silent
        self.answer: Answerer = unanswered
        self.on_cancel: Answerer = accept_cancel
        self.requests: list[Message] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.freed = asyncio.Event()
        self.opened = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._open = 0
        self._port = 0
        self._server: aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def names(self) -> list[str]:
        """The kinds of all requests, in order."""
        return [type(request).__name__.removesuffix("Request") for request in self.requests]

    async def start(self) -> None:
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        service = pb.DESCRIPTOR.services_by_name["OrchestratorService"]
        handlers = {method.name: self._handler(method) for method in service.methods}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service.full_name, handlers)])
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        await self._server.start()

    async def stop(self) -> None:
        """Stop at once. Calls under way are cancelled."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(0)

    def _handler(self, method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
        serializers = {
            "request_deserializer": getattr(pb, method.input_type.name).FromString,
            "response_serializer": lambda message: message.SerializeToString(),
        }
        if not method.server_streaming:
            return grpc.unary_unary_rpc_method_handler(self._unary, **serializers)
        return grpc.unary_stream_rpc_method_handler(getattr(self, f"_{method.name}"), **serializers)

    async def _ExecuteWorkflow(self, request: Message, context: Context) -> AsyncIterator[Message]:  # noqa: N802 - by name
        async for message in self._stream(self.execute, request, context):
            yield message

    async def _WatchRun(self, request: Message, context: Context) -> AsyncIterator[Message]:  # noqa: N802 - by name
        async for message in self._stream(self.watch, request, context):
            yield message

    async def _ExportRun(self, request: Message, context: Context) -> AsyncIterator[Message]:  # noqa: N802 - by name
        async for message in self._stream(self.export, request, context):
            yield message

    async def _unary(self, request: Message, context: Context) -> Message:
        self._record(request, context)
        if isinstance(request, pb.CancelRunRequest):
            self.cancelled.set()
        answerer = self.on_cancel if isinstance(request, pb.CancelRunRequest) else self.answer
        answer: Message = await answerer(request, context)
        return answer

    async def _stream(self, streamer: Streamer, request: Message, context: Context) -> AsyncIterator[Message]:
        self._record(request, context)
        self._open += 1
        self.opened.set()
        try:
            async for message in streamer(request, context):
                yield message
        finally:
            self._open -= 1
            if not self._open:
                self.freed.set()

    def _record(self, request: Message, context: Context) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))


async def silent(request: Message, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
    """Send nothing until the caller leaves."""
    await asyncio.Event().wait()
    yield batch()


async def unanswered(request: Message, context: Context) -> Message:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not in this test")
    raise AssertionError("abort raises")


async def accept_cancel(request: pb.CancelRunRequest, context: Context) -> Message:
    return pb.CancelRunResponse(run=run_pb2.Run(run_id=request.run_id))


def batch(*events: event_pb2.RunEvent) -> pb.WatchRunResponse:
    """Put events into a message, which both streams encode alike."""
    return pb.WatchRunResponse(events=events, last_sequence=max((event.sequence for event in events), default=0))


def started(sequence: int) -> event_pb2.RunEvent:
    return event_pb2.RunEvent(run_id="r", sequence=sequence, step_started=event_pb2.StepStarted(step_id="a"))


def finished(sequence: int, output: str = "1") -> event_pb2.RunEvent:
    result = run_pb2.StepResult(step_id="a", state=run_pb2.STATE_SUCCEEDED)
    result.output.json = output
    return event_pb2.RunEvent(run_id="r", sequence=sequence, step_finished=event_pb2.StepFinished(result=result))


def run_finished(sequence: int) -> event_pb2.RunEvent:
    result = run_pb2.Result(run_id="r", workflow_name="w", state=run_pb2.STATE_SUCCEEDED)
    return event_pb2.RunEvent(run_id="r", sequence=sequence, run_finished=event_pb2.RunFinished(result=result))
