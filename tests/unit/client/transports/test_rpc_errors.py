"""The exceptions for gRPC's errors."""

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from stepwave import exceptions
from stepwave._transport.rpc_errors import from_rpc_error
from stepwave.exceptions import InvalidWorkflow, ServerUnavailable, StepwaveError, Unsupported, Violation

ADDRESS = "127.0.0.1:50051"

EXPECTED = {
    grpc.StatusCode.INVALID_ARGUMENT: "InvalidWorkflow",
    grpc.StatusCode.NOT_FOUND: "NotFound",
    grpc.StatusCode.ALREADY_EXISTS: "AlreadyExists",
    grpc.StatusCode.FAILED_PRECONDITION: "FailedPrecondition",
    grpc.StatusCode.OUT_OF_RANGE: "OutOfRange",
    grpc.StatusCode.UNIMPLEMENTED: "Unsupported",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "LimitExceeded",
    grpc.StatusCode.UNAUTHENTICATED: "AccessDenied",
    grpc.StatusCode.PERMISSION_DENIED: "AccessDenied",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DeadlineExceeded",
    grpc.StatusCode.UNAVAILABLE: "ServerUnavailable",
    grpc.StatusCode.CANCELLED: "ServerUnavailable",
    grpc.StatusCode.INTERNAL: "ServerError",
    grpc.StatusCode.UNKNOWN: "ServerError",
    grpc.StatusCode.DATA_LOSS: "ServerError",
    grpc.StatusCode.ABORTED: "ServerError",
}


def error(code: grpc.StatusCode, message: str = "said", *details: Message, raw: bytes | None = None) -> AioRpcError:
    status = status_pb2.Status(message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    data = status.SerializeToString() if raw is None else raw
    return AioRpcError(code, Metadata(), Metadata(("other", "x"), ("grpc-status-details-bin", data)), message)


def info(reason: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="stepwave")


def fields(**descriptions: str) -> error_details_pb2.BadRequest:
    violation = error_details_pb2.BadRequest.FieldViolation
    return error_details_pb2.BadRequest(
        field_violations=[violation(field=field, description=text) for field, text in descriptions.items()]
    )


def test_every_code_but_ok_is_expected_here() -> None:
    assert {*EXPECTED, grpc.StatusCode.OK} == set(grpc.StatusCode)


@pytest.mark.parametrize("code", EXPECTED)
def test_a_code_becomes_its_exception_with_the_servers_reason(code: grpc.StatusCode) -> None:
    raised = from_rpc_error(error(code, "said", info("SOME_REASON")), ADDRESS)
    assert type(raised) is getattr(exceptions, EXPECTED[code])
    assert raised.reason == "SOME_REASON"
    assert "said" in str(raised)


@pytest.mark.parametrize("code", EXPECTED)
def test_a_code_without_details_becomes_its_exception_too(code: grpc.StatusCode) -> None:
    raised = from_rpc_error(AioRpcError(code, Metadata(), Metadata(), None), ADDRESS)
    assert type(raised) is getattr(exceptions, EXPECTED[code])
    assert raised.reason == ""


@pytest.mark.parametrize(
    ("code", "kind"),
    [(grpc.StatusCode.INVALID_ARGUMENT, InvalidWorkflow), (grpc.StatusCode.UNIMPLEMENTED, Unsupported)],
)
def test_every_invalid_field_is_listed(code: grpc.StatusCode, kind: type[InvalidWorkflow] | type[Unsupported]) -> None:
    raised = from_rpc_error(error(code, "2 problems", info("R"), fields(name="malformed", steps="none")), ADDRESS)
    assert isinstance(raised, kind)
    assert raised.violations == (Violation("name", "malformed"), Violation("steps", "none"))
    assert str(raised) == "name: malformed; steps: none"


def test_without_fields_the_message_is_kept() -> None:
    assert str(from_rpc_error(error(grpc.StatusCode.INVALID_ARGUMENT, "too bad"), ADDRESS)) == "too bad"


def test_a_refused_connection_is_reported_with_address_and_cause() -> None:
    chain = f"failed to connect to all addresses; last error: UNKNOWN: ipv4:{ADDRESS}: Connection refused (111)"
    raised = from_rpc_error(AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), chain), ADDRESS)
    assert isinstance(raised, ServerUnavailable)
    assert str(raised) == f"no server at {ADDRESS} (Connection refused (111))"
    assert raised.address == ADDRESS


def test_the_reason_of_an_unavailable_server_is_quoted() -> None:
    raised = from_rpc_error(error(grpc.StatusCode.UNAVAILABLE, "about to stop", info("SERVER_DRAINING")), ADDRESS)
    assert (str(raised), raised.reason) == ("about to stop", "SERVER_DRAINING")


def test_details_that_are_not_a_status_are_passed_over() -> None:
    raised = from_rpc_error(error(grpc.StatusCode.NOT_FOUND, "said", raw=b"\xff\xff"), ADDRESS)
    assert (str(raised), raised.reason) == ("said", "")


def test_all_exceptions_are_in_one_tree_which_the_module_draws() -> None:
    kinds = [getattr(exceptions, name) for name in exceptions.__all__ if name != "Violation"]
    assert all(issubclass(kind, StepwaveError) for kind in kinds)
    assert exceptions.__doc__ is not None
    assert all(kind.__name__ in exceptions.__doc__ for kind in kinds)


@pytest.mark.parametrize(
    "details", ["Received RST_STREAM with error code 2", "Stream removed (RST_STREAM with error code 0)"]
)
def test_a_stream_that_a_proxy_resets_is_lost_and_not_refused(details: str) -> None:
    raised = from_rpc_error(AioRpcError(grpc.StatusCode.INTERNAL, Metadata(), Metadata(), details), ADDRESS)
    assert isinstance(raised, ServerUnavailable)


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ("RST_STREAM with error code 1", ""),
        ("RST_STREAM with error code 20", ""),
        ("RST_STREAM with error code 2", "X"),
    ],
    ids=["a violation of the protocol", "another code", "an error of the server"],
)
def test_another_internal_error_is_not_taken_for_a_lost_stream(details: str, reason: str) -> None:
    found = (info(reason),) if reason else ()
    raised = from_rpc_error(error(grpc.StatusCode.INTERNAL, details, *found), ADDRESS)
    assert type(raised) is exceptions.ServerError
