"""The Temporal engine. Workflows drive the runs; this server starts them, and derives their events from histories."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from stepwave_server.actions import KnownAction, Registry
from stepwave_server.core.decide import Refused
from stepwave_server.core.info import Load, RunKey
from stepwave_server.core.messages import AddSteps, CancelRequested, Input, StepCompleted
from stepwave_server.core.model import SECOND
from stepwave_server.engine.base import (
    EngineOptions,
    Recover,
    Recovery,
    Submission,
)
from stepwave_server.engine.checks import action_names
from stepwave_server.engine.errors import (
    DefinitionTooLarge,
    EngineError,
    JournalUnavailable,
    NotAccepting,
    RunExists,
    RunNotEnded,
    RunNotFound,
    StepsRefused,
)
from stepwave_server.engine.queries.load import lag_of
from stepwave_server.engine.runs.completions import check_completion, check_ended, with_attempt
from stepwave_server.engine.temporal.catalog import Catalog
from stepwave_server.engine.temporal.catalog_workflow import CatalogWorkflow
from stepwave_server.engine.temporal.codec import SIGNAL, to_signal, workflow_id_of
from stepwave_server.engine.temporal.connection import Connection
from stepwave_server.engine.temporal.driver_messages import Request
from stepwave_server.engine.temporal.followed_run import FollowedRun
from stepwave_server.engine.temporal.histories import ForeignWorkflow, Histories
from stepwave_server.engine.temporal.holds import HoldChange, HoldKind
from stepwave_server.engine.temporal.live import LiveRuns
from stepwave_server.engine.temporal.presence import Presence, PresenceWorkflow, release_holds_activity
from stepwave_server.engine.temporal.queries import TemporalQueries
from stepwave_server.engine.temporal.redis.reader import RedisReader
from stepwave_server.engine.temporal.run_list import RunList
from stepwave_server.engine.temporal.starter import MAX_DEFINITION_BYTES, Starter, TemporalOptions
from stepwave_server.engine.temporal.task_queues import TaskQueues
from stepwave_server.engine.temporal.workflow import RunHooks, RunWorkflow
from stepwave_server.journal import MemoryJournal, Retention
from stepwave_server.telemetry import Measures, ProcessTelemetry, Telemetry
from stepwave_server.wire.workflows.content import same_content

__all__ = ["TemporalEngine", "TemporalOptions"]

logger = logging.getLogger(__name__)

MAX_STEPS = 5_000
"""Steps of a run. Each takes at least three events of a history, which Temporal bounds."""

CACHE = Retention(count=1_000, age=100 * 366 * 24 * 3600 * SECOND, size=256 << 20)
"""The ended runs that this server keeps in memory, whenever they ended. Others are derived again when they are asked
for."""

ANSWER_SECONDS = 15.0
"""Seconds in which a run decides on a request of a caller, if any server can continue it.

A decision that was lost with its server, or with Temporal, is made again after the timeout of a workflow task: between
five and ten seconds.
"""

MAX_TASKS = 20
"""Workflow tasks that this server works on at once. More wait in Temporal, where their timeouts have not begun.

After the loss of a server, another one replays the histories of its runs. They share the interpreter.
"""

RETRY_SECONDS = 0.5
"""Seconds after which a hold is released again if Temporal did not answer."""

STICKY_SECONDS = 3.0
"""Seconds after which another server continues a run if the one that has it in memory does not answer."""


def bounded(options: EngineOptions) -> EngineOptions:
    """Return options within the bounds of Temporal. Runs and attempts of all servers together have no bound."""
    limits = replace(options.run.limits, max_steps=min(options.run.limits.max_steps, MAX_STEPS))
    run = replace(options.run, limits=limits)
    return replace(options, max_runs=0, max_attempts_in_flight=0, run=run)


class TemporalEngine(TemporalQueries):
    """Drives runs on a Temporal cluster. Every server that shares its task queue shows and continues every run.

    Attributes:
        catalog: The actions of all hosts.
        connection: Knows whether Temporal answers.
        presence: Keeps this server present while it holds runs.

    Args:
        client: The client of Temporal.
        actions: The actions that steps may call.
        clock: Returns the time in nanoseconds since the epoch.
        options: Options of the engine.
        temporal: Options of the engine on Temporal alone.
        telemetry: Traces runs; `None`: no tracing.
        measures: The numbers that metrics are made of; `None`: nothing is measured.
        reader: Reads chunks and logs; `None`: there are none.
    """

    name = "temporal"

    def __init__(
        self,
        *,
        client: Client,
        actions: Registry,
        clock: Callable[[], int],
        options: EngineOptions,
        temporal: TemporalOptions,
        telemetry: Telemetry | ProcessTelemetry | None = None,
        measures: Measures | None = None,
        reader: RedisReader | None = None,
    ) -> None:
        options = bounded(options)
        self._cache = MemoryJournal(clock, CACHE)
        self.catalog = Catalog(client, task_queue=temporal.task_queue, own=actions, address=temporal.address)
        super().__init__(journal=self._cache, actions=self.catalog, clock=clock, options=options)
        self._client = client
        self._temporal = temporal
        self.connection = Connection(client, temporal.address)
        self._live = LiveRuns(client, TaskQueues(client, temporal.task_queue, clock), clock, reader)
        self._histories = Histories(
            client,
            runs=self._runs,
            cache=self._cache,
            clock=clock,
            connection=self.connection,
            before_outcomes=self._live.catch_up,
        )
        self.presence = Presence(client, task_queue=temporal.task_queue, silence=temporal.heartbeat_timeout)
        self._starter = Starter(
            client,
            options=options,
            temporal=temporal,
            clock=clock,
            is_deleted=self._histories.is_deleted,
            server_id=self.presence.server_id,
        )
        self._list = RunList(
            client,
            task_queue=temporal.task_queue,
            clock=clock,
            runs=self._runs,
            cache=self._cache,
            info=self.info,
            is_deleted=self._histories.is_deleted,
            unavailable=self.connection.unavailable,
        )
        self._draining = False
        self._closed = False
        self._telemetry = telemetry
        self._measures = measures
        self._worker: Worker | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._watching: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._end: asyncio.Task[None] | None = None

    def _make_worker(self) -> Worker:
        """Return what drives runs."""
        return Worker(
            self._client,
            task_queue=self._temporal.task_queue,
            workflows=[RunWorkflow, CatalogWorkflow, PresenceWorkflow],
            activities=[release_holds_activity(self._client, self._temporal.task_queue)],
            max_concurrent_activity_task_polls=1,
            max_concurrent_workflow_tasks=MAX_TASKS,
            interceptors=[RunHooks(self._histories.hint, self._telemetry, self._measures)],
            workflow_runner=UnsandboxedWorkflowRunner(),
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=STICKY_SECONDS),
            debug_mode=True,  # no bound of two seconds for a decision, which would be repeated for ever
        )

    @property
    def draining(self) -> bool:
        """Whether it accepts no new runs."""
        return self._draining

    @property
    def attempts_in_flight(self) -> int:
        """Number of attempts in flight, of the runs whose histories this server reads."""
        return sum(len(run.driver.in_flight) for run in self._runs.values())

    def load(self) -> Load:
        """Return what the engine does now. The runs are those whose histories this server reads.

        Hosts run the attempts, and Temporal has those that wait for a host.
        """
        streams = list(self._watchers)
        return Load(
            runs=len(self._runs),
            streams=len(streams),
            stream_lag=lag_of(streams),
        )

    async def recover(self, how: Recover) -> Recovery:
        """Begin to drive runs. There is nothing to recover: Temporal gives unfinished runs to any server."""
        self._worker = self._make_worker()
        self._tasks.append(asyncio.create_task(self._worker.run(), name="workflows"))
        self.follow()
        return Recovery()

    def follow(self) -> None:
        """Begin to watch the connection, and the runs that are asked for. A host of actions does only this."""
        self._watching = [
            asyncio.create_task(self.connection.watch(self._on_commit_error), name="connection to Temporal"),
            asyncio.create_task(self._histories.forget_idle_runs(), name="idle runs"),
        ]

    async def find_actions(self, names: Collection[str]) -> None:
        """Find out which of these actions exist."""
        await self.catalog.refresh(names)

    async def list_actions(self) -> Sequence[KnownAction]:
        """Return the actions of all hosts, by name."""
        await self.catalog.refresh()
        return list(self.catalog)

    # Calls that change runs.

    async def start(self, submission: Submission) -> bool:
        """Start a run; see `Engine`. If the caller leaves meanwhile, no stream of this server holds the run."""
        if self._draining:
            raise NotAccepting
        starting = asyncio.create_task(self._start(submission), name=f"start of {submission.key.run_id}")
        try:
            return await asyncio.shield(starting)  # a request that was sent may have its effect
        except asyncio.CancelledError:
            leaving = asyncio.create_task(self._leave(starting, submission), name=f"end of {starting.get_name()}")
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            raise

    async def _leave(self, starting: "asyncio.Task[bool]", submission: Submission) -> None:
        """Release the hold of a caller that has left, once its run has started."""
        with suppress(EngineError):  # it did not start, or has ended
            started = await starting
            while started and submission.window is not None and not self._closed:
                try:
                    await self.hold(submission.key, "release")
                except JournalUnavailable:
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    return

    async def _start(self, submission: Submission) -> bool:
        try:
            async with self.connection.waiting():
                if submission.window is not None:
                    await self.presence.begin()
                with self._histories.starting(submission.key, attached=submission.window is not None):
                    execution = await self._starter.start(submission)
                    self._histories.note_start(submission.key, execution)
        except WorkflowAlreadyStartedError:
            return await self._check_repeat(submission)
        self._list.note_start(submission.key)
        return True

    async def _check_repeat(self, submission: Submission) -> bool:
        """Check that the run that exists has the content of a submission.

        Raises:
            RunExists: It has another content.
        """
        try:
            header = await self.header(submission.key)
        except ForeignWorkflow:
            raise RunExists(submission.key) from None
        except RunNotFound:
            message = f'the run that had the id "{submission.key.run_id}" is being deleted'
            raise JournalUnavailable(message) from None
        state = submission.state
        same = (submission.rerun_of, state.options.open) == (header.rerun_of, header.options.open)
        if not same or not same_content(submission.definition, state.input, header.workflow, header.input):
            raise RunExists(submission.key)
        return False

    async def _request(self, run: FollowedRun, given: Input | HoldChange) -> bool:
        """Give a run a request of a caller, and wait until it has decided on it.

        Returns:
            Whether it has accepted it; `False`: it ended before that.

        Raises:
            Refused: It was refused.
            JournalUnavailable: Temporal does not answer, or no server continues the run.
        """
        self._require_open()
        request = Request(uuid4().hex, given)
        message = to_signal(request)
        if (size := len(str(message))) > MAX_DEFINITION_BYTES:
            raise DefinitionTooLarge("the steps or the output", size, MAX_DEFINITION_BYTES)
        async with self.connection.waiting():
            try:
                await self._client.get_workflow_handle(workflow_id_of(run.key)).signal(SIGNAL, message)
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:
                    raise
                # it has ended, and this server waits for the end: only then can it tell what it came to
        async with self._deciding():
            return await run.answered(request.token)

    def _require_open(self) -> None:
        """Refuse a request once this server has stopped: it would wait in vain for the decision.

        Raises:
            JournalUnavailable: This server has stopped.
        """
        if self._closed:
            raise JournalUnavailable("this server has stopped")

    @asynccontextmanager
    async def _deciding(self) -> AsyncIterator[None]:
        """Bound the wait for a decision of a run.

        Raises:
            JournalUnavailable: Temporal does not answer, or no server continues the run.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self.connection.waiting(None):
                yield
        except TimeoutError:
            raise JournalUnavailable(f"no server continued the run within {ANSWER_SECONDS:g} s") from None

    async def cancel(self, key: RunKey, reason: str, caller: str = "") -> None:
        """Request the cancellation of a run. A run that has ended stays unchanged."""
        async with self._histories.using(key) as run:
            if run is not None:
                await self._request(run, CancelRequested(reason, caller))

    async def add_steps(self, key: RunKey, addition: AddSteps) -> None:
        """Add steps to an open run; see `Engine`."""
        async with self._histories.using(key) as run:
            if run is None:
                await self._require_made(key, addition)
                return
            await self.find_actions(action_names(addition.steps))
            fresh = self._to_add(run, addition)
            if fresh is not None:
                try:
                    added = await self._request(run, fresh)
                except Refused as refused:  # another call came first
                    if refused.violations:
                        raise StepsRefused(refused.violations) from None
                    self._to_add(run, addition)
                else:
                    if not added:
                        await self._require_made(key, addition)

    async def complete(self, key: RunKey, completion: StepCompleted) -> None:
        """Complete a step that waits; see `Engine`."""
        async with self._histories.using(key) as run:
            if run is not None:
                self._require_open()
                async with self._deciding():
                    await run.begun()
            if run is None or run.closed:
                await self._check_ended(key, completion)
            elif check_completion(key, run.state, completion, paused=False):
                try:
                    completed = await self._request(run, with_attempt(run.state, completion))
                except Refused:  # another call came first
                    check_completion(key, run.state, completion, paused=False)
                else:
                    if not completed:
                        await self._check_ended(key, completion)

    async def _check_ended(self, key: RunKey, completion: StepCompleted) -> None:
        """Check that a step of a run that has ended was completed with this outcome."""
        finished = await self.finished_steps(key)
        check_ended(key, completion, next((end for end in finished if end.step_id == completion.step_id), None))

    async def detach(self, key: RunKey) -> None:
        """Detach a run."""
        await self._change_holds(key, HoldChange("detach"))

    async def hold(self, key: RunKey, kind: HoldKind) -> None:
        """Tell a run that this server holds it, or does not."""
        if kind == "attach":
            async with self.connection.waiting():
                await self.presence.begin()
        await self._change_holds(key, HoldChange(kind, self.presence.server_id))

    async def _change_holds(self, key: RunKey, change: HoldChange) -> None:
        async with self._histories.using(key) as run:
            if run is not None and run.driver.holds.window is not None:
                await self._request(run, change)

    async def delete(self, key: RunKey) -> None:
        """Delete a run that has ended."""
        async with self._histories.using(key) as run:
            if run is not None:
                raise RunNotEnded(key)
            execution = self._histories.execution_of(key)
            request = DeleteWorkflowExecutionRequest(
                namespace=self._client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=workflow_id_of(key), run_id=execution),
            )
            async with self.connection.waiting():
                try:
                    await self._client.workflow_service.delete_workflow_execution(request)
                except RPCError as error:
                    if error.status != RPCStatusCode.NOT_FOUND:
                        raise
        self._histories.note_deletion(key, execution)
        self._list.forget(key)
        await self._live.delete(key, execution)

    # The end of this server.

    async def drain(self, seconds: float) -> None:
        """Accept no new runs. Those under way go on, on another server."""
        self._draining = True

    async def close(self) -> None:
        """End all streams, and drive no more runs."""
        if self._end is None:
            self._end = asyncio.create_task(self._close(), name="end of the engine")
        await asyncio.shield(self._end)

    async def _close(self) -> None:
        self._draining = self._closed = True
        for watcher in list(self._watchers):
            watcher.close()
        ended = await self.connection.ends(asyncio.create_task(self._end_workers(), name="end of the workers"))
        others = [*self._watching, *self._leaving]
        for task in others:
            task.cancel()
        await asyncio.gather(*(self._tasks if ended else ()), *others, return_exceptions=True)
        await self._histories.close()
        await self._live.close()

    async def _end_workers(self) -> None:
        """End all workers. Each begins to end at once: one that has not begun could not be left."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.presence.end())
            if self._worker is not None:
                group.create_task(self._worker.shutdown())
