"""What an exception says of its failure: which kind it is, whether another attempt could help, and when.

Libraries are told by the names of their classes, so that none has to be installed: httpx, requests, aiohttp, urllib and
gRPC. An HTTP answer is judged by its status (RFC 9110, section 15), with its `Retry-After` (section 10.2.3).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from itertools import islice

from stepwave import ActionError
from stepwave_server.core.model import Reason
from stepwave_server.core.state import SECOND

__all__ = ["Verdict", "judge"]

MICROSECOND = timedelta(microseconds=1)
MOST_CAUSES = 50
LONGEST_WAIT = 24 * 3600 * SECOND
"""What a service may ask for, in nanoseconds: it is cut to a day."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a failure.

    Attributes:
        reason: Its kind.
        retryable: Whether another attempt could help.
        retry_after: How many nanoseconds to wait before it; `None`: it does not matter.
    """

    reason: Reason
    retryable: bool = True
    retry_after: int | None = None


TIMEOUT = Verdict(Reason.TIMEOUT)
UNAVAILABLE = Verdict(Reason.UNAVAILABLE)
RATE_LIMITED = Verdict(Reason.RATE_LIMITED)
INVALID = Verdict(Reason.INVALID_INPUT, retryable=False)
UNAUTHORIZED = Verdict(Reason.UNAUTHORIZED, retryable=False)
NOT_FOUND = Verdict(Reason.NOT_FOUND, retryable=False)
BROKEN = Verdict(Reason.ACTION_ERROR)

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
    501: Verdict(Reason.ACTION_ERROR, retryable=False),
    504: TIMEOUT,
    505: Verdict(Reason.ACTION_ERROR, retryable=False),
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


def judge(error: BaseException) -> Verdict:
    """Judge an exception, or the first of its causes that says something: wrapping changes neither kind nor hope.

    Of a group, what is permanent counts first: another attempt would meet it again.
    """
    verdicts = [verdict for verdict in map(_judge_one, islice(_causes(error), MOST_CAUSES)) if verdict is not None]
    permanent = (verdict for verdict in verdicts if not verdict.retryable)
    if isinstance(error, BaseExceptionGroup) and (found := next(permanent, None)):
        return found
    return verdicts[0] if verdicts else Verdict(Reason.ACTION_ERROR, retryable=isinstance(error, Exception))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, what it was raised from, and what a group holds, each once."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        if one.__cause__ is not None:
            waiting.append(one.__cause__)


def _judge_one(error: BaseException) -> Verdict | None:
    """Judge an exception by itself; `None`: it says nothing."""
    if isinstance(error, ActionError):
        wait = None if error.retry_after is None else error.retry_after // MICROSECOND * 1_000
        return Verdict(Reason[error.reason.name], error.retryable, wait)
    names = [f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__]
    if "grpc.RpcError" in names:
        return _CODES.get(_code_of(error))
    status = _status_of(error, names)
    if status is not None:
        return _by_status(status, _headers_of(error))
    known = next((_NAMES[name] for name in names if name in _NAMES), None)
    if known is not None:
        return known
    if isinstance(error, TimeoutError):
        return TIMEOUT
    return UNAVAILABLE if isinstance(error, ConnectionError) else None


def _code_of(error: BaseException) -> str:
    code = getattr(error, "code", None)
    return str(getattr(code() if callable(code) else code, "name", ""))


def _status_of(error: BaseException, names: Iterable[str]) -> int | None:
    """Return the status of the HTTP answer that an exception is about."""
    places = [getattr(error, "response", None), error]
    found = [getattr(place, "status_code", None) for place in places]
    if "aiohttp.client_exceptions.ClientResponseError" in names:
        found.append(getattr(error, "status", None))
    if "urllib.error.HTTPError" in names:
        found.append(getattr(error, "code", None))
    return next((status for status in found if isinstance(status, int) and 400 <= status < 600), None)


def _headers_of(error: BaseException) -> Mapping[str, str]:
    """Return the header fields of the HTTP answer that an exception is about, their names in lower case."""
    for place in (getattr(error, "response", None), error):
        headers = getattr(place, "headers", None)
        if headers is not None and hasattr(headers, "items"):
            return {str(name).lower(): str(value) for name, value in headers.items()}
    return {}


def _by_status(status: int, headers: Mapping[str, str]) -> Verdict:
    verdict = _STATUSES.get(status) or (UNAVAILABLE if status >= 500 else INVALID)
    wait = _wait_of(headers) if verdict.retryable else None
    return verdict if wait is None else Verdict(verdict.reason, retryable=True, retry_after=wait)


def _wait_of(headers: Mapping[str, str]) -> int | None:
    """Return what `Retry-After` asks for: seconds, or a date, which is held against the answer's own."""
    text = headers.get("retry-after", "").strip()
    try:
        if text.replace(".", "", 1).isdecimal():
            wait = float(text)
        else:
            wait = (parsedate_to_datetime(text) - parsedate_to_datetime(headers["date"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None
    return min(max(round(wait * SECOND), 0), LONGEST_WAIT)
