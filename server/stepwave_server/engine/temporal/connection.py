"""The connection of a server to Temporal: whether Temporal answers, and how long calls wait for it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError

from stepwave_server.engine.errors import JournalUnavailable

__all__ = ["Connection"]

logger = logging.getLogger(__name__)

CALL_SECONDS = 10.0
"""Seconds after which a request to Temporal has failed, if the checks succeed meanwhile."""

CHECK_TIMEOUT = 4.0
"""Seconds within which Temporal answers a check. If it does not, the waits of all calls end."""

CHECK_SECONDS = 1.0
"""Seconds between two checks whether Temporal answers."""

END_SECONDS = 2.0
"""Seconds that workers get to end while Temporal does not answer. They would repeat their last requests for longer."""


class Connection:
    """Knows whether Temporal answers, and ends the waits of calls when it does not.

    Attributes:
        trouble: Why it does not answer; empty: it answers.

    Args:
        client: The client of Temporal.
        address: The address of Temporal, for messages.
    """

    def __init__(self, client: Client, address: str) -> None:
        self.trouble = ""
        self._client = client
        self._address = address
        self._waits: set[asyncio.Timeout] = set()

    def unavailable(self, reason: RPCError | str) -> JournalUnavailable:
        """Return the error of a call that Temporal does not answer."""
        text = reason.message if isinstance(reason, RPCError) else reason
        return JournalUnavailable(f"Temporal at {self._address} does not answer: {text}")

    async def watch(self, listener: Callable[[str], None]) -> None:
        """Check again and again whether Temporal answers.

        Args:
            listener: Called with the reason when it does not answer, and with an empty string when it answers again.
        """
        while True:
            trouble = await self._check()
            if trouble != self.trouble:
                self.trouble = trouble
                listener(trouble)
            if trouble:
                for wait in [one for one in self._waits if not one.expired()]:
                    wait.reschedule(asyncio.get_running_loop().time())
            await asyncio.sleep(CHECK_SECONDS)

    async def _check(self) -> str:
        """Return why Temporal does not answer; empty: it answers."""
        try:
            await self._client.service_client.check_health(timeout=timedelta(seconds=CHECK_TIMEOUT))
        except RPCError as error:
            return self.unavailable(error).reason
        return ""

    @asynccontextmanager
    async def waiting(self, seconds: float | None = CALL_SECONDS) -> AsyncIterator[None]:
        """Wait for Temporal while inside, as long as it answers.

        Args:
            seconds: The most that is waited; `None`: until what is awaited comes.

        Raises:
            JournalUnavailable: It does not answer.
        """
        if self.trouble:
            raise JournalUnavailable(self.trouble)
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                self._waits.add(scope)
                try:
                    yield
                finally:
                    self._waits.discard(scope)
        except TimeoutError:
            if not scope.expired():
                raise
            raise self._timed_out() from None
        except RPCError as error:
            raise self.unavailable(error) from error

    async def ends(self, ending: "asyncio.Task[None]") -> bool:
        """Wait until workers have ended, and return true. While Temporal does not answer, wait for a short time only.

        Workers that are left end by themselves later. Temporal gives away again what they could not report.
        """
        try:
            async with self.waiting(None):
                await asyncio.wait({ending})
        except JournalUnavailable as error:
            if not (await asyncio.wait({ending}, timeout=END_SECONDS))[0]:
                logger.warning("%s; this process stops all the same, and others do again what it cannot report", error)
                return False
        await ending
        return True

    def _timed_out(self) -> JournalUnavailable:
        return JournalUnavailable(self.trouble) if self.trouble else self.unavailable("the time is up")
