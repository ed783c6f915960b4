"""What an exception says of its failure: which kind it is, whether another attempt could help, and when.

Libraries are told by the names of their classes, so that none has to be installed: httpx, requests, aiohttp, urllib and
gRPC. An HTTP answer is judged by its status (RFC 9110, section 15), with its `Retry-After` (section 10.2.3).

An exception is an object of the action's: its attributes may raise, or be anything. So every one is read on its own,
and one that cannot be read says nothing. Nothing in here raises.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from itertools import islice

from stepwave._actions.failure import ActionError, FailureReason
from stepwave_server.core.model import SECOND, Reason

__all__ = ["MOST_CAUSES", "Classification", "causes_of", "judge"]

MICROSECOND = timedelta(microseconds=1)
MOST_CAUSES = 50
MOST_HEADERS = 1_000
LONGEST_WAIT = 24 * 3600 * SECOND
"""What a service may ask for, in nanoseconds: it is cut to a day."""

LONGEST_OWN_WAIT = 36_525 * 24 * 3600 * SECOND
"""What an action may ask for, in nanoseconds: a hundred years, the longest duration of a workflow."""

_CAUSE = BaseException.__dict__["__cause__"]
_EXCEPTIONS = BaseExceptionGroup.__dict__["exceptions"]
"""What the interpreter itself knows of an exception, though its class may say otherwise."""


@dataclass(frozen=True, slots=True)
class Classification:
    """What becomes of a failure.

    Attributes:
        reason: Its kind.
        retryable: Whether another attempt could help.
        retry_after: How many nanoseconds to wait before it; `None`: it does not matter.
    """

    reason: Reason
    retryable: bool = True
    retry_after: int | None = None


TIMEOUT = Classification(Reason.TIMEOUT)
UNAVAILABLE = Classification(Reason.UNAVAILABLE)
RATE_LIMITED = Classification(Reason.RATE_LIMITED)
INVALID = Classification(Reason.INVALID_INPUT, retryable=False)
UNAUTHORIZED = Classification(Reason.UNAUTHORIZED, retryable=False)
NOT_FOUND = Classification(Reason.NOT_FOUND, retryable=False)
BROKEN = Classification(Reason.ACTION_ERROR)

_NAMES = {
    "httpx.TimeoutException": TIMEOUT,
    "httpx.TransportError": UNAVAILABLE,
    "requests.exceptions.Timeout": TIMEOUT,
    "requests.exceptions.ConnectionError": UNAVAILABLE,
    "aiohttp.client_exceptions.ClientConnectionError": UNAVAILABLE,
    "urllib.error.URLError": UNAVAILABLE,
    "socket.gaierror": UNAVAILABLE,
    "http.client.RemoteDisconnected": UNAVAILABLE,
    "http.client.IncompleteRead": UNAVAILABLE,
    "asyncio.exceptions.CancelledError": BROKEN,
}
_STATUSES = {
    401: UNAUTHORIZED,
    403: UNAUTHORIZED,
    404: NOT_FOUND,
    408: TIMEOUT,
    409: BROKEN,
    410: NOT_FOUND,
    423: UNAVAILABLE,
    425: UNAVAILABLE,
    429: RATE_LIMITED,
    501: Classification(Reason.ACTION_ERROR, retryable=False),
    504: TIMEOUT,
    505: Classification(Reason.ACTION_ERROR, retryable=False),
}
_CODES = {
    "INVALID_ARGUMENT": INVALID,
    "OUT_OF_RANGE": INVALID,
    "UNIMPLEMENTED": INVALID,
    "FAILED_PRECONDITION": INVALID,
    "ALREADY_EXISTS": INVALID,
    "NOT_FOUND": NOT_FOUND,
    "UNAUTHENTICATED": UNAUTHORIZED,
    "PERMISSION_DENIED": UNAUTHORIZED,
    "DEADLINE_EXCEEDED": TIMEOUT,
    "UNAVAILABLE": UNAVAILABLE,
    "RESOURCE_EXHAUSTED": RATE_LIMITED,
}


def judge(error: BaseException) -> Classification:
    """Judge an exception, or the first of its causes that says something: wrapping changes neither kind nor hope.

    Of a group, what is permanent counts first: another attempt would meet it again.
    """
    found_all = [verdict for verdict in map(_judge_one, causes_of(error)) if verdict is not None]
    permanent = (verdict for verdict in found_all if not verdict.retryable)
    if issubclass(type(error), BaseExceptionGroup) and (found := next(permanent, None)):
        return found
    return (
        found_all[0] if found_all else Classification(Reason.ACTION_ERROR, retryable=issubclass(type(error), Exception))
    )


def causes_of(error: BaseException) -> list[BaseException]:
    """Return an exception, what it was raised from, and what a group holds, each once; the first `MOST_CAUSES`."""
    return list(islice(_causes(error), MOST_CAUSES))


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
            waiting += _EXCEPTIONS.__get__(one)[:MOST_CAUSES]
        if (cause := _CAUSE.__get__(one)) is not None:
            waiting.append(cause)


def _judge_one(error: BaseException) -> Classification | None:
    """Judge an exception by itself; `None`: it says nothing."""
    try:
        if issubclass(type(error), ActionError):
            return _by_action(error)
        return _by_library(error, [f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__])
    except BaseException:  # what was asked is the action's code
        return None


def _by_action(error: BaseException) -> Classification:
    """Judge what an action says itself; a subclass may have left out any of it."""
    reason, retryable, wait = (_read(error, name) for name in ("reason", "retryable", "retry_after"))
    if not isinstance(reason, FailureReason) or reason is FailureReason.UNKNOWN:
        reason = FailureReason.ACTION_ERROR
    return Classification(
        Reason[reason.name],
        retryable if isinstance(retryable, bool) else True,
        _cut_wait(wait // MICROSECOND * 1_000, LONGEST_OWN_WAIT) if isinstance(wait, timedelta) else None,
    )


def _by_library(error: BaseException, names: Sequence[str]) -> Classification | None:
    if "grpc.RpcError" in names:
        return _CODES.get(_code_of(error))
    status = _status_of(error, names)
    if status is not None:
        return _by_status(status, error)
    known = next((_NAMES[name] for name in names if name in _NAMES), None)
    if known is not None:
        return known
    if issubclass(type(error), TimeoutError):
        return TIMEOUT
    return UNAVAILABLE if issubclass(type(error), ConnectionError) else None


def _read(place: object, name: str) -> object:
    """Return an attribute; `None` if there is none, or it cannot be read."""
    try:
        return getattr(place, name, None)
    except BaseException:  # a property is the action's code
        return None


def _code_of(error: BaseException) -> str:
    code = _read(error, "code")
    return str(_read(code() if callable(code) else code, "name"))


def _status_of(error: BaseException, names: Sequence[str]) -> int | None:
    """Return the status of the HTTP answer that an exception is about."""
    places = [_read(error, "response"), error]
    found = [_read(place, "status_code") for place in places]
    if "aiohttp.client_exceptions.ClientResponseError" in names:
        found.append(_read(error, "status"))
    if "urllib.error.HTTPError" in names:
        found.append(_read(error, "code"))
    return next((status for status in found if isinstance(status, int) and 400 <= status < 600), None)


def _by_status(status: int, error: BaseException) -> Classification:
    verdict = _STATUSES.get(status) or (UNAVAILABLE if status >= 500 else INVALID)
    wait = _wait_of(error) if verdict.retryable else None
    return verdict if wait is None else Classification(verdict.reason, retryable=True, retry_after=wait)


def _wait_of(error: BaseException) -> int | None:
    """Return what `Retry-After` asks for: seconds, or a date, which is held against the answer's own."""
    try:
        headers = _headers_of(error)
        text = headers.get("retry-after", "").strip()
        if text.replace(".", "", 1).isdecimal():
            seconds = float(text)
        else:
            seconds = (parsedate_to_datetime(text) - parsedate_to_datetime(headers["date"])).total_seconds()
    except BaseException:  # the header fields are the action's objects, and their text anything
        return None
    return LONGEST_WAIT if seconds * SECOND > LONGEST_WAIT else _cut_wait(round(seconds * SECOND), LONGEST_WAIT)


def _headers_of(error: BaseException) -> Mapping[str, str]:
    """Return the header fields of the HTTP answer that an exception is about, their names in lower case."""
    for place in (_read(error, "response"), error):
        headers = _read(place, "headers")
        if headers is not None and hasattr(headers, "items"):
            return {str(name).lower(): str(value) for name, value in islice(headers.items(), MOST_HEADERS)}
    return {}


def _cut_wait(nanos: int, most: int) -> int:
    return min(max(nanos, 0), most)
