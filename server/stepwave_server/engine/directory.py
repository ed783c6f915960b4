"""What is known of runs, those under way and those that have ended: every question that changes nothing."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.messages import StepFinished
from stepwave_server.engine.base import Page, StepPage
from stepwave_server.engine.errors import JournalUnavailable, RunBroken, RunNotEnded, RunNotFound
from stepwave_server.engine.run import LocalRun
from stepwave_server.engine.steps import kept_page, live_page
from stepwave_server.journal import Header, Journal, Listing, Position
from stepwave_server.wire.decode import to_event
from stepwave_server.wire.events import Record

__all__ = ["Directory"]

EXPORT_BYTES = 256 * 1024
"""About how many bytes of events one part of an export has."""


class Directory:
    """The runs there are. Those under way are answered for by their state, once it is committed; others by the journal.

    Args:
        journal: Where events are kept.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._runs: dict[RunKey, LocalRun] = {}
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
                run.settled.refuse(JournalUnavailable(trouble))
                if self._journal.lost:
                    run.audience.break_off(JournalUnavailable(trouble))
        for told in self._listeners:
            told(trouble)

    async def _settled(self, run: LocalRun, sequence: int) -> None:
        """Wait until an event of a run is committed.

        Raises:
            RunBroken, JournalUnavailable: It never will be, or not now.
        """
        if run.broken is not None:
            raise run.broken
        if self._trouble and run.committed < sequence:
            raise JournalUnavailable(self._trouble)
        await run.settled.reach(sequence)

    async def info(self, key: RunKey) -> RunInfo:
        """Return how a run stands, by what is committed."""
        run = self._runs.get(key)
        if run is None:
            return await self._ended(key)
        info = run.info()
        await self._settled(run, info.last_sequence)
        return info

    async def result(self, key: RunKey) -> Record:
        """Return the record of a run's `run_finished`."""
        self._require_ended(key)
        records = await self._journal.pick(key, [(await self._ended(key)).last_sequence])
        if not records:
            raise RunNotFound(key)
        return records[0]

    async def steps(self, key: RunKey, start: int, most: int) -> StepPage:
        """Return how steps stand, from an index in declaration order."""
        run = self._runs.get(key)
        if run is not None:
            page = [step if step.finish else copy(step) for step in run.state.by_index[start : start + most]]
            await self._settled(run, run.state.sequence)
            return await live_page(self._journal, key, page, start, len(run.state.by_index))
        return await kept_page(self._journal, key, await self._finishes(key), start, most)

    async def finished_steps(self, key: RunKey) -> Sequence[StepFinished]:
        """Return how the steps of a run that has ended did, in the order in which they ended."""
        self._require_ended(key)
        records = await self._journal.pick(key, sorted(await self._finishes(key)))
        return await asyncio.to_thread(_finished_steps, records)

    async def list_runs(self, listing: Listing, before: Position | None, most: int) -> Page:
        """Return runs that match, newest first, from after a position."""
        live = {run.key: run.info() for run in self._runs.values()}
        ended = await self._journal.list_ended(listing, before, most + 1)
        found = [info for info in live.values() if listing.matches(info) and (before is None or info.position < before)]
        found += [info for info in ended if info.key not in live]
        found.sort(key=lambda info: info.position, reverse=True)
        for info in found[:most]:
            run = self._runs.get(info.key)
            if run is not None:
                with suppress(RunBroken):
                    await self._settled(run, info.last_sequence)
        return Page(found[:most], len(found) > most)

    async def header(self, key: RunKey) -> Header:
        """Return what a run was given."""
        run = self._runs.get(key)
        header = run.header if run is not None else await self._journal.header(key)
        if header is None:
            raise RunNotFound(key)
        return header

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

    async def _ended(self, key: RunKey) -> RunInfo:
        info = await self._journal.info(key)
        if info is None:
            raise RunNotFound(key)
        return info

    async def _finishes(self, key: RunKey) -> Sequence[int]:
        finishes = await self._journal.finishes(key)
        if finishes is None:
            raise RunNotFound(key)
        return finishes


def _finished_steps(records: Iterable[Record]) -> list[StepFinished]:
    return [event for event in map(to_event, records) if isinstance(event, StepFinished)]
