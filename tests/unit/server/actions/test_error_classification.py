"""What exceptions say of a failure: its kind, whether another attempt could help, and when."""

import socket
import urllib.error
from email.message import Message

import grpc
import httpx
import pytest

from stepwave import ActionError
from stepwave_server.actions.error_classification import Classification, judge
from stepwave_server.actions.failures import failure_of
from stepwave_server.core.model import SECOND, Reason

REQUEST = httpx.Request("GET", "http://service/")


def _answered(status: int, **headers: str) -> httpx.HTTPStatusError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("no", request=REQUEST, response=httpx.Response(status, headers=named))


class Refused(grpc.RpcError):
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
        (Refused(grpc.StatusCode.UNAVAILABLE), Reason.UNAVAILABLE, True),
        (Refused(grpc.StatusCode.RESOURCE_EXHAUSTED), Reason.RATE_LIMITED, True),
        (Refused(grpc.StatusCode.PERMISSION_DENIED), Reason.UNAUTHORIZED, False),
        (Refused(grpc.StatusCode.UNKNOWN), Reason.ACTION_ERROR, True),
        (ValueError("no"), Reason.ACTION_ERROR, True),
        (SystemExit(1), Reason.ACTION_ERROR, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_common_exceptions_are_told_apart(error: BaseException, reason: Reason, retryable: bool) -> None:
    assert judge(error) == Classification(reason, retryable)


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
def test_http_answers_are_judged_by_their_status(status: int, reason: Reason, retryable: bool) -> None:
    assert judge(_answered(status)) == Classification(reason, retryable)


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
def test_what_a_service_asks_for_is_waited_for(headers: dict[str, str], wait: int | None) -> None:
    assert judge(_answered(429, **headers)) == Classification(Reason.RATE_LIMITED, retry_after=wait)
    assert judge(_answered(503, **headers)).retry_after == wait


def test_a_permanent_answer_is_not_waited_for() -> None:
    assert judge(_answered(404, retry_after="7")) == Classification(Reason.NOT_FOUND, retryable=False)


@pytest.mark.parametrize(
    "cause",
    [_answered(404), _answered(429, retry_after="7"), ActionError("no", reason="unauthorized"), TimeoutError()],
    ids=["404", "429", "ActionError", "TimeoutError"],
)
def test_wrapping_keeps_kind_hope_and_wait(cause: Exception) -> None:
    assert judge(_wrapped(_wrapped(cause))) == judge(cause)


def test_what_wraps_is_what_is_told() -> None:
    failure = failure_of(_wrapped(TimeoutError()), "step", 1, tracebacks=False)
    assert (failure.reason, failure.message) == (Reason.TIMEOUT, "Wrapped: the tool failed")


def test_an_exception_that_came_by_chance_during_another_is_judged_by_itself() -> None:
    error = KeyError("slip")
    error.__context__ = TimeoutError()
    assert judge(error) == Classification(Reason.ACTION_ERROR)


def test_what_an_action_says_itself_counts_before_what_it_says_it_of() -> None:
    error = ActionError("come back", reason="rate_limited", retry_after=2)
    error.__cause__ = _answered(404)
    assert judge(error) == Classification(Reason.RATE_LIMITED, retry_after=2 * SECOND)


def test_of_a_group_what_is_permanent_counts_first() -> None:
    group = ExceptionGroup("both", [TimeoutError(), ExceptionGroup("inner", [_answered(401)])])
    assert judge(group) == Classification(Reason.UNAUTHORIZED, retryable=False)
    assert judge(ExceptionGroup("all", [ValueError(), TimeoutError()])) == Classification(Reason.TIMEOUT)
    assert judge(ExceptionGroup("none", [ValueError()])) == Classification(Reason.ACTION_ERROR)


def test_a_circle_of_causes_has_an_end() -> None:
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert judge(one) == Classification(Reason.ACTION_ERROR)


@pytest.mark.parametrize(
    ("reason", "retryable"), [("invalid_input", False), ("not_found", False), ("unavailable", True)]
)
def test_by_default_a_reason_says_whether_another_attempt_could_help(reason: str, retryable: bool) -> None:
    assert judge(ActionError("no", reason=reason)).retryable is retryable
    assert judge(ActionError("no", reason=reason, retryable=not retryable)).retryable is not retryable
