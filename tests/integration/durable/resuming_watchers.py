"""Clients that remember the sequence of the newest event, and resume after it when the server has died."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import grpc
from google.protobuf.message import Message
from grpc.aio import AioRpcError

from integration.server.build import payload
from integration.server.raw_client import MAX_BYTES
from stepwave import JSON, AsyncClient, Event, StepStarted
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2

__all__ = ["RawWatcher", "add_steps", "complete", "follow", "open_channel", "read_all"]

SERVICE = "/stepwave.v1.OrchestratorService"

OnEvents: TypeAlias = Callable[[int], None]
"""Called with the number of numbered events that have just been seen."""


def open_channel(address: str) -> grpc.aio.Channel:
    """Open a channel that tries to reconnect several times a second."""
    options = [
        ("grpc.max_receive_message_length", MAX_BYTES),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 300),
    ]
    return grpc.aio.insecure_channel(address, options=options)


class RawWatcher:
    """Follows a run as a client in any language would, and keeps its encoded events.

    Attributes:
        events: The numbered events of the run, encoded, in the order in which they came.

    Args:
        channel: A channel to the server.
        run_id: The run.
        on_events: Called when events are seen.
        cancel_after: The number of events after which the run is cancelled; `None`: it is not.
        completes: It completes the steps that wait to be completed.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        run_id: str,
        on_events: OnEvents = lambda _: None,
        cancel_after: int | None = None,
        *,
        completes: bool = False,
    ) -> None:
        self.events: list[bytes] = []
        self._channel = channel
        self._run_id = run_id
        self._on_events = on_events
        self._cancel_after = cancel_after
        self._completes = completes
        self._waiting: list[str] = []
        self._ended = False

    async def execute(self, request: pb.ExecuteWorkflowRequest) -> None:
        """Start the run, stay attached to it, and follow it to its end."""
        while not self._ended and not self.events:
            await self._read("ExecuteWorkflow", request)
        await self.watch(attach=True)

    async def start(self, request: pb.StartRunRequest) -> None:
        """Start the run detached, and follow it to its end."""
        await _call(self._channel, "StartRun", request)
        await self.watch(attach=False)

    async def compose(self, request: pb.StartRunRequest, parts: Iterable[Sequence[workflow_pb2.Step]]) -> None:
        """Start an open run, add its steps, part by part, and follow it to its end."""
        await _call(self._channel, "StartRun", request)
        async with asyncio.TaskGroup() as group:
            group.create_task(add_steps(self._channel, self._run_id, parts))
            group.create_task(self.watch(attach=False))

    async def watch(self, *, attach: bool) -> None:
        """Follow the run to its end, after the last event seen; `attach`: stay attached to it."""
        while not self._ended:
            request = pb.WatchRunRequest(run_id=self._run_id, after_sequence=len(self.events), attach=attach)
            await self._read("WatchRun", request)

    async def _read(self, method: str, request: Message) -> None:
        """Read one stream until the run ends or the server dies."""
        call: grpc.aio.UnaryStreamMultiCallable[Message, bytes]
        call = self._channel.unary_stream(f"{SERVICE}/{method}", type(request).SerializeToString)
        try:
            async for data in call(request, wait_for_ready=True):
                self._take(data)
                if self._cancel_after is not None and len(self.events) >= self._cancel_after:
                    self._cancel_after = None
                    request = pb.CancelRunRequest(run_id=self._run_id, reason="cancelled by the test")
                    await _call(self._channel, "CancelRun", request)
                while self._waiting and self._completes:
                    await complete(self._channel, self._run_id, self._waiting.pop(0))
        except AioRpcError as error:
            _require_unavailable(error)

    def _take(self, data: bytes) -> None:
        message = pb.WatchRunResponse.FromString(data)
        parts = zip(message.events, _events(data), strict=True)
        numbered = [(event, part) for event, part in parts if event.sequence]
        for event, part in numbered:
            assert event.sequence == len(self.events) + 1, f"run {self._run_id}: a gap or a repeat"
            assert not self._ended, f"run {self._run_id}: an event after the last"
            self.events.append(part)
            self._ended = event.HasField("run_finished")
            if event.step_started.action == "core.wait":
                self._waiting.append(event.step_started.step_id)
        self._on_events(len(numbered))


async def _call(channel: grpc.aio.Channel, method: str, request: Message) -> None:
    """Make a call, again until a server answers. All calls made here are idempotent."""
    call: grpc.aio.UnaryUnaryMultiCallable[Message, bytes]
    call = channel.unary_unary(f"{SERVICE}/{method}", type(request).SerializeToString)
    while True:
        try:
            await call(request, wait_for_ready=True)
        except AioRpcError as error:
            _require_unavailable(error)
        else:
            return


async def complete(channel: grpc.aio.Channel, run_id: str, step_id: str) -> None:
    """Complete a step that waits, twice, unless it has ended meanwhile in another way."""
    request = pb.CompleteStepRequest(run_id=run_id, step_id=step_id, output=payload(step_id))
    try:
        await _call(channel, "CompleteStep", request)
        await _call(channel, "CompleteStep", request)
    except AioRpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise


async def add_steps(channel: grpc.aio.Channel, run_id: str, parts: Iterable[Sequence[workflow_pb2.Step]]) -> None:
    """Add steps to an open run, part by part, each twice, and seal it, unless it takes no more steps meanwhile."""
    requests = [pb.AddStepsRequest(run_id=run_id, steps=part) for part in parts]
    try:
        for request in (*requests, pb.AddStepsRequest(run_id=run_id, seal=True)):
            await _call(channel, "AddSteps", request)
            await _call(channel, "AddSteps", request)
    except AioRpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise


def _require_unavailable(error: AioRpcError) -> None:
    """Raise an error again unless it says that the server has died."""
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        raise error


def _events(data: bytes) -> Iterator[bytes]:
    """Yield the encoded events of a response: field 1. Field 2 is a number; fields 1 and 3 follow their lengths."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        size, place = _varint(data, place)
        if tag & 7 == 2:  # the wire type of what follows its length
            if tag >> 3 == 1:
                yield data[place : place + size]
            place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7


async def read_all(channel: grpc.aio.Channel, run_id: str) -> list[bytes]:
    """Return all events of a run that has ended."""
    watcher = RawWatcher(channel, run_id)
    await watcher.watch(attach=False)
    return watcher.events


async def follow(
    client: AsyncClient,
    flow: workflow_pb2.Workflow,
    given: JSON,
    run_id: str,
    on_events: OnEvents,
    cancel_after: int | None,
    on_waiting: Callable[[str], Awaitable[None]],
) -> list[Event]:
    """Run a workflow through the SDK, which reconnects by itself; return the numbered events.

    `on_waiting` is called with the ids of steps that wait to be completed.
    """
    events: list[Event] = []
    async with client.run(flow, given, run_id=run_id) as run:
        async for event in run:
            if event.sequence:
                events.append(event)
                on_events(1)
                if len(events) == cancel_after:
                    await run.cancel("cancelled by the test")
                if isinstance(event, StepStarted) and event.action == "core.wait":
                    await on_waiting(event.step_id)
    return events
