"""What becomes of runs that met a defect: they end as failed, in the ordinary way if that can be, else plainly."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import Event
from stepwave_server.core.state import RunState
from stepwave_server.engine.errors import JournalUnavailable, RunNotFound, RunReplaced
from stepwave_server.engine.runs.closing import plain_end
from stepwave_server.engine.runs.recovery import FAILED_BY_DEFECT, revive
from stepwave_server.engine.runs.run import LocalRun, Services
from stepwave_server.journal import Unfinished
from stepwave_server.wire.events.encode import Kind, Record

__all__ = ["Defects"]

logger = logging.getLogger(__name__)

BROKE = 'a defect of the server broke run %(run_id)s; it ends as failed: see "stepwave result %(run_id)s"'
AGAIN = 'a defect keeps run %(run_id)s from ending in order; it ends as failed: see "stepwave result %(run_id)s"'
REFUSED = "a defect of the server broke run %(run_id)s before its first event; it was refused"
LOST = "a defect keeps run %(run_id)s from being ended; nothing more happens to it here"

READ_BYTES = 1 << 20
"""About how many bytes of events are read at once."""


class Defects:
    """Brings runs that broke to an end.

    The journal notes first that a run broke: no server will invoke anything of it again. When all is committed that the
    run has appended, it is folded anew from that, and takes the place of the one that broke: it is told to stop, so
    that the core ends it as any other. If a defect is met again on the way, its end is made without the core.

    Args:
        services: What runs need of their engine.
        runs: The runs under way, by key.
        let_go: Takes a run that cannot be ended at all.
    """

    def __init__(self, services: Services, runs: dict[RunKey, LocalRun], let_go: Callable[[LocalRun], None]) -> None:
        self._services = services
        self._journal = services.journal
        self._runs = runs
        self._let_go = let_go
        self._tasks: set[asyncio.Task[None]] = set()

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return what brings runs to an end, and what clings on of their attempts."""
        return list(self._tasks)

    def take(self, run: LocalRun) -> None:
        """Take a run that has just broken, where the defect is caught."""
        self._log(run, AGAIN if run.failing else BROKE if run.kept else REFUSED)
        for task in run.attempts.tasks():
            self._keep(task)
        self._try(run, run.stop)
        self._services.turn(run)  # others may start in the places that came free
        if not run.kept:
            self._let_go(run)
            return
        self._try(run, partial(self._journal.mark_broken, run.key))
        self._keep(asyncio.get_running_loop().create_task(self._end(run)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _try(self, run: LocalRun, work: Callable[[], None]) -> None:
        """Do what the end of a run does not depend on."""
        try:
            work()
        except Exception:
            self._log(run, "another defect in run %(run_id)s, that broke")

    def _log(self, run: LocalRun, message: str) -> None:
        told = {"run_id": run.key.run_id}
        logger.exception(message, told, extra=told)

    async def _end(self, run: LocalRun) -> None:
        try:
            await self._end_committed(run, await self._committed(run))
        except Exception:
            self._log(run, LOST)
            self._let_go(run)

    async def _end_committed(self, run: LocalRun, records: Sequence[Record]) -> None:
        if records[-1].kind is Kind.RUN_FINISHED:  # its end was on its way already
            self._ended(run, ())
        elif (state := await self._folded(run, records)) is not None:
            again = LocalRun(run.header, state, self._services, run.tracer, run.subscribers, failing=True)
            self._runs[run.key] = again
            again.stop_lost(FAILED_BY_DEFECT)
            run.watermark.refuse(RunReplaced())
        else:
            end = await asyncio.to_thread(plain_end, run.header, records, self._services.clock())
            self._journal.append(run.key, end.records, partial(self._ended, run, end.events), end.ended)

    async def _folded(self, run: LocalRun, records: Sequence[Record]) -> RunState | None:
        """Return where a run stands by its events; `None`: the core cannot bring it to its end."""
        if run.failing:
            return None
        try:
            return (await asyncio.to_thread(revive, Unfinished(run.header, records))).state
        except Exception:
            self._log(run, AGAIN)
            return None

    async def _committed(self, run: LocalRun) -> Sequence[Record]:
        """Return all events of a run, when all that it has appended is committed."""
        while run.committed < run.appended:
            with suppress(JournalUnavailable):  # for now: it goes on trying
                await run.watermark.reach(run.appended)
        records: list[Record] = []
        while len(records) < run.committed:
            more = await self._journal.read(run.key, len(records), READ_BYTES)
            if not more:
                raise RunNotFound(run.key)
            records += more
        return records

    def _ended(self, run: LocalRun, events: Sequence[Event]) -> None:
        """Take that a run has ended all the same, by events that are committed now."""
        if run.tracer is not None:
            run.tracer.add(events)
        self._services.finished(run)
        run.watermark.refuse(RunReplaced())
        run.subscribers.wake()
