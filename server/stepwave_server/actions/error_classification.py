"""Error classification: an exception's reason, whether another attempt could help, and when.

The exceptions of httpx, requests, aiohttp, urllib and gRPC are recognised by the names of their classes, so that none
of these libraries is needed. An HTTP response is classified by its status (RFC 9110, section 15) and its `Retry-After`
(section 10.2.3).

An exception is the action's object: its attributes may raise, or have any type. Each attribute is read separately, and
one that cannot be read is ignored. Nothing in this module raises.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from itertools import islice

from stepwave._actions.failure import ActionError, FailureReason
from stepwave_server.core.model import SECOND, Reason

__all__ = ["MAX_CAUSES", "Classification", "causes_of", "classify", "classify_response"]

MICROSECOND = timedelta(microseconds=1)
MAX_CAUSES = 50
MAX_HEADERS = 1_000
MAX_WAIT = 24 * 3600 * SECOND
"""Longest wait in nanoseconds that a service may ask for: a day. A longer one is shortened."""

MAX_OWN_WAIT = 36_525 * 24 * 3600 * SECOND
"""Longest wait in nanoseconds that an action may ask for: a hundred years, the longest duration in a workflow."""

_CAUSE = BaseException.__dict__["__cause__"]
_EXCEPTIONS = BaseExceptionGroup.__dict__["exceptions"]
"""The interpreter's own attributes of exceptions, which a class may override."""


@dataclass(frozen=True, slots=True)
class Classification:
    """The classification of an exception.

    Attributes:
        reason: The failure's reason.
        retryable: Whether another attempt could help.
        retry_after: Nanoseconds to wait before another attempt; `None`: no wait is asked for.
    """

    reason: Reason
    retryable: bool = True
    retry_after: int | None = None


TIMEOUT = Classification(Reason.TIMEOUT)
UNAVAILABLE = Classification(Reason.UNAVAILABLE)
RATE_LIMITED = Classification(Reason.RATE_LIMITED)
INVALID_INPUT = Classification(Reason.INVALID_INPUT, retryable=False)
UNAUTHORIZED = Classification(Reason.UNAUTHORIZED, retryable=False)
NOT_FOUND = Classification(Reason.NOT_FOUND, retryable=False)
ACTION_ERROR = Classification(Reason.ACTION_ERROR)

_BY_CLASS_NAME = {
    "httpx.TimeoutException": TIMEOUT,
    "httpx.TransportError": UNAVAILABLE,
    "requests.exceptions.Timeout": TIMEOUT,
    "requests.exceptions.ConnectionError": UNAVAILABLE,
    "aiohttp.client_exceptions.ClientConnectionError": UNAVAILABLE,
    "urllib.error.URLError": UNAVAILABLE,
    "socket.gaierror": UNAVAILABLE,
    "http.client.RemoteDisconnected": UNAVAILABLE,
    "http.client.IncompleteRead": UNAVAILABLE,
    "asyncio.exceptions.CancelledError": ACTION_ERROR,
}
_BY_STATUS = {
    401: UNAUTHORIZED,
    403: UNAUTHORIZED,
    404: NOT_FOUND,
    408: TIMEOUT,
    409: ACTION_ERROR,
    410: NOT_FOUND,
    423: UNAVAILABLE,
    425: UNAVAILABLE,
    429: RATE_LIMITED,
    501: Classification(Reason.ACTION_ERROR, retryable=False),
    504: TIMEOUT,
    505: Classification(Reason.ACTION_ERROR, retryable=False),
}
_BY_GRPC_CODE = {
    "INVALID_ARGUMENT": INVALID_INPUT,
    "OUT_OF_RANGE": INVALID_INPUT,
    "UNIMPLEMENTED": INVALID_INPUT,
    "FAILED_PRECONDITION": INVALID_INPUT,
    "ALREADY_EXISTS": INVALID_INPUT,
    "NOT_FOUND": NOT_FOUND,
    "UNAUTHENTICATED": UNAUTHORIZED,
    "PERMISSION_DENIED": UNAUTHORIZED,
    "DEADLINE_EXCEEDED": TIMEOUT,
    "UNAVAILABLE": UNAVAILABLE,
    "RESOURCE_EXHAUSTED": RATE_LIMITED,
}


def classify(error: BaseException) -> Classification:
    """Classify an exception, by itself or by the first of its causes that is recognised.

    In a group, a permanent error comes first, because another attempt would fail with it again.
    """
    classifications = [found for found in map(_classify_one, causes_of(error)) if found is not None]
    if issubclass(type(error), BaseExceptionGroup):
        permanent = next((found for found in classifications if not found.retryable), None)
        if permanent is not None:
            return permanent
    if classifications:
        return classifications[0]
    return Classification(Reason.ACTION_ERROR, retryable=issubclass(type(error), Exception))


def classify_response(status: int, headers: Mapping[str, str]) -> Classification:
    """Classify an HTTP response that is no answer.

    Args:
        status: The status, from 300 on.
        headers: The header fields, with names in lower case.
    """
    if status < 400:
        return Classification(Reason.ACTION_ERROR, retryable=False)
    return _from_status(status, lambda: headers)


def causes_of(error: BaseException) -> list[BaseException]:
    """Return an exception, its causes and the members of its groups, each once, at most `MAX_CAUSES`."""
    return list(islice(_causes(error), MAX_CAUSES))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if issubclass(type(one), BaseExceptionGroup):
            waiting += _EXCEPTIONS.__get__(one)[:MAX_CAUSES]
        if (cause := _CAUSE.__get__(one)) is not None:
            waiting.append(cause)


def _classify_one(error: BaseException) -> Classification | None:
    """Classify an exception without its causes; `None`: it is not recognised."""
    try:
        if issubclass(type(error), ActionError):
            return _from_action_error(error)
        return _from_library(error, [f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__])
    except BaseException:  # the exception's attributes are the action's code
        return None


def _from_action_error(error: BaseException) -> Classification:
    """Classify an `ActionError`. A subclass may lack any of the attributes."""
    reason, retryable, wait = (_read(error, name) for name in ("reason", "retryable", "retry_after"))
    if not isinstance(reason, FailureReason) or reason is FailureReason.UNKNOWN:
        reason = FailureReason.ACTION_ERROR
    return Classification(
        reason=Reason[reason.name],
        retryable=retryable if isinstance(retryable, bool) else True,
        retry_after=_clamp(wait // MICROSECOND * 1_000, MAX_OWN_WAIT) if isinstance(wait, timedelta) else None,
    )


def _from_library(error: BaseException, names: Sequence[str]) -> Classification | None:
    if "grpc.RpcError" in names:
        return _BY_GRPC_CODE.get(_code_of(error))
    status = _status_of(error, names)
    if status is not None:
        return _from_status(status, lambda: _headers_of(error))
    known = next((_BY_CLASS_NAME[name] for name in names if name in _BY_CLASS_NAME), None)
    if known is not None:
        return known
    if issubclass(type(error), TimeoutError):
        return TIMEOUT
    return UNAVAILABLE if issubclass(type(error), ConnectionError) else None


def _read(owner: object, name: str) -> object:
    """Return an attribute; `None`: there is none, or it cannot be read."""
    try:
        return getattr(owner, name, None)
    except BaseException:  # a property is the action's code
        return None


def _code_of(error: BaseException) -> str:
    code = _read(error, "code")
    return str(_read(code() if callable(code) else code, "name"))


def _status_of(error: BaseException, names: Sequence[str]) -> int | None:
    """Return the HTTP status in an exception."""
    candidates = [_read(holder, "status_code") for holder in (_read(error, "response"), error)]
    if "aiohttp.client_exceptions.ClientResponseError" in names:
        candidates.append(_read(error, "status"))
    if "urllib.error.HTTPError" in names:
        candidates.append(_read(error, "code"))
    return next((status for status in candidates if isinstance(status, int) and 400 <= status < 600), None)


def _from_status(status: int, headers: Callable[[], Mapping[str, str]]) -> Classification:
    classification = _BY_STATUS.get(status) or (UNAVAILABLE if status >= 500 else INVALID_INPUT)
    wait = _wait_in(headers) if classification.retryable else None
    return classification if wait is None else replace(classification, retry_after=wait)


def _wait_in(read: Callable[[], Mapping[str, str]]) -> int | None:
    """Return the wait in `Retry-After`, which has seconds, or a date that is compared with the response's date."""
    try:
        headers = read()
        text = headers.get("retry-after", "").strip()
        if text.replace(".", "", 1).isdecimal():
            seconds = float(text)
        else:
            seconds = (parsedate_to_datetime(text) - parsedate_to_datetime(headers["date"])).total_seconds()
    except BaseException:  # the header fields are the action's objects
        return None
    return MAX_WAIT if seconds * SECOND > MAX_WAIT else _clamp(round(seconds * SECOND), MAX_WAIT)


def _headers_of(error: BaseException) -> Mapping[str, str]:
    """Return the header fields of the HTTP response in an exception, with names in lower case."""
    for holder in (_read(error, "response"), error):
        headers = _read(holder, "headers")
        if headers is not None and hasattr(headers, "items"):
            return {str(name).lower(): str(value) for name, value in islice(headers.items(), MAX_HEADERS)}
    return {}


def _clamp(nanos: int, most: int) -> int:
    return min(max(nanos, 0), most)
