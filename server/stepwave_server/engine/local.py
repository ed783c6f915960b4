"""The local engine. It drives runs on the event loop of this process."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from stepwave.v1 import workflow_pb2
from stepwave_server.actions import Registry
from stepwave_server.core.explanation import Explanation, Waiting
from stepwave_server.core.info import LimitInfo, Load, RunKey
from stepwave_server.core.messages import CancelRequested, Started
from stepwave_server.engine.admission.base import Permit
from stepwave_server.engine.admission.controller import AdmissionController
from stepwave_server.engine.attempts.attempt import Attempt
from stepwave_server.engine.attempts.deadlines import Deadlines
from stepwave_server.engine.attempts.nested import NestedWorkflows
from stepwave_server.engine.base import EngineOptions, Recover, Recovery, Submission
from stepwave_server.engine.changes import RunChanges
from stepwave_server.engine.errors import (
    JournalUnavailable,
    NotAccepting,
    RunBroken,
    RunExists,
    RunNotFound,
    TooManyKeptBytes,
    TooManyRuns,
)
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.engine.queries.explainer import explain
from stepwave_server.engine.queries.load import load_of
from stepwave_server.engine.runs.defects import Defects
from stepwave_server.engine.runs.recovery import (
    FAILED_BY_DEFECT,
    FAILED_BY_RESTART,
    CorruptRun,
    RestoredRun,
    UnsupportedRun,
    placeholder,
    restore,
)
from stepwave_server.engine.runs.run import LocalRun, Services
from stepwave_server.journal import Header, Journal, Unfinished
from stepwave_server.telemetry import (
    Measures,
    ProcessTelemetry,
    RunMeasures,
    RunTelemetry,
    RunTracer,
    Telemetry,
    TraceParent,
)
from stepwave_server.wire.workflows.content import same_content

__all__ = ["LocalEngine"]

logger = logging.getLogger(__name__)

MAX_ABANDONED = 1_000
"""Abandoned attempts that may go on without a place. Each further one keeps a place until it ends."""

BROKEN_BEFORE = 'run %s met a defect of an earlier server; it ends as failed: see "stepwave result %s"'


SHUTDOWN_GRACE = 2.0
"""Seconds to wait for cancelled attempts when the engine closes."""


class LocalEngine(RunChanges):
    """Drives runs on this process's event loop.

    Args:
        journal: The journal.
        actions: The actions of the server.
        clock: Returns the time in nanoseconds since the epoch.
        options: Options of the engine; `None`: the defaults.
        named: Returns the workflow of a name, or raises `LookupError`, for steps that run it; `None`: there are none.
        telemetry: The telemetry that traces runs; `None`: no tracing.
        measures: The numbers that metrics are made of; `None`: nothing is measured.
    """

    name = "local"

    def __init__(
        self,
        *,
        journal: Journal,
        actions: Registry,
        clock: Callable[[], int],
        options: EngineOptions | None = None,
        named: Callable[[str], workflow_pb2.Workflow] | None = None,
        telemetry: Telemetry | ProcessTelemetry | None = None,
        measures: Measures | None = None,
    ) -> None:
        super().__init__(journal=journal, actions=actions, clock=clock, options=options or EngineOptions())
        self._telemetry = telemetry
        self._measures = measures
        self._loop = asyncio.get_running_loop()
        bounds = self.options.attempt_bounds
        self._admission: AdmissionController[Attempt] = AdmissionController(
            self._loop,
            self.options.max_attempts_in_flight,
            self.options.limits,
            None if bounds is None else bounds(),
            self.options.weight_of,
        )
        self._deadlines: Deadlines[Attempt] = Deadlines(self._loop, Attempt.time_out)
        self._ready: list[LocalRun] = []
        self._turn_scheduled = False
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
            admission=self._admission,
            deadlines=self._deadlines,
            logs=self._logs,
            nested=NestedWorkflows(
                named or _none_named, partial(self.check, open_run=False), self.options.max_payload_bytes
            ),
            add_steps=self.add_action_steps,
            request_turn=self._request_turn,
            on_abandoned=self._keep_abandoned,
            on_finished=self._remove_run,
            on_broken=lambda run: self._defects.handle(run),
        )
        self._defects = Defects(self._services, self._runs, self._drop_run)

    @property
    def draining(self) -> bool:
        """Whether it accepts no new runs."""
        return self._draining

    @property
    def attempts_in_flight(self) -> int:
        """Number of attempts in flight."""
        return self._admission.in_flight

    def apply_attempt_bounds(self) -> None:
        """Apply the bounds of namespaces on attempts in flight, which have changed."""
        if self.options.attempt_bounds is not None:
            self._admission.bound_namespaces(self.options.attempt_bounds())

    def waiting(self, key: RunKey) -> Sequence[Waiting]:
        """Return why ready steps of a run have not started, the most frequent reason first."""
        waiting = self._admission.waiting(key)
        if (run := self._runs.get(key)) is not None:
            waiting += run.waiting()
        return sorted(waiting, key=lambda group: -group.step_count)

    def _explain(self, run: LocalRun) -> Explanation:
        return explain(run, self._clock())

    def limits(self, action: str) -> Sequence[LimitInfo]:
        """Return the limits of an action, and their state now."""
        return self._admission.limits(action, self._clock())

    def load(self) -> Load:
        """Return what the engine does now. It may be called on any thread."""
        limits = self._admission.all_limits(self._clock())
        load = load_of(list(self._runs.values()), list(self._watchers), limits, self._journal.commits.info())
        return replace(load, kept_bytes=self._journal.kept_bytes.by_namespace())

    async def start(self, submission: Submission) -> bool:
        """Start a run.

        Returns:
            Whether a run was started; `False`: a run of the same id and content exists.

        Raises:
            NotAccepting: The engine accepts no new runs.
            TooManyRuns: The limit of runs under way is reached.
            TooManyKeptBytes: The runs of the namespace keep as many bytes as they may.
            RunExists: A run with this id and other content exists.
            JournalUnavailable: The journal cannot commit.
            RunBroken: A defect of the server broke the run before its first event, or a run with this id is broken.
        """
        key = submission.key
        if (header := await self._header_of(key)) is not None:
            if not _same_content(submission, header):
                raise RunExists(key)
            return False
        if self._draining:
            raise NotAccepting
        if self._commit_error:
            raise JournalUnavailable(self._commit_error)
        self._require_room(key.namespace)
        self._begin(submission)
        return True

    def _require_room(self, namespace: str) -> None:
        """Check the bounds of the server and of a namespace on new runs."""
        if len(self._runs) >= self.options.max_runs:
            raise TooManyRuns(self.options.max_runs)
        most = self.options.max_runs_of(namespace)
        if most is not None and sum(run.namespace == namespace for run in self._runs) >= most:
            raise TooManyRuns(most, namespace)
        most, kept = self.options.max_kept_bytes_of(namespace), self._journal.kept_bytes.of(namespace)
        if most is not None and kept >= most:
            raise TooManyKeptBytes(namespace, kept, most)

    async def _header_of(self, key: RunKey) -> Header | None:
        """Return the definition of the run with a key; `None`: there is no run, and this method did not await."""
        while key in self._runs or self._journal.has_ended(key):
            with suppress(RunNotFound):  # it was deleted meanwhile: check again
                return await self.header(key)
        self._require_not_broken(key)
        return None

    def _begin(self, submission: Submission) -> None:
        key, state, parent = submission.key, submission.state, submission.parent
        header = Header(
            key=key,
            workflow=submission.definition,
            input=state.input,
            options=state.options,
            create_time=self._clock(),
            traceparent=parent.traceparent if parent is not None else "",
            tracestate=parent.tracestate if parent is not None else "",
            window=submission.window,
            rerun_of=submission.rerun_of,
            workflow_digest=submission.workflow_digest,
            created_by=submission.created_by,
        )
        self._logs.delete_evicted(self._journal.has_ended)
        run = self._add(header, RestoredRun(state, []))
        self._journal.create(header)
        run.feed(Started(submission.reused, submission.rerun_of if submission.reused else ""))
        self._turn()
        if run.broken is not None and not run.kept:
            raise run.broken

    def _add(self, header: Header, restored: RestoredRun, *, failing: bool = False) -> LocalRun:
        telemetry = self._observe(header, restored)
        run = self._runs[header.key] = LocalRun(header, restored.state, self._services, telemetry, failing=failing)
        self._idle.clear()
        return run

    def _observe(self, header: Header, restored: RestoredRun) -> RunTelemetry:
        """Return the telemetry of a run, with the events that it has already."""
        key, state = header.key, restored.state
        measures = None if self._measures is None else RunMeasures(key, state, self._measures)
        telemetry = RunTelemetry(key, self._tracer(header, state.workflow.name), measures)
        telemetry.replay(restored.events)
        return telemetry

    def _tracer(self, header: Header, workflow_name: str) -> RunTracer | None:
        if self._telemetry is None:
            return None
        return self._telemetry.run(
            namespace=header.key.namespace,
            run_id=header.key.run_id,
            workflow_name=workflow_name,
            parent=TraceParent(header.traceparent, header.tracestate) if header.traceparent else None,
            create_time=header.create_time,
        )

    async def recover(self, how: Recover) -> Recovery:
        """Recover the runs that an earlier engine left under way, the oldest first.

        A broken run is ended as failed, whatever `how` is, so that its actions are not called again.
        """
        recovery = Recovery()
        async for unfinished in self._journal.unfinished():
            await self._recover_run(unfinished, how, recovery)
        self._admission.admit()  # attempts that wait for admission cause no turn
        self._turn()
        return recovery

    async def _recover_run(self, unfinished: Unfinished, how: Recover, recovery: Recovery) -> None:
        header = unfinished.header
        try:
            restored = await asyncio.to_thread(restore, unfinished)
        except UnsupportedRun as error:
            self._broken[header.key] = RunBroken(header.key, str(error))
            self._journal.discard(header.key)
            recovery.unsupported[header.key.run_id] = str(error)
        except CorruptRun:
            self._add(header, placeholder(unfinished), failing=True).mark_broken()
        else:
            run = self._add(header, restored, failing=unfinished.broken)
            if unfinished.broken:
                run_id = header.key.run_id
                logger.error(BROKEN_BEFORE, run_id, run_id, extra={"run_id": run_id})
                run.fail(FAILED_BY_DEFECT)
            else:
                self._apply_recovery(run, how, recovery)

    def _apply_recovery(self, run: LocalRun, how: Recover, recovery: Recovery) -> None:
        """Resume, fail or pause a restored run."""
        recovery.runs += 1
        recovery.attempts += len(run.state.running)
        if how is Recover.RESUME:
            if run.header.window is not None:
                recovery.attached[run.key] = run.header.window
            run.resume()
        elif how is Recover.FAIL:
            run.fail(FAILED_BY_RESTART)
        else:
            run.paused = True

    async def cancel(self, key: RunKey, reason: str, caller: str = "") -> None:
        """Request the cancellation of a run. A run that has ended stays unchanged.

        Raises:
            RunNotFound: The run does not exist.
            NotAccepting: The engine closes.
        """
        run = self._runs.get(key)
        if run is not None:
            run.feed(CancelRequested(reason, caller))
            self._turn()
            if run.broken is None and run.state.stopping is None and run.state.finished is None:
                raise NotAccepting  # the run takes no inputs
        elif not self._journal.has_ended(key):
            raise RunNotFound(key)

    async def detach(self, key: RunKey) -> None:
        """Detach a run, so that it no longer depends on its streams. A run that has ended stays unchanged."""
        run = self._runs.get(key)
        if run is not None and run.header.window is not None:
            await self._journal.detach(key)
            run.header = replace(run.header, window=None)

    async def delete(self, key: RunKey) -> None:
        """Delete a run that has ended."""
        self._require_ended(key)
        if not self._journal.has_ended(key):
            raise RunNotFound(key)
        await self._journal.delete(key)
        self._logs.delete(key)

    async def drain(self, seconds: float) -> None:
        """Accept no new runs, and wait for the runs under way.

        A durable journal leaves the runs that remain after `seconds` to the next server. Otherwise they are
        cancelled, and their ends are awaited.
        """
        self._draining = True
        self._check_idle()
        if not await self._wait_idle(seconds) and not self._journal.durable:
            for run in list(self._runs.values()):
                run.feed(CancelRequested("the server stopped"))
            await self._wait_idle(self.options.cancel_grace + SHUTDOWN_GRACE)

    async def close(self) -> None:
        """End all streams and cancel all attempts. The journal stays open for streams that still send events."""
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
        self._idle.set()  # a drain must not wait: frozen runs never end

    async def _wait_idle(self, seconds: float) -> bool:
        """Wait until no run is under way. Return whether that happened in time."""
        try:
            async with asyncio.timeout(seconds):
                return await self._idle.wait()
        except TimeoutError:
            return False

    def _request_turn(self, run: LocalRun) -> None:
        self._ready.append(run)
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Let runs decide on their inputs, and admit attempts, until there is nothing to decide; then commit.

        All inputs of one iteration of the loop are decided and committed together, in one group for each run.
        """
        while self._ready:
            for run in self._decide():
                run.commit()
        self._turn_scheduled = False
        if self._draining:  # a run may now be stalled
            self._check_idle()

    def _decide(self) -> Iterable[LocalRun]:
        """Let runs decide until there is nothing to decide. Return the runs that had inputs."""
        decided: dict[LocalRun, None] = {}
        while self._ready:
            ready, self._ready = self._ready, []
            for run in ready:
                run.decide()
                decided[run] = None
            self._admission.admit()
        return decided

    def _keep_abandoned(self, task: asyncio.Task[None]) -> None:
        """Keep a reference to the task of an abandoned attempt, until it ends or the engine closes."""
        if len(self._abandoned) < MAX_ABANDONED:
            task.add_done_callback(self._abandoned.discard)
        else:  # it keeps a place until it ends, which bounds abandoned attempts
            task.add_done_callback(partial(self._end_abandoned, self._admission.occupy()))
        self._abandoned.add(task)

    def _end_abandoned(self, permit: Permit, task: asyncio.Task[None]) -> None:
        self._abandoned.discard(task)
        self._admission.release(permit)
        self._admission.admit()

    def _remove_run(self, run: LocalRun) -> None:
        """Remove a run that has ended."""
        del self._runs[run.key]
        run.log.end()
        self._check_idle()

    def _drop_run(self, run: LocalRun) -> None:
        """Remove a broken run that cannot be ended. With a durable journal, another server may end it."""
        broken = run.broken or RunBroken(run.key)
        if self._journal.discard(run.key):
            self._broken[run.key] = broken
        else:
            run.telemetry.abandon(self._clock(), str(broken))
        self._remove_run(run)
        run.subscribers.fail(broken)
        run.watermark.refuse(broken)

    def _check_idle(self) -> None:
        """Set the idle event if no run is under way. During a drain, stalled runs do not count."""
        if all(self._draining and run.stalled for run in self._runs.values()):
            self._idle.set()


def _none_named(name: str) -> workflow_pb2.Workflow:
    raise LookupError(f'no workflow "{name}": this server has no named workflows')


def _same_content(submission: Submission, header: Header) -> bool:
    if (submission.rerun_of, submission.state.options.open) != (header.rerun_of, header.options.open):
        return False
    return same_content(submission.definition, submission.state.input, header.workflow, header.input)
