"""The list of runs, by Temporal's visibility. It is late by up to some seconds; what this server knows comes first.

Visibility cannot sort. So the list is read in windows of time, the newest first, each with a bounded number of runs.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import NamedTuple

from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.model import SECOND, State
from stepwave_server.engine.base import Page
from stepwave_server.engine.errors import JournalUnavailable, RunBroken, RunNotFound
from stepwave_server.engine.temporal.codec import microseconds, workflow_id_of
from stepwave_server.engine.temporal.followed_run import FollowedRun
from stepwave_server.engine.temporal.visibility import (
    INFO_MEMO,
    LABELS,
    WORKFLOW,
    from_memo,
    matches_none,
    query_of,
    time_text,
)
from stepwave_server.journal import Listing, MemoryJournal, Position

__all__ = ["RunList"]

LATE_NANOS = 10 * SECOND
"""Time after which visibility knows that a run has started or ended."""

MAX_RECENT = 1_000
"""Runs that this server has started in the last time, and that it lists without visibility."""

MAX_WINDOW = 2_000
"""Runs in one window, unless they all began within a microsecond."""

FIRST_WINDOW = 60 * SECOND
MIN_WINDOW = 1_000
GROWTH = 4

MAX_DERIVED = 20
"""Runs under way whose histories are read at once."""

TIMEOUT = timedelta(seconds=10)


class _Found(NamedTuple):
    """A run that visibility has.

    Attributes:
        key: Its key.
        create_time: When its workflow started, in nanoseconds since the epoch.
        execution: The workflow.
    """

    key: RunKey
    create_time: int
    execution: WorkflowExecution

    @property
    def position(self) -> Position:
        return self.create_time, self.key.run_id


class RunList:
    """Lists the runs of one task queue.

    Args:
        client: The client of Temporal.
        task_queue: The task queue of the runs.
        clock: Returns the time in nanoseconds since the epoch.
        runs: The runs under way whose histories this server reads.
        cache: Has the runs that have ended, and that this server has in memory.
        info: Derives the information of a run from its history.
        is_deleted: Returns whether a workflow, by its Temporal run id, was deleted on this server.
        unavailable: Returns an error of Temporal as the error of a call.
    """

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str,
        clock: Callable[[], int],
        runs: Mapping[RunKey, FollowedRun],
        cache: MemoryJournal,
        info: Callable[[RunKey], Awaitable[RunInfo]],
        is_deleted: Callable[[str], bool],
        unavailable: Callable[[RPCError], JournalUnavailable],
    ) -> None:
        self._client = client
        self._task_queue = task_queue
        self._clock = clock
        self._runs = runs
        self._cache = cache
        self._info = info
        self._is_deleted = is_deleted
        self._unavailable = unavailable
        self._recent: dict[RunKey, int] = {}
        self._deriving = asyncio.Semaphore(MAX_DERIVED)

    def note_start(self, key: RunKey) -> None:
        """Note that this server has started a run. Visibility learns it later."""
        self._recent.pop(key, None)
        self._recent[key] = self._clock()
        while len(self._recent) > MAX_RECENT:
            del self._recent[next(iter(self._recent))]

    def forget(self, key: RunKey) -> None:
        """Forget a run that was deleted."""
        self._recent.pop(key, None)

    async def page(self, listing: Listing, before: Position | None, most: int) -> Page:
        """Return at most `most` runs that match, newest first, after the position `before`.

        Raises:
            JournalUnavailable: Temporal does not answer.
        """
        if matches_none(listing):
            return Page((), more=False)

        def is_wanted(info: RunInfo) -> bool:
            return listing.matches(info) and (before is None or info.position < before)

        recent = await self._recent_infos(listing)
        found = [info for info in recent.values() if is_wanted(info)]
        try:
            found += await self._others(listing, before, most + 1, recent, is_wanted)
        except RPCError as error:
            raise self._unavailable(error) from error
        found.sort(key=lambda info: info.position, reverse=True)
        return Page(found[:most], more=len(found) > most)

    async def _recent_infos(self, listing: Listing) -> Mapping[RunKey, RunInfo]:
        """Return the runs that have started or ended in the last time, as far as this server knows."""
        oldest = self._clock() - LATE_NANOS
        self._recent = {key: time for key, time in self._recent.items() if time > oldest}
        ended = await self._cache.list_ended(Listing(listing.namespace), None, MAX_RECENT)
        infos = {info.key: info for info in ended if info.end_time is not None and info.end_time > oldest}
        for key in [key for key in self._recent if key not in infos]:
            run = self._runs.get(key)
            info = await self._derived(key) if run is None else run.info()
            if info is not None:
                infos[key] = info
        return infos

    async def _derived(self, key: RunKey) -> RunInfo | None:
        """Return the information of a run from its history; `None`: there is none, or this server cannot show it."""
        async with self._deriving:
            try:
                return await self._info(key)
            except (RunNotFound, RunBroken):
                return None

    async def _others(
        self,
        listing: Listing,
        before: Position | None,
        most: int,
        recent: Mapping[RunKey, RunInfo],
        is_wanted: Callable[[RunInfo], bool],
    ) -> list[RunInfo]:
        """Return at most `most` wanted runs that are not recent, the newest first."""
        infos: list[RunInfo] = []
        seen = set(recent)
        async with aclosing(self._windows(listing, before, most)) as windows:
            async for window in windows:
                fresh = [it for it in window if before is None or it.position < before]
                fresh = [it for it in fresh if it.key not in seen and not self._is_deleted(it.execution.run_id)]
                seen.update(it.key for it in fresh)
                while fresh and len(infos) < most:
                    part, fresh = fresh[: most - len(infos)], fresh[most - len(infos) :]
                    resolved = await asyncio.gather(*map(self._resolved, part))
                    infos += [info for info in resolved if info is not None and is_wanted(info)]
                if len(infos) >= most:
                    break
        return infos

    async def _resolved(self, found: _Found) -> RunInfo | None:
        """Return the information of a run; `None`: it was deleted meanwhile."""
        memo = await found.execution.memo_value(INFO_MEMO, default=None)
        if memo is not None:
            return from_memo(found.key, found.create_time, memo)
        async with self._deriving:
            try:
                return await self._info(found.key)
            except RunNotFound:
                return None
            except RunBroken:
                return _as_found(found)

    # Windows.

    async def _windows(
        self, listing: Listing, before: Position | None, wanted: int
    ) -> AsyncGenerator[Iterable[_Found], None]:
        """Yield what visibility has, window by window, the newest first."""
        query = query_of(listing, self._task_queue)
        if listing.since is not None:
            query += f" AND StartTime >= '{time_text(microseconds(listing.since))}'"
        ends = [end for end in (listing.until, before and before[0] + MIN_WINDOW) if end is not None]
        end = min(ends) if ends else None
        while True:
            begin = await self._begin(query, end, wanted)
            window = [
                _found(listing.namespace, execution)
                async for execution in self._client.list_workflows(_within(query, begin, end), rpc_timeout=TIMEOUT)
            ]
            yield sorted(window, key=lambda found: found.position, reverse=True)
            if begin is None:
                return
            end = begin

    async def _begin(self, query: str, end: int | None, wanted: int) -> int | None:
        """Return when a window begins that has enough runs, and not too many; `None`: it has all of them."""
        if await self._count(_within(query, None, end)) <= MAX_WINDOW:
            return None
        newest = self._clock() if end is None else end
        few, span = newest, FIRST_WINDOW
        while (count := await self._count(_within(query, newest - span, end))) < wanted:
            few, span = newest - span, span * GROWTH
        many = newest - span
        while count > MAX_WINDOW and few - many > MIN_WINDOW:
            middle = (few + many) // 2
            middle_count = await self._count(_within(query, middle, end))
            if middle_count < wanted:
                few = middle
            else:
                many, count = middle, middle_count
        return many

    async def _count(self, query: str) -> int:
        return (await self._client.count_workflows(query, rpc_timeout=TIMEOUT)).count


def _within(query: str, begin: int | None, end: int | None) -> str:
    """Return a query for the runs that started from one time on, and before another."""
    if begin is not None:
        query += f" AND StartTime >= '{time_text(begin)}'"
    if end is not None:
        query += f" AND StartTime < '{time_text(end)}'"
    return query


def _found(namespace: str, execution: WorkflowExecution) -> _Found:
    create_time = microseconds(execution.raw_info.start_time.ToNanoseconds())
    run_id = execution.id.removeprefix(workflow_id_of(RunKey(namespace, "")))
    return _Found(RunKey(namespace, run_id), create_time, execution)


def _as_found(found: _Found) -> RunInfo:
    """Return what visibility tells of a run that this server cannot show."""
    attributes = found.execution.typed_search_attributes
    labels = [label.partition("=") for label in attributes.get(LABELS) or () if "=" in label]
    return RunInfo(
        found.key,
        attributes.get(WORKFLOW) or "",
        State.RUNNING,
        {key: value for key, _, value in labels},
        found.create_time,
        None,
        None,
        (0,) * len(State),
        0,
        False,
        False,
    )
