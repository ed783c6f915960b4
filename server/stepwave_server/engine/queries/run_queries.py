"""What is known of runs, those under way and those that have ended: every question that changes nothing."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, suppress
from copy import copy
from typing import TypeVar

from stepwave_server.core.explanation import Explanation
from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.messages import StepFinished
from stepwave_server.core.state import StepState
from stepwave_server.engine.base import Batch, EngineOptions, Page, StepPage
from stepwave_server.engine.errors import (
    JournalUnavailable,
    RunBroken,
    RunNotEnded,
    RunNotFound,
    RunReplaced,
    SequenceOutOfRange,
)
from stepwave_server.engine.queries.explain_run import explain, with_texts
from stepwave_server.engine.queries.step_pages import kept_page, live_page
from stepwave_server.engine.runs.run import LocalRun
from stepwave_server.engine.streams.watcher import Watcher
from stepwave_server.journal import Header, Journal, Listing, Position
from stepwave_server.wire.events.decode import to_event
from stepwave_server.wire.events.encode import Kind, Record

__all__ = ["RunQueries"]

T = TypeVar("T")

NEVER = sys.maxsize
"""The number of an event that no run comes to."""

EXPORT_BYTES = 256 * 1024
"""About how many bytes of events one part of an export has."""


class RunQueries:
    """The runs there are. Those under way are answered for by their state, once it is committed; others by the journal.

    Args:
        journal: Where events are kept.
        clock: Nanoseconds since the epoch.
        options: Bounds and manners.
    """

    def __init__(self, journal: Journal, clock: Callable[[], int], options: EngineOptions) -> None:
        self.options = options
        self._journal = journal
        self._clock = clock
        self._runs: dict[RunKey, LocalRun] = {}
        self._watchers: set[Watcher] = set()
        self._broken: dict[RunKey, RunBroken] = {}
        self._trouble = ""
        self._listeners: list[Callable[[str], None]] = []
        journal.listen(self._take_trouble)

    def listen(self, told: Callable[[str], None]) -> None:
        """Tell why nothing can be committed, when that begins, or now; and the empty text when it is over."""
        self._listeners.append(told)
        if self._trouble:
            told(self._trouble)

    def _take_trouble(self, trouble: str) -> None:
        self._trouble = trouble
        if trouble:
            for run in self._runs.values():
                run.watermark.refuse(JournalUnavailable(trouble))
                if self._journal.lost:
                    run.subscribers.fail(JournalUnavailable(trouble))
        for told in self._listeners:
            told(trouble)

    async def _settled(self, run: LocalRun, sequence: int) -> None:
        """Wait until an event of a run is committed.

        Raises:
            RunBroken, JournalUnavailable: It never will be, or not now.
            RunReplaced: The run met a defect: ask again.
        """
        if self._trouble and run.committed < sequence:
            raise JournalUnavailable(self._trouble)
        await run.watermark.reach(sequence)

    async def _ask(self, key: RunKey, question: Callable[[LocalRun], T]) -> T | None:
        """Ask a run how it stands, and wait until that is committed; `None`: it is not under way.

        A run that met a defect knows no more how it stands: it is asked again when it is under way to its end.
        """
        while (run := self._runs.get(key)) is not None:
            try:
                if run.broken is not None:
                    await self._settled(run, NEVER)
                answer, last = question(run), run.state.sequence
                await self._settled(run, last)
            except RunReplaced:
                continue
            return answer
        return None

    async def info(self, key: RunKey) -> RunInfo:
        """Return how a run stands, by what is committed."""
        return await self._ask(key, LocalRun.info) or await self._ended(key)

    async def result(self, key: RunKey) -> Record:
        """Return the record of a run's `run_finished`."""
        self._require_ended(key)
        records = await self._journal.pick(key, [(await self._ended(key)).last_sequence])
        if not records:
            raise RunNotFound(key)
        return records[0]

    async def steps(self, key: RunKey, start: int, most: int) -> StepPage:
        """Return how steps stand, from an index in declaration order."""

        def steps(run: LocalRun) -> tuple[list[StepState], int]:
            found = run.state.by_index
            return [step if step.finish else copy(step) for step in found[start : start + most]], len(found)

        standing = await self._ask(key, steps)
        if standing is not None:
            return await live_page(self._journal, key, standing[0], start, standing[1])
        return await kept_page(self._journal, key, await self._finishes(key), start, most)

    async def finished_steps(self, key: RunKey) -> Sequence[StepFinished]:
        """Return how the steps of a run that has ended did, in the order in which they ended."""
        self._require_ended(key)
        records = await self._journal.pick(key, sorted(filter(None, await self._finishes(key))))
        return await asyncio.to_thread(_finished_steps, records)

    async def watch(self, key: RunKey, after: int, kinds: Collection[Kind]) -> AsyncGenerator[Batch, None]:
        """Stream a run's events after a number.

        Raises:
            RunNotFound: There is no such run, or it is forgotten meanwhile.
            SequenceOutOfRange: The number is beyond its newest event.
            JournalUnavailable: It will have no more events here.
        """
        run = self._runs.get(key)
        last = run.committed if run is not None else (await self._ended(key)).last_sequence
        if after > last:
            raise SequenceOutOfRange(after, last)
        if run is None and after == last:
            return
        so_far, coming = (run.subscribers.transients(), run.committing) if run is not None else ((), _never)
        watcher = Watcher(self._journal, key, after, kinds, self.options.heartbeat, coming, so_far)
        self._watchers.add(watcher)
        if run is not None:
            run.subscribers.join(watcher)
        try:
            with self._journal.reading(key):
                async with aclosing(watcher.batches()) as batches:
                    async for batch in batches:
                        yield batch
        finally:
            self._watchers.discard(watcher)
            if run is not None:
                run.subscribers.leave(watcher)

    async def list_runs(self, listing: Listing, before: Position | None, most: int) -> Page:
        """Return runs that match, newest first, from after a position."""
        live = await self._live()
        ended = await self._journal.list_ended(listing, before, most + 1)
        found = [info for info in live.values() if listing.matches(info) and (before is None or info.position < before)]
        found += [info for info in ended if info.key not in live]
        found.sort(key=lambda info: info.position, reverse=True)
        page = [await self._settled_info(info) for info in found[:most]]
        return Page(page, len(found) > most)

    async def _live(self) -> dict[RunKey, RunInfo]:
        """Return how the runs under way stand, decided; perhaps not yet committed."""
        while (broken := next((run for run in self._runs.values() if run.broken is not None), None)) is not None:
            with suppress(RunReplaced, RunBroken):
                await self._settled(broken, NEVER)
        return {run.key: run.info() for run in self._runs.values()}

    async def _settled_info(self, info: RunInfo) -> RunInfo:
        """Wait until what was found out about a run is committed; return what holds instead if it met a defect."""
        run = self._runs.get(info.key)
        with suppress(RunBroken, RunNotFound):
            try:
                if run is not None:
                    await self._settled(run, info.last_sequence)
            except RunReplaced:
                return await self.info(info.key)
        return info

    async def header(self, key: RunKey) -> Header:
        """Return what a run was given."""
        run = self._runs.get(key)
        header = run.header if run is not None else await self._journal.header(key)
        if header is None:
            raise RunNotFound(key)
        return header

    async def explain(self, key: RunKey) -> Explanation:
        """Say what a run waits for; of one that has ended, only how it stands."""
        explanation = await self._ask(key, lambda run: explain(run, self._clock(), self.options))
        if explanation is None:
            return Explanation(await self._ended(key), self._clock(), (), 0)
        return await asyncio.to_thread(with_texts, explanation)

    @property
    def watchers(self) -> int:
        """How many streams are open now."""
        return len(self._watchers)

    async def export(self, key: RunKey) -> AsyncGenerator[bytes, None]:
        """Yield the events of a run as far as they are committed."""
        run = self._runs.get(key)
        last = run.committed if run is not None else (await self._ended(key)).last_sequence
        told = 0
        with self._journal.reading(key):
            while told < last:
                records = await self._journal.read(key, told, EXPORT_BYTES)
                if not records:
                    raise RunNotFound(key)
                told += len(records)
                yield b"".join(record.data for record in records)

    def _require_ended(self, key: RunKey) -> None:
        if key in self._runs:
            raise RunNotEnded(key)

    def _require_whole(self, key: RunKey) -> None:
        broken = self._broken.get(key)
        if broken is not None:
            raise broken.with_traceback(None)

    async def _ended(self, key: RunKey) -> RunInfo:
        info = await self._journal.info(key)
        if info is None:
            self._require_whole(key)
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
