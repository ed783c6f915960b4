"""Attachments on a cluster: runs are told whether streams of this server are attached to them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from stepwave_server.core.info import RunKey
from stepwave_server.engine.errors import EngineError, JournalUnavailable
from stepwave_server.rpc.attachments import Attachment

__all__ = ["SharedAttachments"]

RETRY_SECONDS = 0.5
"""Seconds after which a change is told again if Temporal did not answer."""


@dataclass(slots=True)
class _HeldRun:
    """A run that streams of this server hold, or held.

    Attributes:
        streams: The number of streams that are attached.
        told: Whether its workflow was told that this server holds it.
        ended: Whether one of the streams has sent the run's last event.
    """

    streams: int = 0
    told: bool = False
    ended: bool = False
    teller: asyncio.Task[None] | None = None


class SharedAttachments:
    """The streams of this server that are attached to runs.

    A run is told that this server holds it when its first stream attaches, and that it does not when the last one has
    left before the end. A run that this server starts for a stream knows it from its start.

    Args:
        tell: Tells a run a change.
    """

    def __init__(self, tell: Callable[[RunKey, Literal["attach", "release"]], Awaitable[None]]) -> None:
        self._tell = tell
        self._runs: dict[RunKey, _HeldRun] = {}
        self._closed = False

    def add(self, key: RunKey, window: float) -> None:
        """Add a run that this server has started for a stream."""
        self._runs[key] = _HeldRun(told=True)

    def recover(self, key: RunKey, window: float, *, crashed: bool) -> None:
        """Do nothing: the holds of runs are kept in Temporal."""

    def detach(self, key: RunKey) -> None:
        """Do nothing: the engine detaches the run."""

    def lose(self) -> None:
        """Tell again which runs this server holds: it was taken for gone."""
        for key, run in self._runs.items():
            run.told = False
            self._settle(key, run)

    @contextmanager
    def attach(self, key: RunKey) -> Iterator[Attachment]:
        """Attach a stream to a run while inside. A detached run stays detached."""
        attachment = Attachment()
        run = self._runs.setdefault(key, _HeldRun())
        run.streams += 1
        self._settle(key, run)
        try:
            yield attachment
        finally:
            run.streams -= 1
            run.ended = run.ended or attachment.ended
            self._settle(key, run)

    def _settle(self, key: RunKey, run: _HeldRun) -> None:
        """Tell a run whether this server holds it, if it does not know."""
        if run.ended or self._closed or run.told == bool(run.streams):
            if not run.streams and run.teller is None:
                self._forget(key, run)
        elif run.teller is None:
            run.teller = asyncio.create_task(self._tell_all(key, run), name=f"holds of {key.run_id}")

    async def _tell_all(self, key: RunKey, run: _HeldRun) -> None:
        try:
            while run.told != bool(run.streams) and not run.ended:
                held = bool(run.streams)
                try:
                    await self._tell(key, "attach" if held else "release")
                except JournalUnavailable:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                except EngineError:  # it has ended, or does not exist
                    run.ended = True
                run.told = held
        finally:
            run.teller = None
            if not run.streams:
                self._forget(key, run)

    def _forget(self, key: RunKey, run: _HeldRun) -> None:
        if self._runs.get(key) is run:
            del self._runs[key]

    def close(self) -> None:
        """Tell nothing any more: the server is stopping, which is no loss. Its presence tells that it has."""
        self._closed = True
        for run in self._runs.values():
            if run.teller is not None:
                run.teller.cancel()
