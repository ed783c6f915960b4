"""The digests of workflows that were not computed when their runs started: of large ones, and of version 0.1.0."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from google.protobuf.message import DecodeError

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.engine.errors import RunNotFound
from stepwave_server.journal import Header
from stepwave_server.wire.workflows.content import digest

__all__ = ["DigestCache"]

MAX_DIGESTS = 10_000
"""Digests that are kept. The oldest is forgotten first."""


class DigestCache:
    """Computes digests on a thread when they are asked for, and keeps them.

    Args:
        header: Returns the definition of a run.
    """

    def __init__(self, header: Callable[[RunKey], Awaitable[Header]]) -> None:
        self._header = header
        self._digests: dict[tuple[RunKey, int], str] = {}  # by creation time, too: an id can be used again

    async def fill(self, info: RunInfo) -> RunInfo:
        """Return the information of a run with its workflow's digest, unless the run was deleted meanwhile."""
        if info.workflow_digest:
            return info
        key = info.key, info.create_time
        if key not in self._digests:
            try:
                workflow = (await self._header(info.key)).workflow
            except RunNotFound:
                return info
            self._digests[key] = await asyncio.to_thread(_digest, workflow)
            while len(self._digests) > MAX_DIGESTS:
                del self._digests[next(iter(self._digests))]
        return replace(info, workflow_digest=self._digests[key])


def _digest(workflow: bytes) -> str:
    """Return the digest of a stored workflow; empty: the journal is damaged there."""
    try:
        return digest(workflow)
    except (DecodeError, ValueError):
        return ""
