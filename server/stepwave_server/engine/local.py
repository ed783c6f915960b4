"""The asyncio engine: drives runs in this process."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import aclosing, suppress
from copy import copy

from stepwave_server.actions import Registry
from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.messages import AttemptStarted, CancelRequested, Started
from stepwave_server.core.model import Payload, Workflow
from stepwave_server.core.validate import Violation, validate
from stepwave_server.engine.admission import Admission
from stepwave_server.engine.attempt import Attempt
from stepwave_server.engine.base import Batch, EngineOptions, Page, StepPage, Submission
from stepwave_server.engine.deadlines import Deadlines
from stepwave_server.engine.errors import (
    NotAccepting,
    RunBroken,
    RunExists,
    RunNotEnded,
    RunNotFound,
    SequenceOutOfRange,
    TooManyRuns,
)
from stepwave_server.engine.evaluate import JsonEvaluator
from stepwave_server.engine.run import LocalRun, Services
from stepwave_server.engine.steps import kept_page, live_page
from stepwave_server.engine.watch import Watcher
from stepwave_server.journal import Header, Journal, Kept, Listing
from stepwave_server.telemetry import Telemetry
from stepwave_server.wire.content import same_content
from stepwave_server.wire.events import Kind, Record

__all__ = ["LocalEngine"]

logger = logging.getLogger(__name__)

MOST_ABANDONED = 1_000
"""Interrupted attempts that may cling on without a place among those in flight."""

SHUTDOWN_GRACE = 2.0
"""Seconds that cancelled attempts get to end when the engine closes."""


class LocalEngine:
    """Drives runs on this process's event loop.

    Args:
        journal: Where events are kept.
        actions: What steps can do.
        clock: Nanoseconds since the epoch.
        options: Bounds and manners.
        telemetry: Where spans go; `None`: nowhere.
    """

    name = "local"

    def __init__(
        self,
        *,
        journal: Journal,
        actions: Registry,
        clock: Callable[[], int],
        options: EngineOptions | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.options = options or EngineOptions()
        self.actions = actions
        self._journal = journal
        self._clock = clock
        self._telemetry = telemetry
        self._admission: Admission[Attempt] = Admission(self.options.max_attempts_in_flight)
        self._loop = asyncio.get_running_loop()
        self._deadlines: Deadlines[Attempt] = Deadlines(self._loop, lambda attempt: attempt.run.expired(attempt))
        self._runs: dict[RunKey, LocalRun] = {}
        self._ready: list[LocalRun] = []
        self._turning = False
        self._watchers: set[Watcher] = set()
        self._abandoned: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._services = Services(
            clock=clock,
            journal=journal,
            actions=actions,
            evaluator=JsonEvaluator(self.options.max_payload_bytes),
            options=self.options,
            turn=self._request_turn,
            submit=self._admission.submit,
            release=self._admission.release,
            deadlines=self._deadlines,
            abandoned=self._keep_abandoned,
            finished=self._run_finished,
        )

    @property
    def draining(self) -> bool:
        """Whether it takes no new runs."""
        return self._draining

    @property
    def attempts_in_flight(self) -> int:
        """How many attempts are in flight now."""
        return self._admission.in_flight

    @property
    def watchers(self) -> int:
        """How many streams are open now."""
        return len(self._watchers)

    def check(self, workflow: Workflow, *, open_run: bool) -> list[Violation]:
        """Return every reason why a workflow cannot run here."""
        violations = validate(workflow, self.options.run.limits, open_run=open_run)
        for index, step in enumerate(workflow.steps):
            if step.action and self.actions.get(step.action) is None:
                violations.append(Violation(f"steps[{index}].action", self.actions.unknown(step.action)))
        return violations

    def start(self, submission: Submission) -> bool:
        """Start a run; `False`: a run of the same id and content exists."""
        key = submission.key
        if key in self._runs or self._journal.kept(key) is not None:
            if not same_content(submission.definition, submission.state.input, *self.content(key)):
                raise RunExists(key)
            return False
        if self._draining:
            raise NotAccepting
        if len(self._runs) >= self.options.max_runs:
            raise TooManyRuns(self.options.max_runs)
        self._begin(submission)
        return True

    def _begin(self, submission: Submission) -> None:
        key, state, parent = submission.key, submission.state, submission.parent
        header = Header(
            key,
            submission.definition,
            state.input,
            state.options,
            self._clock(),
            parent.traceparent if parent is not None else "",
            parent.tracestate if parent is not None else "",
        )
        tracer = None
        if self._telemetry is not None:
            tracer = self._telemetry.run(
                namespace=key.namespace,
                run_id=key.run_id,
                workflow_name=state.workflow.name,
                parent=parent,
                create_time=header.create_time,
            )
        run = self._runs[key] = LocalRun(header, state, self._services, tracer)
        self._idle.clear()
        self._journal.create(header)
        run.tell(Started())
        self._turn()
        if run.broken is not None:
            raise run.broken

    async def info(self, key: RunKey) -> RunInfo:
        """Return how a run stands, by what is committed."""
        run = self._runs.get(key)
        if run is None:
            return self._kept(key).info
        info = run.info()
        await run.settle(info.last_sequence)
        return info

    async def result(self, key: RunKey) -> Record:
        """Return the record of a run's `run_finished`."""
        if key in self._runs:
            raise RunNotEnded(key)
        kept = self._kept(key)
        return (await self._journal.pick(key, [kept.info.last_sequence]))[0]

    async def steps(self, key: RunKey, start: int, most: int) -> StepPage:
        """Return how steps stand, from an index in declaration order."""
        run = self._runs.get(key)
        if run is not None:
            page = [step if step.finish else copy(step) for step in run.state.by_index[start : start + most]]
            await run.settle(run.state.sequence)
            return await live_page(self._journal, key, page, start, len(run.state.by_index))
        return await kept_page(self._journal, key, self._kept(key).finishes, start, most)

    async def list_runs(self, listing: Listing, before: tuple[int, str] | None, most: int) -> Page:
        """Return runs that match, newest first, from after `(create_time, run_id)`."""
        live = [run.info() for run in self._runs.values()]
        found = [info for info in live if listing.matches(info)]
        found += self._journal.list_kept(listing)
        found.sort(key=_age, reverse=True)
        if before is not None:
            found = [info for info in found if _age(info) < before]
        for info in found[:most]:
            await self._settled(info)
        return Page(found[:most], len(found) > most)

    async def _settled(self, info: RunInfo) -> None:
        """Wait until what a run's information tells is committed."""
        run = self._runs.get(info.key)
        if run is not None:
            with suppress(RunBroken):
                await run.settle(info.last_sequence)

    def content(self, key: RunKey) -> tuple[bytes, Payload]:
        """Return the workflow and input that a run was started with."""
        run = self._runs.get(key)
        header = run.header if run is not None else self._kept(key).header
        return header.workflow, header.input

    async def watch(self, key: RunKey, after: int, kinds: Collection[Kind]) -> AsyncGenerator[Batch, None]:
        """Stream a run's events after a number.

        Raises:
            RunNotFound: There is no such run, or it is forgotten meanwhile.
            SequenceOutOfRange: The number is beyond its newest event.
        """
        run = self._runs.get(key)
        last = run.committed if run is not None else self._kept(key).info.last_sequence
        if after > last:
            raise SequenceOutOfRange(after, last)
        if run is None and after == last:
            return
        so_far = run.said_so_far() if run is not None else ()
        watcher = Watcher(self._journal, key, after, kinds, self.options.heartbeat, so_far)
        self._watchers.add(watcher)
        if run is not None:
            run.join(watcher)
        try:
            with self._journal.reading(key):
                async with aclosing(watcher.batches()) as batches:
                    async for batch in batches:
                        yield batch
        finally:
            self._watchers.discard(watcher)
            if run is not None:
                run.leave(watcher)

    def cancel(self, key: RunKey, reason: str) -> None:
        """Ask a run to end; one that has ended stays as it is."""
        run = self._runs.get(key)
        if run is not None:
            run.tell(CancelRequested(reason))
            self._turn()
        else:
            self._kept(key)

    async def delete(self, key: RunKey) -> None:
        """Forget a run that has ended."""
        if key in self._runs:
            raise RunNotEnded(key)
        self._kept(key)
        self._journal.delete(key)

    async def drain(self, patience: float) -> None:
        """Take no new runs and wait for those under way; after `patience` seconds cancel them and wait again."""
        self._draining = True
        if not await self._wait_idle(patience):
            for run in list(self._runs.values()):
                run.tell(CancelRequested("the server stopped"))
            await self._wait_idle(self.options.cancel_grace + SHUTDOWN_GRACE)

    async def close(self) -> None:
        """End every stream, cancel every attempt, and release everything."""
        self._draining = True
        tasks = [*self._abandoned, *(task for run in self._runs.values() for task in run.tasks())]
        for watcher in list(self._watchers):
            watcher.close()
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=SHUTDOWN_GRACE)
            if stuck:
                logger.warning("attempts did not end: %s", ", ".join(sorted(task.get_name() for task in stuck)))
        self._deadlines.close()
        await self._journal.close()

    async def _wait_idle(self, patience: float) -> bool:
        try:
            async with asyncio.timeout(patience):
                return await self._idle.wait()
        except TimeoutError:
            return False

    def _request_turn(self, run: LocalRun) -> None:
        self._ready.append(run)
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Let runs decide on their inputs and fill the places that came free until nothing moves, then commit.

        All that happens in one iteration of the loop is so decided and committed together, one group for every run.
        """
        while self._ready:
            for run in self._settle():
                run.commit()
        self._turning = False

    def _settle(self) -> Iterable[LocalRun]:
        """Decide until nothing moves, and return the runs that have decided something."""
        moved: dict[LocalRun, None] = {}
        while self._ready:
            ready, self._ready = self._ready, []
            for run in ready:
                run.decide()
                moved[run] = None
            self._admit()
        return moved

    def _admit(self) -> None:
        while (attempt := self._admission.admit()) is not None:
            attempt.admitted = True
            attempt.run.tell(AttemptStarted(attempt.step_id, attempt.number))

    def _keep_abandoned(self, task: asyncio.Task[None]) -> None:
        """Keep a task that may go on from being collected, until it ends or the engine closes."""
        if len(self._abandoned) < MOST_ABANDONED:
            task.add_done_callback(self._abandoned.discard)
        else:  # it keeps its place until it ends: what clings on is bounded too
            self._admission.in_flight += 1
            task.add_done_callback(self._end_abandoned)
        self._abandoned.add(task)

    def _end_abandoned(self, task: asyncio.Task[None]) -> None:
        self._abandoned.discard(task)
        self._admission.release()
        self._admit()

    def _run_finished(self, run: LocalRun) -> None:
        del self._runs[run.key]
        if run.broken is not None:
            self._journal.discard(run.key)
        if not self._runs:
            self._idle.set()

    def _kept(self, key: RunKey) -> Kept:
        kept = self._journal.kept(key)
        if kept is None:
            raise RunNotFound(key)
        return kept


def _age(info: RunInfo) -> tuple[int, str]:
    return info.create_time, info.key.run_id
