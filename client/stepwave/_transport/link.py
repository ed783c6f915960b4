"""A client's link to its server: calls, retried while the server does not answer."""

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol, TypeVar

from stepwave._values.time import Seconds, to_seconds
from stepwave.exceptions import DeadlineExceeded, LimitExceeded, ServerUnavailable, StepwaveError

from .base import Stream, Transport, Unary

__all__ = ["Backoff", "Link", "LinkSettings", "connect"]

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

Request = TypeVar("Request")
Response = TypeVar("Response")


class _PageRequest(Protocol):
    page_token: str


class _PageResponse(Protocol):
    @property
    def next_page_token(self) -> str: ...


PageRequest = TypeVar("PageRequest", bound=_PageRequest)
Page = TypeVar("Page", bound=_PageResponse)


class Backoff:
    """Pauses between attempts of a call, until a window has passed without success.

    Exponential backoff with full jitter (Marc Brooker, "Exponential Backoff and Jitter"): the longest pause doubles
    from 0.1 s to 5 s, and each pause is a random part of it. So clients do not all return to a server at once.
    """

    def __init__(self, window: float, *, now: Callable[[], float], draw: Callable[[], float]) -> None:
        self.window = window
        self._now = now
        self._draw = draw
        self._longest = 0.0
        self._since: float | None = None

    def pause(self) -> float | None:
        """Return how long to wait before the next try, in seconds; `None`: the window has passed."""
        now = self._now()
        if self._since is None:
            self._since = now
        left = self._since + self.window - now
        if left <= 0:
            return None
        self._longest = min(_LONGEST_PAUSE, 2 * self._longest) if self._longest else _FIRST_PAUSE
        return min(left, self._draw() * self._longest)

    def pause_after(self, error: StepwaveError) -> float | None:
        """Return how long to wait before the next try; `None`: the window has passed, or no other try would succeed.

        A server that is at a limit says when to try again.
        """
        asked = error.retry_after if isinstance(error, LimitExceeded) else timedelta()
        pause = None if asked is None else self.pause()
        return None if asked is None or pause is None else max(pause, asked.total_seconds())

    def reset(self) -> None:
        """Reset the pauses and the window, after a success."""
        self._longest = 0.0
        self._since = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """The settings of a client's calls. All times in seconds.

    Attributes:
        namespace: The namespace of all calls; empty: the server's default.
        timeout: The longest that a call may take, with all its attempts.
        connect_timeout: How long a call is retried while the server does not answer.
        reconnect_window: How long a lost stream is retried, and how long a run continues without one.
    """

    namespace: str
    timeout: float
    connect_timeout: float
    reconnect_window: float


class Link:
    """A transport with the settings of its calls.

    Args:
        transport: The transport.
        settings: The time limits of calls.
        draw: Returns a random number from 0 to 1, for the length of a pause.
        deadline: When all calls must have ended, by the transport's clock.
    """

    def __init__(
        self,
        transport: Transport,
        settings: LinkSettings,
        *,
        draw: Callable[[], float] = random.random,
        deadline: float = math.inf,
    ) -> None:
        self.transport = transport
        self.settings = settings
        self._draw = draw
        self._deadline = deadline

    def patient(self, deadline: float | None) -> "Link":
        """Return a link to the same server whose calls are retried as long as a lost stream is.

        Args:
            deadline: When all its calls must have ended, by the transport's clock; `None`: no limit.
        """
        window = max(self.settings.connect_timeout, self.settings.reconnect_window)
        settings = replace(self.settings, connect_timeout=window, timeout=window + self.settings.timeout)
        return Link(self.transport, settings, draw=self._draw, deadline=math.inf if deadline is None else deadline)

    def backoff(self, window: float) -> Backoff:
        """Return a new backoff for a window in seconds."""
        return Backoff(window, now=self.transport.now, draw=self._draw)

    async def call(
        self, method: Unary[Request, Response], request: Request, *, within: float | None = None
    ) -> Response:
        """Make a call, and retry it while the server does not answer. All calls of the contract may be retried.

        Args:
            method: The call.
            request: The request.
            within: The longest that it may take in seconds, with all its attempts; `None`: the client's timeout.

        Raises:
            StepwaveError: The call failed.
        """
        return await self._until_answered(
            method.name, lambda left: self.transport.unary(method, request, left), within=within
        )

    async def pages(self, method: Unary[PageRequest, Page], request: PageRequest) -> AsyncIterator[Page]:
        """Yield the pages of a list, each requested when it is wanted.

        Raises:
            StepwaveError: A call failed.
        """
        while True:
            page = await self.call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def read_all(self, method: Stream[Request, Response], request: Request) -> list[Response]:
        """Make a streaming call that ends by itself, and return all its messages. It restarts if the stream is lost.

        Raises:
            StepwaveError: The call failed.
        """

        async def read(left: float) -> list[Response]:
            stream = self.transport.stream(method, request, left)
            try:
                messages = []
                while (message := await stream.read()) is not None:
                    messages.append(message)
                return messages
            finally:
                stream.cancel()

        return await self._until_answered(method.name, read)

    async def _until_answered(
        self, name: str, ask: Callable[[float], Awaitable[Response]], *, within: float | None = None
    ) -> Response:
        deadline = min(self._deadline, self.transport.now() + (self.settings.timeout if within is None else within))
        backoff = self.backoff(self.settings.connect_timeout)
        while (left := deadline - self.transport.now()) > 0:
            try:
                return await ask(left)
            except (ServerUnavailable, LimitExceeded) as error:
                pause = backoff.pause_after(error)
                if pause is None:
                    raise
                await self.transport.sleep(min(pause, left))
        raise DeadlineExceeded(f"{name}: no answer from {self.transport.address} in time")


def connect(
    transport: Transport, *, timeout: Seconds, connect_timeout: Seconds, reconnect_window: Seconds, namespace: str
) -> Link:
    """Return a link for the settings of a client. Nothing is sent yet."""
    settings = LinkSettings(
        namespace=namespace,
        timeout=to_seconds(timeout),
        connect_timeout=to_seconds(connect_timeout),
        reconnect_window=to_seconds(reconnect_window),
    )
    return Link(transport, settings)
