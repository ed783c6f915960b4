"""Queries on runs, under way or ended. They change nothing."""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, suppress
from copy import copy
from dataclasses import replace
from typing import Generic, TypeVar

from stepwave.v1 import workflow_pb2
from stepwave_server.core.explanation import Explanation
from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.messages import StepFinished
from stepwave_server.core.state import StepState
from stepwave_server.engine.base import Batch, EngineOptions, LogPage, Page, StepPage
from stepwave_server.engine.errors import (
    JournalUnavailable,
    RunBroken,
    RunNotEnded,
    RunNotFound,
    RunReplaced,
    SequenceOutOfRange,
)
from stepwave_server.engine.queries.active_run import ActiveRun
from stepwave_server.engine.queries.digest_cache import DigestCache
from stepwave_server.engine.queries.explainer import with_texts
from stepwave_server.engine.queries.step_pages import ended_page, running_page
from stepwave_server.engine.streams.logs import LogStore
from stepwave_server.engine.streams.watcher import Watcher
from stepwave_server.journal import Header, Journal, Listing, Position
from stepwave_server.wire.events.decode import to_event
from stepwave_server.wire.events.encode import Kind, Record, decode

__all__ = ["RunQueries"]

T = TypeVar("T")
R = TypeVar("R", bound=ActiveRun)

UNREACHABLE = sys.maxsize
"""A sequence number that no run reaches. Waiting for it ends only by an exception."""

EXPORT_BYTES = 256 * 1024
"""Approximate size of one part of an export in bytes."""


class RunQueries(ABC, Generic[R]):
    """The runs under way, and queries on all runs.

    The state of a run under way answers queries, once it is committed. The journal answers queries on other runs.

    Attributes:
        options: Options of the engine.

    Args:
        journal: The journal.
        clock: Returns the time in nanoseconds since the epoch.
        options: Options of the engine.
    """

    def __init__(self, journal: Journal, clock: Callable[[], int], options: EngineOptions) -> None:
        self.options = options
        self._journal = journal
        self._clock = clock
        self._runs: dict[RunKey, R] = {}
        self._logs = LogStore(clock)
        self._watchers: set[Watcher] = set()
        self._broken: dict[RunKey, RunBroken] = {}
        self._digests = DigestCache(self.header)
        self._commit_error = ""
        self._listeners: list[Callable[[str], None]] = []
        journal.listen(self._on_commit_error)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Add a listener for failing commits.

        Args:
            listener: Called with the reason when commits begin to fail, and with an empty string when they succeed
                again. Called at once if they fail now.
        """
        self._listeners.append(listener)
        if self._commit_error:
            listener(self._commit_error)

    def _on_commit_error(self, reason: str) -> None:
        """End the waits for a commit. If the journal is lost, also end the streams."""
        self._commit_error = reason
        if reason:
            for run in self._runs.values():
                run.watermark.refuse(JournalUnavailable(reason))
                if self._journal.lost:
                    run.subscribers.fail(JournalUnavailable(reason))
        for listener in self._listeners:
            listener(reason)

    async def _wait_committed(self, run: R, sequence: int) -> None:
        """Wait until an event of a run is committed.

        Raises:
            RunBroken: It will never be committed.
            JournalUnavailable: It cannot be committed now.
            RunReplaced: The run is broken, and was replaced or has ended. The query must be repeated.
        """
        if self._commit_error and run.committed < sequence:
            raise JournalUnavailable(self._commit_error)
        await run.watermark.reach(sequence)

    async def _query(self, key: RunKey, question: Callable[[R], T]) -> T | None:
        """Query a run, and wait until the answer is committed; `None`: the run is not under way.

        The state of a broken run is unknown. The query waits until the run is replaced or has ended, and is repeated.
        """
        while (run := self._runs.get(key)) is not None:
            try:
                if run.broken is not None:
                    await self._wait_committed(run, UNREACHABLE)
                answer, last = question(run), run.state.sequence
                await self._wait_committed(run, last)
            except RunReplaced:
                continue
            return answer
        return None

    async def info(self, key: RunKey) -> RunInfo:
        """Return the information of a run, when it is committed."""
        return await self._digests.fill(await self._query(key, lambda run: run.info()) or await self._ended(key))

    async def result(self, key: RunKey) -> Record:
        """Return the record of a run's `run_finished`."""
        self._require_ended(key)
        records = await self._journal.pick(key, [(await self._ended(key)).last_sequence])
        if not records:
            raise RunNotFound(key)
        return records[0]

    async def steps(self, key: RunKey, start: int, most: int) -> StepPage:
        """Return at most `most` steps of a run, from an index in declaration order."""

        def steps(run: R) -> tuple[list[StepState], int]:
            states = run.state.by_index
            return [step if step.finish else copy(step) for step in states[start : start + most]], len(states)

        found = await self._query(key, steps)
        if found is not None:
            return await running_page(self._journal, key, found[0], start, found[1])
        return await ended_page(self._journal, key, await self._finishes(key), start, most)

    async def logs(self, key: RunKey, step_id: str, after: int, most: int) -> LogPage:
        """Return at most `most` messages that actions of a run have logged, after a number."""
        if key not in self._runs:
            await self._ended(key)
        return self._logs.page(key, step_id, after, most)

    async def added_steps(self, key: RunKey) -> Sequence[workflow_pb2.Step]:
        """Return the steps that were added to a run that has ended, in their order."""
        self._require_ended(key)
        steps: list[workflow_pb2.Step] = []
        async for records in self._records(key):
            for record in records:
                if record.kind is Kind.STEPS_ADDED:
                    steps += decode(record).steps_added.steps
        return steps

    async def finished_steps(self, key: RunKey) -> Sequence[StepFinished]:
        """Return the `step_finished` events of a run that has ended, in their order."""
        self._require_ended(key)
        records = await self._journal.pick(key, sorted(filter(None, await self._finishes(key))))
        return await asyncio.to_thread(_finished_steps, records)

    async def watch(
        self, key: RunKey, after: int, kinds: Collection[Kind], first: bytes = b""
    ) -> AsyncGenerator[Batch, None]:
        """Stream a run's events after a sequence number.

        Args:
            key: The run.
            after: The sequence number.
            kinds: The kinds of events; empty: all.
            first: An encoded message to put before the first batch, or to send alone if no event may follow soon. The
                bytes of two messages, one after the other, are one message with the fields of both. Empty: none.

        Raises:
            RunNotFound: The run does not exist, or was deleted meanwhile.
            SequenceOutOfRange: The number is beyond the run's newest event.
            JournalUnavailable: The journal is lost, so the run has no more events here.
            RunBroken: The run can neither continue here nor be ended.
        """
        run = self._runs.get(key)
        last = run.committed if run is not None else (await self._ended(key)).last_sequence
        if after > last:
            raise SequenceOutOfRange(after, last)
        if run is None and after == last:
            return
        watcher = Watcher(
            self._journal,
            key,
            after=after,
            kinds=kinds,
            heartbeat=self.options.heartbeat,
            committing=run.committing if run is not None else _never,
            committed=(lambda: run.committed) if run is not None else (lambda: last),
            transients=run.subscribers.transients() if run is not None else (),
        )
        self._watchers.add(watcher)
        if run is not None:
            run.subscribers.join(watcher)
        try:
            with self._journal.reading(key):
                if first and kinds and Kind.RUN_STARTED not in kinds:
                    yield Batch(first, last=False)
                    first = b""
                async with aclosing(watcher.batches()) as batches:
                    async for batch in batches:
                        yield Batch(first + batch.data, batch.last) if first else batch
                        first = b""
        finally:
            self._watchers.discard(watcher)
            if run is not None:
                run.subscribers.leave(watcher)

    async def list_runs(self, listing: Listing, before: Position | None, most: int) -> Page:
        """Return at most `most` runs that match, newest first, after the position `before`."""
        running = await self._infos()
        ended = await self._journal.list_ended(listing, before, most + 1)
        found = [
            info for info in running.values() if listing.matches(info) and (before is None or info.position < before)
        ]
        found += [info for info in ended if info.key not in running]
        found.sort(key=lambda info: info.position, reverse=True)
        page = [await self._digests.fill(await self._committed_info(info)) for info in found[:most]]
        return Page(page, len(found) > most)

    async def _infos(self) -> dict[RunKey, RunInfo]:
        """Return the information of the runs under way. It may not be committed yet."""
        while (broken := next((run for run in self._runs.values() if run.broken is not None), None)) is not None:
            with suppress(RunReplaced, RunBroken):
                await self._wait_committed(broken, UNREACHABLE)
        return {run.key: run.info() for run in self._runs.values()}

    async def _committed_info(self, info: RunInfo) -> RunInfo:
        """Return the information of a run when it is committed. If the run is replaced meanwhile, query it again."""
        run = self._runs.get(info.key)
        with suppress(RunBroken, RunNotFound):
            try:
                if run is not None:
                    await self._wait_committed(run, info.last_sequence)
            except RunReplaced:
                return await self.info(info.key)
        return info

    async def header(self, key: RunKey) -> Header:
        """Return the definition of a run."""
        run = self._runs.get(key)
        header = run.header if run is not None else await self._journal.header(key)
        if header is None:
            raise RunNotFound(key)
        return header

    async def explain(self, key: RunKey) -> Explanation:
        """Return what a run waits for. For a run that has ended, the explanation has no steps."""
        explanation = await self._query(key, self._explain)
        if explanation is None:
            info = await self._digests.fill(await self._ended(key))
            return Explanation(info=info, time=self._clock(), steps=(), step_count=0)
        complete = replace(explanation, info=await self._digests.fill(explanation.info))
        return await asyncio.to_thread(with_texts, complete)

    @abstractmethod
    def _explain(self, run: R) -> Explanation:
        """Return the explanation of a run under way. Its code lines have no text yet."""

    @property
    def watchers(self) -> int:
        """Number of open streams."""
        return len(self._watchers)

    async def export(self, key: RunKey) -> AsyncGenerator[bytes, None]:
        """Yield the committed events of a run in parts."""
        async for records in self._records(key):
            yield b"".join(record.data for record in records)

    async def _records(self, key: RunKey) -> AsyncGenerator[Sequence[Record], None]:
        """Yield the committed events of a run in parts."""
        run = self._runs.get(key)
        last = run.committed if run is not None else (await self._ended(key)).last_sequence
        read = 0
        with self._journal.reading(key):
            while read < last:
                records = await self._journal.read(key, read, EXPORT_BYTES)
                if not records:
                    raise RunNotFound(key)
                read += len(records)
                yield records

    def _require_ended(self, key: RunKey) -> None:
        if key in self._runs:
            raise RunNotEnded(key)

    def _require_not_broken(self, key: RunKey) -> None:
        broken = self._broken.get(key)
        if broken is not None:
            raise broken.with_traceback(None)

    async def _ended(self, key: RunKey) -> RunInfo:
        """Return the information of a run that has ended, from the journal."""
        info = await self._journal.info(key)
        if info is None:
            self._require_not_broken(key)
            raise RunNotFound(key)
        return info

    async def _finishes(self, key: RunKey) -> Sequence[int]:
        finishes = await self._journal.finishes(key)
        if finishes is None:
            raise RunNotFound(key)
        return finishes


def _never() -> bool:
    return False


def _finished_steps(records: Iterable[Record]) -> list[StepFinished]:
    return [event for event in map(to_event, records) if isinstance(event, StepFinished)]
