"""The connection to Redis, and whether it answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

__all__ = ["FAILURES", "Health", "RedisUnavailable", "answer", "check", "client_of", "shown"]

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 3.0
"""Seconds in which Redis accepts a connection, and answers a command."""

FAILURES = (RedisError, OSError, TimeoutError)
"""The exceptions by which commands fail."""


class RedisUnavailable(Exception):
    """Raised when Redis cannot be used at the start. The message names its address."""


def client_of(url: str) -> Redis:
    """Return a client of Redis. It connects when it is used.

    Raises:
        RedisUnavailable: The address is malformed.
    """
    try:
        return Redis.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
        )
    except ValueError as error:
        raise RedisUnavailable(f"the address for chunks and logs, {shown(url)}, is malformed: {error}") from error


async def answer(request: Awaitable[Answer]) -> Answer:
    """Return the answer to a request. A cancel of the caller is never lost.

    The client sends by `asyncio.wait_for`, which in Python 3.11 swallows a cancel that comes when it is done
    (https://github.com/python/cpython/issues/86296). The caller would then go on, and who waits for its end would hang.

    Raises:
        RedisError, OSError, TimeoutError: The request failed.
    """
    try:
        return await request
    finally:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError


async def check(url: str) -> None:
    """Check that Redis answers.

    Raises:
        RedisUnavailable: The address is malformed, or Redis does not answer.
    """
    redis = client_of(url)
    try:
        await answer(redis.execute_command("PING"))  # type: ignore[no-untyped-call]  # redis leaves it untyped
    except FAILURES as error:
        reason = str(error) or type(error).__name__
        raise RedisUnavailable(f"Redis at {shown(url)}, for chunks and logs, does not answer: {reason}") from error
    finally:
        await redis.aclose()


def shown(url: str) -> str:
    """Return an address without its user and password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


class Health:
    """Whether Redis answers. It logs one line when that changes.

    Args:
        address: The address of Redis, as it is shown.
        lost: What is lost while it does not answer.
    """

    def __init__(self, address: str, lost: str, log: Callable[..., None] = logger.warning) -> None:
        self._address = address
        self._lost = lost
        self._log = log
        self.failing = False

    def failed(self, error: BaseException) -> None:
        """Note that a command failed."""
        if not self.failing:
            self.failing = True
            reason = str(error) or type(error).__name__
            self._log("%s until Redis at %s answers again: %s", self._lost, self._address, reason)

    def answered(self) -> None:
        """Note that a command succeeded."""
        if self.failing:
            self.failing = False
            self._log("Redis at %s answers again", self._address)
