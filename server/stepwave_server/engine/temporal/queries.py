"""Queries on runs on Temporal. Each reads the history of its run up to now, and answers from what follows from it."""

from abc import ABC
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager

from stepwave.v1 import workflow_pb2
from stepwave_server.core.explanation import Explanation, Waiting
from stepwave_server.core.info import LimitInfo, RunInfo, RunKey
from stepwave_server.core.messages import StepFinished
from stepwave_server.engine.base import Batch, LogPage, Page, StepPage
from stepwave_server.engine.checks import RunChecks
from stepwave_server.engine.queries.explainer import explain
from stepwave_server.engine.temporal.followed_run import FollowedRun
from stepwave_server.engine.temporal.histories import Histories
from stepwave_server.engine.temporal.live import LiveRuns
from stepwave_server.engine.temporal.run_list import RunList
from stepwave_server.journal import Header, Listing, Position
from stepwave_server.wire.events.encode import Kind, Record

__all__ = ["TemporalQueries"]


class TemporalQueries(RunChecks[FollowedRun], ABC):
    """The queries of the engine. A subclass sets `_histories`, `_list` and `_live`."""

    _histories: Histories
    _list: RunList
    _live: LiveRuns

    async def info(self, key: RunKey) -> RunInfo:
        """Return the information of a run."""
        async with self._described(key):
            return await super().info(key)

    @asynccontextmanager
    async def _described(self, key: RunKey) -> AsyncIterator[FollowedRun | None]:
        """Read the history of a run, and find out which of its attempts have no host."""
        async with self._histories.using(key) as run:
            if run is not None:
                await self._live.find_unserved(run)
            yield run

    async def result(self, key: RunKey) -> Record:
        """Return the record of a run's `run_finished`."""
        async with self._histories.using(key):
            return await super().result(key)

    async def steps(self, key: RunKey, start: int, most: int) -> StepPage:
        """Return at most `most` steps of a run, from an index in declaration order."""
        async with self._histories.using(key):
            return await super().steps(key, start, most)

    async def logs(self, key: RunKey, step_id: str, after: int, most: int) -> LogPage:
        """Return at most `most` messages that actions of a run have logged, after a number."""
        async with self._histories.using(key):
            return await self._live.logs(key, self._histories.execution_of(key), step_id, after, most)

    async def added_steps(self, key: RunKey) -> Sequence[workflow_pb2.Step]:
        """Return the steps that were added to a run that has ended, in their order."""
        async with self._histories.using(key):
            return await super().added_steps(key)

    async def finished_steps(self, key: RunKey) -> Sequence[StepFinished]:
        """Return the `step_finished` events of a run that has ended, in their order."""
        async with self._histories.using(key):
            return await super().finished_steps(key)

    async def watch(
        self, key: RunKey, after: int, kinds: Collection[Kind], first: bytes = b""
    ) -> AsyncGenerator[Batch, None]:
        """Stream a run's events after a sequence number; see `RunQueries.watch`."""
        async with (
            self._histories.using(key) as run,
            self._live.watching(run),
            aclosing(super().watch(key, after, kinds, first)) as batches,
        ):
            async for batch in batches:
                yield batch

    async def header(self, key: RunKey) -> Header:
        """Return the definition of a run."""
        async with self._histories.using(key):
            return await super().header(key)

    async def explain(self, key: RunKey) -> Explanation:
        """Return what a run waits for."""
        async with self._described(key):
            return await super().explain(key)

    async def export(self, key: RunKey) -> AsyncGenerator[bytes, None]:
        """Yield the events of a run in parts."""
        async with self._histories.using(key), aclosing(super().export(key)) as parts:
            async for part in parts:
                yield part

    async def list_runs(self, listing: Listing, before: Position | None, most: int) -> Page:
        """Return at most `most` runs that match, newest first, after the position `before`."""
        return await self._list.page(listing, before, most)

    def _explain(self, run: FollowedRun) -> Explanation:
        return explain(run, self._clock())

    def waiting(self, key: RunKey) -> Sequence[Waiting]:
        """Return why ready steps of a run have not started, the most frequent reason first."""
        run = self._runs.get(key)
        return [] if run is None else run.waiting()

    def limits(self, action: str) -> Sequence[LimitInfo]:
        """Return the limits of an action, and their state now."""
        return []
