"""No call answers with an error that the contract does not list, whatever its request is."""

from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.server.raw_client import RawClient, Refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.error_pb2 import ErrorReason
from stepwave_server.rpc.statuses import CODES

METHODS = {method.name: method for method in pb.DESCRIPTOR.services_by_name["OrchestratorService"].methods}
DEADLINE = 0.05
"""Seconds that a stream may stay open."""

NAMES = st.sampled_from(["", "a", "b", "run", "core.echo", "core.sleep", "x" * 200, "é", "/a/0", "no such"])
SCALARS = {
    FieldDescriptor.CPPTYPE_STRING: NAMES,
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_UINT32: st.sampled_from([0, 1, 5, 1 << 31, (1 << 32) - 1]),
    FieldDescriptor.CPPTYPE_INT32: st.sampled_from([0, 1, -1, (1 << 31) - 1]),
    FieldDescriptor.CPPTYPE_INT64: st.sampled_from([0, 1, -1, 1 << 62]),
}


@st.composite
def messages(draw: st.DrawFn, kind: type[Message], depth: int = 0) -> Message:
    """Draw a message with some of its fields set to any values."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if depth < 4 and draw(st.integers(0, 2)):
            _set(draw, message, field, depth)
    return message


def _set(draw: st.DrawFn, message: Message, field: Any, depth: int) -> None:
    entry = field.message_type is not None and field.message_type.GetOptions().map_entry
    if entry:
        return
    values = [_value(draw, field, depth) for _ in range(draw(st.integers(1, 2)) if field.is_repeated else 1)]
    target: Any = getattr(message, field.name)
    if field.is_repeated:
        target.extend(values)
    elif field.message_type is not None:
        target.CopyFrom(values[0])
    else:
        setattr(message, field.name, values[0])


def _value(draw: st.DrawFn, field: Any, depth: int) -> object:
    if field.message_type is not None:
        return draw(messages(GetMessageClass(field.message_type), depth + 1))
    if field.enum_type is not None:
        return draw(st.integers(0, 9))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw(st.binary(max_size=5))
    return draw(SCALARS[field.cpp_type])


async def _error(client: RawClient, method: MethodDescriptor, data: bytes) -> grpc.aio.AioRpcError | None:
    """Make a call with these bytes, and return its error; `None`: it succeeded, or its stream was left."""
    path, channel = f"/{method.containing_service.full_name}/{method.name}", cast("Any", client.channel)
    try:
        if method.server_streaming:
            async for _ in channel.unary_stream(path)(data, timeout=DEADLINE):
                pass
        else:
            await channel.unary_unary(path)(data, timeout=10)
    except grpc.aio.AioRpcError as error:
        left = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and method.server_streaming
        return None if left else error
    return None


async def _check(client: RawClient, method: MethodDescriptor, data: bytes) -> None:
    """Make a call with these bytes. If it fails, check that the contract lists the error."""
    error = await _error(client, method, data)
    if error is not None:
        reason = ErrorReason.Value(f"ERROR_REASON_{Refusal(error).reason}")
        assert CODES[reason] == error.code().value[0]


@pytest.mark.parametrize("name", METHODS)
async def test_any_request_answers_or_fails_for_a_listed_reason(client: RawClient, name: str) -> None:
    kind = GetMessageClass(METHODS[name].input_type)
    drawn: list[bytes] = []

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(messages(kind))
    def draw(message: Message) -> None:
        drawn.append(message.SerializeToString())

    draw()
    for data in drawn:
        await _check(client, METHODS[name], data)


@pytest.mark.no_engine("requests are checked before an engine takes them")
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\xf8\xff\xff\xff\x0f\x01", b"\x00" * 9])
async def test_bytes_that_are_no_request_fail_for_a_listed_reason(client: RawClient, name: str, data: bytes) -> None:
    await _check(client, METHODS[name], data)
