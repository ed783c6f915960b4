"""One client's link to its server: calls that are tried again while nobody answers, and the patience they have."""

import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from stepwave.exceptions import DeadlineExceeded, ServerUnavailable

from .base import Stream, Transport, Unary

__all__ = ["Link", "LinkSettings", "Patience"]

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

Request = TypeVar("Request")
Response = TypeVar("Response")


class Patience:
    """Pauses between tries, until a window has passed without success.

    They grow from 0.1 s by doubling to 5 s, and each is drawn from the whole of that length ("full jitter": Marc
    Brooker, "Exponential Backoff and Jitter"), so that the clients of a server that comes back don't all come at once.
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

    def renew(self) -> None:
        """Start afresh, after a success."""
        self._longest = 0.0
        self._since = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """What a client was told about its calls. All times in seconds.

    Attributes:
        namespace: The namespace of all calls; empty: the server's default.
        timeout: How long a call may take, its tries together.
        connect_timeout: For how long a call is tried again while nobody answers.
        reconnect_window: For how long a stream that was lost is looked for, and a run outlives the stream that held it.
    """

    namespace: str
    timeout: float
    connect_timeout: float
    reconnect_window: float


class Link:
    """A transport, and how to use it.

    Args:
        transport: The transport.
        settings: How long calls may take, and how long they are tried again.
        draw: Returns a random number from 0 to 1, for the length of a pause.
        deadline: When the last of its calls has to end, by the transport's clock.
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

    def lasting(self, deadline: float | None) -> "Link":
        """Return a link to the same server that looks for it as long as a stream that was lost does.

        Args:
            deadline: When the last of its calls has to end, by the transport's clock; `None`: whenever it does.
        """
        window = max(self.settings.connect_timeout, self.settings.reconnect_window)
        settings = replace(self.settings, connect_timeout=window, timeout=window + self.settings.timeout)
        return Link(self.transport, settings, draw=self._draw, deadline=math.inf if deadline is None else deadline)

    def patience(self, window: float) -> Patience:
        """Return a new patience for a window in seconds."""
        return Patience(window, now=self.transport.now, draw=self._draw)

    async def call(
        self, method: Unary[Request, Response], request: Request, *, within: float | None = None
    ) -> Response:
        """Make a call, again and again while nobody answers and patience lasts; the contract's calls allow that.

        Args:
            method: The call.
            request: What to send.
            within: How long it may take in seconds, its tries together; `None`: the client's timeout.

        Raises:
            StepwaveError: The call failed.
        """
        return await self._until_answered(
            method.name, lambda left: self.transport.unary(method, request, left), within=within
        )

    async def read_all(self, method: Stream[Request, Response], request: Request) -> list[Response]:
        """Make a streaming call that ends by itself, and return all its messages; begun afresh where it breaks.

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
        patience = self.patience(self.settings.connect_timeout)
        while (left := deadline - self.transport.now()) > 0:
            try:
                return await ask(left)
            except ServerUnavailable:
                pause = patience.pause()
                if pause is None:
                    raise
                await self.transport.sleep(min(pause, left))
        raise DeadlineExceeded(f"{name}: no answer from {self.transport.address} in time")
