"""Error classification: reason, retryability and wait of common exceptions."""

import socket
import urllib.error
from email.message import Message

import grpc
import httpx
import pytest

from stepwave import ActionError
from stepwave_server.actions.error_classification import Classification, classify
from stepwave_server.actions.failures import failure_of
from stepwave_server.core.model import SECOND, Reason

REQUEST = httpx.Request("GET", "http://service/")


def _http_error(status: int, **headers: str) -> httpx.HTTPStatusError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("no", request=REQUEST, response=httpx.Response(status, headers=named))


class GrpcError(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


class Wrapped(Exception):
    pass


def _wrapped(cause: BaseException) -> Wrapped:
    error = Wrapped("the tool failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        (TimeoutError(), Reason.TIMEOUT, True),
        (ConnectionResetError(), Reason.UNAVAILABLE, True),
        (ConnectionRefusedError(), Reason.UNAVAILABLE, True),
        (socket.gaierror(), Reason.UNAVAILABLE, True),
        (urllib.error.URLError("no route"), Reason.UNAVAILABLE, True),
        (urllib.error.HTTPError("http://service/", 503, "no", Message(), None), Reason.UNAVAILABLE, True),
        (httpx.ConnectTimeout("slow"), Reason.TIMEOUT, True),
        (httpx.ReadTimeout("slow"), Reason.TIMEOUT, True),
        (httpx.ConnectError("no"), Reason.UNAVAILABLE, True),
        (httpx.RemoteProtocolError("cut off"), Reason.UNAVAILABLE, True),
        (GrpcError(grpc.StatusCode.UNAVAILABLE), Reason.UNAVAILABLE, True),
        (GrpcError(grpc.StatusCode.RESOURCE_EXHAUSTED), Reason.RATE_LIMITED, True),
        (GrpcError(grpc.StatusCode.PERMISSION_DENIED), Reason.UNAUTHORIZED, False),
        (GrpcError(grpc.StatusCode.UNKNOWN), Reason.ACTION_ERROR, True),
        (ValueError("no"), Reason.ACTION_ERROR, True),
        (SystemExit(1), Reason.ACTION_ERROR, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_common_exceptions_are_classified(error: BaseException, reason: Reason, retryable: bool) -> None:
    assert classify(error) == Classification(reason, retryable)


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (400, Reason.INVALID_INPUT, False),
        (401, Reason.UNAUTHORIZED, False),
        (403, Reason.UNAUTHORIZED, False),
        (404, Reason.NOT_FOUND, False),
        (408, Reason.TIMEOUT, True),
        (409, Reason.ACTION_ERROR, True),
        (422, Reason.INVALID_INPUT, False),
        (429, Reason.RATE_LIMITED, True),
        (500, Reason.UNAVAILABLE, True),
        (501, Reason.ACTION_ERROR, False),
        (503, Reason.UNAVAILABLE, True),
        (504, Reason.TIMEOUT, True),
    ],
)
def test_http_responses_are_classified_by_their_status(status: int, reason: Reason, retryable: bool) -> None:
    assert classify(_http_error(status)) == Classification(reason, retryable)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, 7 * SECOND),
        ({"retry_after": "0.5"}, SECOND // 2),
        (
            {"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"},
            30 * SECOND,
        ),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0),
        ({"retry_after": "999999999"}, 24 * 3600 * SECOND),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-3"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], wait: int | None) -> None:
    assert classify(_http_error(429, **headers)) == Classification(Reason.RATE_LIMITED, retry_after=wait)
    assert classify(_http_error(503, **headers)).retry_after == wait


def test_a_permanent_error_has_no_wait() -> None:
    assert classify(_http_error(404, retry_after="7")) == Classification(Reason.NOT_FOUND, retryable=False)


@pytest.mark.parametrize(
    "cause",
    [_http_error(404), _http_error(429, retry_after="7"), ActionError("no", reason="unauthorized"), TimeoutError()],
    ids=["404", "429", "ActionError", "TimeoutError"],
)
def test_wrapping_keeps_the_classification(cause: Exception) -> None:
    assert classify(_wrapped(_wrapped(cause))) == classify(cause)


def test_the_message_is_the_wrappers() -> None:
    failure = failure_of(_wrapped(TimeoutError()), "step", 1, tracebacks=False)
    assert (failure.reason, failure.message) == (Reason.TIMEOUT, "Wrapped: the tool failed")


def test_the_context_of_an_exception_does_not_count() -> None:
    error = KeyError("bug")
    error.__context__ = TimeoutError()
    assert classify(error) == Classification(Reason.ACTION_ERROR)


def test_an_action_error_comes_before_its_cause() -> None:
    error = ActionError("come back", reason="rate_limited", retry_after=2)
    error.__cause__ = _http_error(404)
    assert classify(error) == Classification(Reason.RATE_LIMITED, retry_after=2 * SECOND)


def test_in_a_group_a_permanent_error_comes_first() -> None:
    group = ExceptionGroup("both", [TimeoutError(), ExceptionGroup("inner", [_http_error(401)])])
    assert classify(group) == Classification(Reason.UNAUTHORIZED, retryable=False)
    assert classify(ExceptionGroup("all", [ValueError(), TimeoutError()])) == Classification(Reason.TIMEOUT)
    assert classify(ExceptionGroup("none", [ValueError()])) == Classification(Reason.ACTION_ERROR)


def test_a_cycle_of_causes_is_classified() -> None:
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert classify(one) == Classification(Reason.ACTION_ERROR)


@pytest.mark.parametrize(
    ("reason", "retryable"), [("invalid_input", False), ("not_found", False), ("unavailable", True)]
)
def test_the_reason_decides_the_default_of_retryable(reason: str, retryable: bool) -> None:
    assert classify(ActionError("no", reason=reason)).retryable is retryable
    assert classify(ActionError("no", reason=reason, retryable=not retryable)).retryable is not retryable
