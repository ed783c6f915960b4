"""The upper limit of a stream: a bare grpc.aio server that streams copies of given events, and its client.

`python -m tests.benchmarks.bare_stream` prints its address, then serves until it is terminated.
"""

import asyncio
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import grpc.aio

from stepwave.v1 import event_pb2, orchestrator_pb2

METHOD = "Copy"
SERVICE = "benchmarks.BareStream"

_HEADER = struct.Struct("<II")


@dataclass(frozen=True)
class CopyRequest:
    """A request for a stream of events.

    Attributes:
        count: The number of events.
        batch: The number of events in a message.
        samples: The events to copy, in rotation.
    """

    count: int
    batch: int
    samples: Sequence[event_pb2.RunEvent]

    def pack(self) -> bytes:
        """Return the request as bytes."""
        return _HEADER.pack(self.count, self.batch) + _message(self.samples).SerializeToString()

    @classmethod
    def unpack(cls, data: bytes) -> "CopyRequest":
        """Return the request that `pack` encoded."""
        count, batch = _HEADER.unpack_from(data)
        return cls(count, batch, _read_message(data[_HEADER.size :]).events)


def _message(events: Sequence[event_pb2.RunEvent]) -> orchestrator_pb2.ExecuteWorkflowResponse:
    return orchestrator_pb2.ExecuteWorkflowResponse(events=events)


def _write_message(message: orchestrator_pb2.ExecuteWorkflowResponse) -> bytes:
    return message.SerializeToString()


def _read_message(data: bytes) -> orchestrator_pb2.ExecuteWorkflowResponse:
    return orchestrator_pb2.ExecuteWorkflowResponse.FromString(data)


async def _copy(request: CopyRequest, _: object) -> AsyncIterator[orchestrator_pb2.ExecuteWorkflowResponse]:
    samples = cycle(request.samples)
    for start in range(1, request.count + 1, request.batch):
        end = min(start + request.batch, request.count + 1)
        numbered = zip(range(start, end), islice(samples, end - start), strict=True)
        yield _message([_numbered(sample, sequence) for sequence, sample in numbered])


def _numbered(sample: event_pb2.RunEvent, sequence: int) -> event_pb2.RunEvent:
    event = event_pb2.RunEvent()
    event.CopyFrom(sample)
    event.sequence = sequence
    return event


async def receive(channel: grpc.aio.Channel, request: CopyRequest) -> None:
    """Receive a stream, and check the sequence of every event."""
    method = channel.unary_stream(
        f"/{SERVICE}/{METHOD}", request_serializer=CopyRequest.pack, response_deserializer=_read_message
    )
    expected = 1
    async for message in method(request):
        for event in message.events:
            assert event.sequence == expected
            expected += 1
    assert expected == request.count + 1


async def serve() -> None:
    """Serve on a free loopback port until the process ends."""
    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(
        _copy, request_deserializer=CopyRequest.unpack, response_serializer=_write_message
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
