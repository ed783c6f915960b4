"""The streams of known callers, which end when their callers may no longer have them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from stepwave_server.engine.errors import EngineError
from stepwave_server.rpc.statuses import CallRefused

__all__ = ["OpenStreams", "Refused", "Review"]

Refused: TypeAlias = CallRefused | EngineError

Review: TypeAlias = Callable[[], Awaitable[Refused | None]]
"""Returns why a call would be refused now; `None`: it would not."""

AT_A_TIME = 100
"""Streams that are reviewed before other tasks have a turn."""


class _Stream:
    """A stream that is open.

    Attributes:
        review: Returns why it would be refused now.
        scope: The block of its handler, which can be ended.
        refusal: Why it was ended; `None`: it was not.
    """

    __slots__ = ("refusal", "review", "scope")

    def __init__(self, review: Review, scope: asyncio.Timeout) -> None:
        self.review = review
        self.scope = scope
        self.refusal: Refused | None = None


class OpenStreams:
    """Ends streams that would be refused now. Nothing is done while the rules stay the same."""

    def __init__(self) -> None:
        self._streams: set[_Stream] = set()
        self._reviewing: asyncio.Task[None] | None = None
        self._again = False

    @asynccontextmanager
    async def until_refused(self, review: Review) -> AsyncIterator[None]:
        """Count a stream as open while inside.

        Raises:
            CallRefused, EngineError: It was ended, because it would be refused now.
        """
        scope = asyncio.timeout(None)
        stream = _Stream(review, scope)
        try:
            async with scope:
                self._streams.add(stream)
                yield
        except TimeoutError:
            if stream.refusal is None:
                raise
            raise stream.refusal from None
        finally:
            self._streams.discard(stream)

    def review(self) -> None:
        """Begin to review all streams: other rules hold."""
        self._again = True
        if self._reviewing is None or self._reviewing.done():
            self._reviewing = asyncio.create_task(self._review(), name="review of open streams")

    async def _review(self) -> None:
        while self._again:
            self._again = False
            for number, stream in enumerate(list(self._streams)):
                if number % AT_A_TIME == 0:
                    await asyncio.sleep(0)
                refusal = await stream.review()
                if refusal is not None and stream in self._streams and stream.refusal is None:
                    stream.refusal = refusal
                    stream.scope.reschedule(asyncio.get_running_loop().time())
