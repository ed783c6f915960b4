"""Callers that keep the number of the newest event they saw, and go on after it when their server has died."""

from collections.abc import Callable, Iterator

import grpc
from google.protobuf.message import Message
from grpc.aio import AioRpcError

from integration.server.caller import MAX_BYTES
from stepwave import JSON, AsyncClient, Event, Workflow
from stepwave.v1 import orchestrator_pb2 as pb

__all__ = ["RawWatcher", "follow", "open_channel", "read_all"]

SERVICE = "/stepwave.v1.OrchestratorService"

Saw = Callable[[int], None]
"""Told how many numbered events were seen just now."""


def open_channel(address: str) -> grpc.aio.Channel:
    """Open a channel that looks for a server that has gone several times a second."""
    options = [
        ("grpc.max_receive_message_length", MAX_BYTES),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 300),
    ]
    return grpc.aio.insecure_channel(address, options=options)


class RawWatcher:
    """Follows a run as a caller in any language would, and keeps the bytes of its events.

    Attributes:
        seen: The run's numbered events, as they came.

    Args:
        channel: The way to the server, whichever process that is.
        run_id: The run.
        saw: Told of events.
        patience: After so many events the run is cancelled; `None`: it is not.
    """

    def __init__(
        self, channel: grpc.aio.Channel, run_id: str, saw: Saw = lambda _: None, patience: int | None = None
    ) -> None:
        self.seen: list[bytes] = []
        self._channel = channel
        self._run_id = run_id
        self._saw = saw
        self._patience = patience
        self._ended = False

    async def execute(self, request: pb.ExecuteWorkflowRequest) -> None:
        """Start the run, hold it, and follow it to its end."""
        while not self._ended and not self.seen:
            await self._read("ExecuteWorkflow", request)
        await self.watch(attach=True)

    async def start(self, request: pb.StartRunRequest) -> None:
        """Start the run, and follow it to its end from the outside."""
        await self._call("StartRun", request)
        await self.watch(attach=False)

    async def _call(self, method: str, request: Message) -> None:
        """Call until a server answers: all calls here may be made twice."""
        call: grpc.aio.UnaryUnaryMultiCallable[Message, bytes]
        call = self._channel.unary_unary(f"{SERVICE}/{method}", type(request).SerializeToString)
        while True:
            try:
                await call(request, wait_for_ready=True)
            except AioRpcError as error:
                _bear(error)
            else:
                return

    async def watch(self, *, attach: bool) -> None:
        """Follow the run to its end, from after what was seen; `attach`: and hold it."""
        while not self._ended:
            request = pb.WatchRunRequest(run_id=self._run_id, after_sequence=len(self.seen), attach=attach)
            await self._read("WatchRun", request)

    async def _read(self, method: str, request: Message) -> None:
        """Read one stream until the run's end, or the server's."""
        call: grpc.aio.UnaryStreamMultiCallable[Message, bytes]
        call = self._channel.unary_stream(f"{SERVICE}/{method}", type(request).SerializeToString)
        try:
            async for data in call(request, wait_for_ready=True):
                self._take(data)
                if self._patience is not None and len(self.seen) >= self._patience:
                    self._patience = None
                    await self._call("CancelRun", pb.CancelRunRequest(run_id=self._run_id, reason="no patience"))
        except AioRpcError as error:
            _bear(error)

    def _take(self, data: bytes) -> None:
        message = pb.WatchRunResponse.FromString(data)
        parts = zip(message.events, _events(data), strict=True)
        fresh = [(event, part) for event, part in parts if event.sequence]
        for event, part in fresh:
            assert event.sequence == len(self.seen) + 1, f"run {self._run_id}: a gap or a repeat"
            assert not self._ended, f"run {self._run_id}: an event after the last"
            self.seen.append(part)
            self._ended = event.HasField("run_finished")
        self._saw(len(fresh))


def _bear(error: AioRpcError) -> None:
    """Take that a server has died; anything else it may say is an error."""
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        raise error


def _events(data: bytes) -> Iterator[bytes]:
    """Yield the events of a response as they stand in it: each is field 1, its length, itself; field 2 is a number."""
    place = 0
    while place < len(data):
        field, place = _varint(data, place)
        size, place = _varint(data, place)
        if field >> 3 == 1:
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
    return watcher.seen


async def follow(
    client: AsyncClient, flow: Workflow, given: JSON, run_id: str, saw: Saw, patience: int | None
) -> list[Event]:
    """Run a workflow through the SDK, that looks for its server by itself; return the numbered events it gave."""
    seen: list[Event] = []
    async with client.run(flow, given, run_id=run_id) as run:
        async for event in run:
            if event.sequence:
                seen.append(event)
                saw(1)
                if len(seen) == patience:
                    await run.cancel("no patience")
    return seen
