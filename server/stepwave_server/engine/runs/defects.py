"""Ends runs that a defect of the server broke. They fail: decided by the core if possible, else by a forced end."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import Event
from stepwave_server.core.state import RunState
from stepwave_server.engine.errors import JournalUnavailable, RunNotFound, RunReplaced
from stepwave_server.engine.runs.forced_end import forced_end
from stepwave_server.engine.runs.recovery import FAILED_BY_DEFECT, restore
from stepwave_server.engine.runs.run import LocalRun, Services
from stepwave_server.journal import Unfinished
from stepwave_server.wire.events.encode import Kind, Record

__all__ = ["Defects"]

logger = logging.getLogger(__name__)

BROKE = 'a defect of the server broke run %(run_id)s; it ends as failed: see "stepwave result %(run_id)s"'
AGAIN = 'a defect keeps the scheduler from ending run %(run_id)s; it ends as failed: see "stepwave result %(run_id)s"'
REFUSED = "a defect of the server broke run %(run_id)s before its first event; it was refused"
LOST = "a defect keeps run %(run_id)s from being ended; this server does no more with it"

READ_BYTES = 1 << 20
"""Approximate size of the events that are read at once, in bytes."""


class Defects:
    """Ends broken runs.

    1. The journal marks the run as broken, so that no server invokes its actions again.
    2. When all appended events are committed, the run is restored from them.
    3. The restored run replaces the broken one, and is stopped. The core ends it like any other run.

    If another defect occurs on the way, the run gets a forced end without the core.

    Args:
        services: The shared parts of the engine.
        runs: The runs under way, by key.
        drop: Called with a run that cannot be ended.
    """

    def __init__(self, services: Services, runs: dict[RunKey, LocalRun], drop: Callable[[LocalRun], None]) -> None:
        self._services = services
        self._journal = services.journal
        self._runs = runs
        self._drop = drop
        self._tasks: set[asyncio.Task[None]] = set()

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks that end runs, and those of broken runs' attempts that have not ended."""
        return list(self._tasks)

    def handle(self, run: LocalRun) -> None:
        """Start to end a run that is broken by the exception that is being handled."""
        self._log(run, AGAIN if run.failing else BROKE if run.kept else REFUSED)
        for task in run.attempts.tasks():
            self._keep(task)
        self._try(run, run.stop)
        self._services.request_turn(run)  # other attempts may take the places that are free now
        if not run.kept:
            self._drop(run)
            return
        self._try(run, partial(self._journal.mark_broken, run.key))
        self._keep(asyncio.get_running_loop().create_task(self._end(run)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _try(self, run: LocalRun, work: Callable[[], None]) -> None:
        """Do some work on which the end of the run does not depend."""
        try:
            work()
        except Exception:
            self._log(run, "another defect in the broken run %(run_id)s")

    def _log(self, run: LocalRun, message: str) -> None:
        fields = {"run_id": run.key.run_id}
        logger.exception(message, fields, extra=fields)

    async def _end(self, run: LocalRun) -> None:
        try:
            await self._end_committed(run, await self._committed(run))
        except Exception:
            self._log(run, LOST)
            self._drop(run)

    async def _end_committed(self, run: LocalRun, records: Sequence[Record]) -> None:
        if records[-1].kind is Kind.RUN_FINISHED:  # its end was being committed already
            self._ended(run, ())
        elif (state := await self._restored(run, records)) is not None:
            restored = LocalRun(run.header, state, self._services, run.telemetry, run, failing=True)
            self._runs[run.key] = restored
            restored.fail(FAILED_BY_DEFECT)
            run.watermark.refuse(RunReplaced())
        else:
            end = await asyncio.to_thread(forced_end, run.header, records, self._services.clock())
            self._journal.append(run.key, end.records, partial(self._ended, run, end.events), end.ended)

    async def _restored(self, run: LocalRun, records: Sequence[Record]) -> RunState | None:
        """Return the state of a run after its events; `None`: the core cannot end it."""
        if run.failing:
            return None
        try:
            return (await asyncio.to_thread(restore, Unfinished(run.header, records))).state
        except Exception:
            self._log(run, AGAIN)
            return None

    async def _committed(self, run: LocalRun) -> Sequence[Record]:
        """Return all events of a run, when all that it has appended are committed."""
        while run.committed < run.appended:
            with suppress(JournalUnavailable):  # the journal goes on trying
                await run.watermark.reach(run.appended)
        records: list[Record] = []
        while len(records) < run.committed:
            more = await self._journal.read(run.key, len(records), READ_BYTES)
            if not more:
                raise RunNotFound(run.key)
            records += more
        return records

    def _ended(self, run: LocalRun, events: Sequence[Event]) -> None:
        """Note that a run has ended, by events that are committed now."""
        run.telemetry.add(events)
        self._services.on_finished(run)
        run.watermark.refuse(RunReplaced())
        run.subscribers.wake()
