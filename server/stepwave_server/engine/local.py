"""The asyncio engine: drives runs in this process."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from stepwave_server.actions import Registry
from stepwave_server.core.explanation import Waiting
from stepwave_server.core.info import LimitInfo, RunKey
from stepwave_server.core.messages import (
    CancelRequested,
    Event,
    Started,
)
from stepwave_server.core.model import FallbackAction, Step, Workflow
from stepwave_server.core.validate import Violation, validate
from stepwave_server.engine.admission.base import Permit
from stepwave_server.engine.admission.controller import AdmissionController
from stepwave_server.engine.attempts.attempt import Attempt
from stepwave_server.engine.attempts.deadlines import Deadlines
from stepwave_server.engine.attempts.json_evaluator import JsonEvaluator
from stepwave_server.engine.base import EngineOptions, Recover, Recovery, Submission
from stepwave_server.engine.errors import (
    JournalUnavailable,
    NotAccepting,
    RunBroken,
    RunExists,
    RunNotFound,
    TooManyRuns,
)
from stepwave_server.engine.queries.run_queries import RunQueries
from stepwave_server.engine.runs.defects import Defects
from stepwave_server.engine.runs.recovery import (
    FAILED_BY_DEFECT,
    FAILED_BY_RESTART,
    Revived,
    Unfit,
    Unreadable,
    revive,
    unfolded,
)
from stepwave_server.engine.runs.run import LocalRun, Services
from stepwave_server.journal import Header, Journal, Unfinished
from stepwave_server.telemetry import ProcessTelemetry, RunTracer, Telemetry, TraceParent
from stepwave_server.wire.workflows.content import same_content

__all__ = ["LocalEngine"]

logger = logging.getLogger(__name__)

MOST_ABANDONED = 1_000
"""Interrupted attempts that may cling on without a place among those in flight."""

BROKEN_BEFORE = 'run %s met a defect of an earlier server; it ends as failed: see "stepwave result %s"'

SHUTDOWN_GRACE = 2.0
"""Seconds that cancelled attempts get to end when the engine closes."""


class LocalEngine(RunQueries):
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
        telemetry: Telemetry | ProcessTelemetry | None = None,
    ) -> None:
        super().__init__(journal, clock, options or EngineOptions())
        self.actions = actions
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._admission: AdmissionController[Attempt] = AdmissionController(
            self._loop, self.options.max_attempts_in_flight, self.options.limits
        )
        self._deadlines: Deadlines[Attempt] = Deadlines(self._loop, Attempt.time_out)
        self._ready: list[LocalRun] = []
        self._turning = False
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
            admission=self._admission,
            deadlines=self._deadlines,
            abandoned=self._keep_abandoned,
            finished=self._run_finished,
            broke=lambda run: self._defects.take(run),
        )
        self._defects = Defects(self._services, self._runs, self._let_go)

    @property
    def draining(self) -> bool:
        """Whether it takes no new runs."""
        return self._draining

    @property
    def attempts_in_flight(self) -> int:
        """How many attempts are in flight now."""
        return self._admission.in_flight

    def waiting(self, key: RunKey) -> Sequence[Waiting]:
        """Return why ready steps of a run have not started, the most frequent reason first."""
        return self._admission.waiting(key)

    def limits(self, action: str) -> Sequence[LimitInfo]:
        """Return what an action is allowed, and how that stands now."""
        return self._admission.limits(action, self._clock())

    def check(self, workflow: Workflow, *, open_run: bool) -> list[Violation]:
        """Return every reason why a workflow cannot run here."""
        violations = validate(workflow, self.options.run.limits, open_run=open_run)
        for index, step in enumerate(workflow.steps):
            if step.input is not None or self.actions.get(step.action) is None:  # else there is nothing to check
                violations += self._check_action(step, f"steps[{index}]")
            if isinstance(step.fallback, FallbackAction):
                violations += self._check_action(step.fallback, f"steps[{index}].fallback.action")
        return violations

    def _check_action(self, call: Step | FallbackAction, path: str) -> Iterable[Violation]:
        """Yield what is wrong with an action's name, and with what its input says literally."""
        action = self.actions.get(call.action)
        if action is None:
            if call.action:
                yield Violation(f"{path}.action", self.actions.unknown(call.action))
        elif call.input is not None:
            targets = [binding.target for binding in call.bindings]
            for problem in action.problems(call.input, targets):
                yield Violation(f"{path}.input", problem)

    async def start(self, submission: Submission) -> bool:
        """Start a run; `False`: a run of the same id and content exists."""
        key = submission.key
        while (header := await self._found(key)) is not None:  # forgotten while it was looked for: look again
            if not _same_content(submission, header):
                raise RunExists(key)
            return False
        if self._draining:
            raise NotAccepting
        if self._trouble:
            raise JournalUnavailable(self._trouble)
        if len(self._runs) >= self.options.max_runs:
            raise TooManyRuns(self.options.max_runs)
        self._begin(submission)
        return True

    async def _found(self, key: RunKey) -> Header | None:
        """Return what the run of a key was given; for a key that is free, without giving others a turn."""
        while key in self._runs or self._journal.has_ended(key):
            with suppress(RunNotFound):
                return await self.header(key)
        self._require_whole(key)
        return None

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
            submission.window,
            submission.rerun_of,
        )
        run = self._add(header, Revived(state, []))
        self._journal.create(header)
        run.tell(Started(submission.reused, submission.rerun_of if submission.reused else ""))
        self._turn()
        if run.broken is not None and not run.kept:
            raise run.broken

    def _add(self, header: Header, revived: Revived, *, failing: bool = False) -> LocalRun:
        tracer = self._tracer(header, revived.state.workflow.name, revived.events)
        run = self._runs[header.key] = LocalRun(header, revived.state, self._services, tracer, failing=failing)
        self._idle.clear()
        return run

    def _tracer(self, header: Header, workflow_name: str, events: Sequence[Event]) -> RunTracer | None:
        if self._telemetry is None:
            return None
        tracer = self._telemetry.run(
            namespace=header.key.namespace,
            run_id=header.key.run_id,
            workflow_name=workflow_name,
            parent=TraceParent(header.traceparent, header.tracestate) if header.traceparent else None,
            create_time=header.create_time,
        )
        if tracer is not None:
            tracer.replay(events)
        return tracer

    async def recover(self, how: Recover) -> Recovery:
        """Take up the runs that an earlier engine left under way, the oldest first.

        One that met a defect is ended as failed, however the others are taken up: its actions are called no more.
        """
        recovery = Recovery()
        async for unfinished in self._journal.unfinished():
            await self._recover(unfinished, how, recovery)
        self._admission.admit()  # what waits for admission alone makes no turn of its own
        self._turn()
        return recovery

    async def _recover(self, unfinished: Unfinished, how: Recover, recovery: Recovery) -> None:
        header = unfinished.header
        try:
            revived = await asyncio.to_thread(revive, unfinished)
        except Unreadable as error:
            self._broken[header.key] = RunBroken(header.key, str(error))
            self._journal.discard(header.key)
            recovery.unreadable[header.key.run_id] = str(error)
        except Unfit:
            self._add(header, unfolded(unfinished), failing=True).give_up()
        else:
            run = self._add(header, revived, failing=unfinished.broken)
            if unfinished.broken:
                run_id = header.key.run_id
                logger.error(BROKEN_BEFORE, run_id, run_id, extra={"run_id": run_id})
                run.stop_lost(FAILED_BY_DEFECT)
            else:
                self._take_up(run, how, recovery)

    def _take_up(self, run: LocalRun, how: Recover, recovery: Recovery) -> None:
        recovery.runs += 1
        recovery.attempts += len(run.state.running)
        if how is Recover.RESUME:
            if run.header.window is not None:
                recovery.held[run.key] = run.header.window
            run.resume()
        elif how is Recover.FAIL:
            run.stop_lost(FAILED_BY_RESTART)
        else:
            run.paused = True

    def cancel(self, key: RunKey, reason: str) -> None:
        """Ask a run to end; one that has ended stays as it is."""
        run = self._runs.get(key)
        if run is not None:
            run.tell(CancelRequested(reason))
            self._turn()
        elif not self._journal.has_ended(key):
            raise RunNotFound(key)

    async def detach(self, key: RunKey) -> None:
        """Note that nobody holds a run any more; one that has ended stays as it is."""
        run = self._runs.get(key)
        if run is not None and run.header.window is not None:
            await self._journal.detach(key)
            run.header = replace(run.header, window=None)

    async def delete(self, key: RunKey) -> None:
        """Forget a run that has ended."""
        self._require_ended(key)
        if not self._journal.has_ended(key):
            raise RunNotFound(key)
        await self._journal.delete(key)

    async def drain(self, patience: float) -> None:
        """Take no new runs and wait for those under way.

        After `patience` seconds they are left to the next server, if the journal outlives this one; else they are
        cancelled, and waited for again.
        """
        self._draining = True
        self._check_idle()
        if not await self._wait_idle(patience) and not self._journal.durable:
            for run in list(self._runs.values()):
                run.tell(CancelRequested("the server stopped"))
            await self._wait_idle(self.options.cancel_grace + SHUTDOWN_GRACE)

    async def close(self) -> None:
        """End every stream and cancel every attempt. Streams may still read what they lack: the journal stays open."""
        self._draining = True
        for run in self._runs.values():
            run.freeze()
        running = (task for run in self._runs.values() for task in run.attempts.tasks())
        tasks = {*self._abandoned, *self._defects.tasks(), *running}
        for watcher in list(self._watchers):
            watcher.close()
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=SHUTDOWN_GRACE)
            if stuck:
                logger.warning("attempts did not end: %s", ", ".join(sorted(task.get_name() for task in stuck)))
        self._deadlines.close()
        self._admission.close()

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
        if self._draining:  # a run may have come to where it waits for another server
            self._check_idle()

    def _settle(self) -> Iterable[LocalRun]:
        """Decide until nothing moves, and return the runs that have decided something."""
        moved: dict[LocalRun, None] = {}
        while self._ready:
            ready, self._ready = self._ready, []
            for run in ready:
                run.decide()
                moved[run] = None
            self._admission.admit()
        return moved

    def _keep_abandoned(self, task: asyncio.Task[None]) -> None:
        """Keep a task that may go on from being collected, until it ends or the engine closes."""
        if len(self._abandoned) < MOST_ABANDONED:
            task.add_done_callback(self._abandoned.discard)
        else:  # it keeps its place until it ends: what clings on is bounded too
            task.add_done_callback(partial(self._end_abandoned, self._admission.occupy()))
        self._abandoned.add(task)

    def _end_abandoned(self, permit: Permit, task: asyncio.Task[None]) -> None:
        self._abandoned.discard(task)
        self._admission.release(permit)
        self._admission.admit()

    def _run_finished(self, run: LocalRun) -> None:
        del self._runs[run.key]
        self._check_idle()

    def _let_go(self, run: LocalRun) -> None:
        """Let go of a run that broke and has no end; another server may end it, if the journal outlives this one."""
        broken = run.broken or RunBroken(run.key)
        if self._journal.discard(run.key):
            self._broken[run.key] = broken
        elif run.tracer is not None:
            run.tracer.abandon(self._clock(), str(broken))
        self._run_finished(run)
        run.subscribers.fail(broken)
        run.watermark.refuse(broken)

    def _check_idle(self) -> None:
        """Note whether all has ended that a drain would wait for: not runs that wait for another server."""
        if all(self._draining and run.stalled for run in self._runs.values()):
            self._idle.set()


def _same_content(submission: Submission, header: Header) -> bool:
    return submission.rerun_of == header.rerun_of and same_content(
        submission.definition, submission.state.input, header.workflow, header.input
    )
