"""The histories that this server reads, to show the runs to which they belong."""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import NamedTuple

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError, RPCStatusCode

from stepwave_server.core.info import RunKey
from stepwave_server.engine.errors import EngineError, JournalUnavailable, RunBroken, RunNotFound
from stepwave_server.engine.temporal.codec import WORKFLOW_TYPE, workflow_id_of
from stepwave_server.engine.temporal.connection import Connection
from stepwave_server.engine.temporal.followed_run import FollowedRun
from stepwave_server.engine.temporal.history import HistoryReader
from stepwave_server.engine.temporal.pending import PendingAttempt, pending_attempts
from stepwave_server.engine.temporal.workflow import UnsupportedVersion
from stepwave_server.journal import MemoryJournal

__all__ = ["ForeignWorkflow", "Histories"]

logger = logging.getLogger(__name__)

IDLE_SECONDS = 30.0
"""Seconds after which this server no longer reads the history of a run that nobody asks for."""

POLL_SECONDS = 60.0
"""Seconds for one request for new events of a history. Temporal answers before that, if there are none."""

GATHER_SECONDS = 0.005
"""Seconds between two requests for new events of a history, so that one brings several."""

NEW_SECONDS = 5.0
"""Seconds for which a run that this server has started is new: up to then, its first use asks Temporal for no position.
"""

BEGIN_SECONDS = 2.0
"""Seconds for which the first use of a new run waits for its first events."""

JOIN_SECONDS = 2.0
"""Seconds for which the first outcomes of a run wait for the stream of its caller, which shows what comes before them.
"""

FIRST_HINT_SECONDS = 0.1
"""Seconds for which the first hint of a run that this server has started is awaited. It drives most of them."""

HINT_SECONDS = 0.5
"""Seconds for which a hint of a run that this server drives is awaited. Then its history is watched at Temporal."""

RETRY_SECONDS = 0.5
"""Seconds after which a failed request for new events of a history is repeated."""

DELETION_SECONDS = 600.0
"""Seconds for which this server remembers that it has deleted a run. Temporal deletes it some time later."""

_OUTCOMES = {EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED}


class ForeignWorkflow(RunNotFound):
    """Raised when the Temporal workflow with the id of a run is none of Stepwave."""

    def __init__(self, key: RunKey, workflow_type: str) -> None:
        super().__init__(key)
        self.args = (f'the Temporal workflow "{key.run_id}" is no Stepwave run: its type is "{workflow_type}"',)


class _Position(NamedTuple):
    """The position of a run.

    Attributes:
        execution: Temporal's id of the execution.
        last_event: The last event of the history.
        pending: The attempts that have not ended, by step.
        new: Whether this server has just started it.
    """

    execution: str
    last_event: int
    pending: Mapping[str, PendingAttempt]
    new: bool


class _Hints:
    """Says when a history may have new events: a request that finds none would cost Temporal as much as one that does.

    This server knows that of a run that it drives. The history of a run that another server drives is watched.

    Attributes:
        awaits_first: Whether the history has no events worth a request before the first hint.
        awaits_stream: Whether a stream of the caller will show the run from its start.

    Args:
        starting: Whether this server starts the run now, and probably drives it.
        attached: Whether it does so for a caller that stays attached.
    """

    def __init__(self, *, starting: bool = False, attached: bool = False) -> None:
        self.awaits_first = starting
        self.awaits_stream = attached
        self._new = asyncio.Event()
        self._local = starting

    def give(self, *, local: bool = True) -> None:
        """Say that there are new events, or are soon; `local`: this server has decided on them."""
        self._local = self._local or local
        self._new.set()

    async def wait(self) -> None:
        """Wait until the history may have new events."""
        if self._local:
            try:
                async with asyncio.timeout(FIRST_HINT_SECONDS if self.awaits_first else HINT_SECONDS):
                    await self._new.wait()
            except TimeoutError:
                self._local = False
        self.awaits_first = False
        self._new.clear()
        await asyncio.sleep(GATHER_SECONDS)


class Histories:
    """Reads the histories of runs for as long as they are needed.

    Attributes:
        runs: The runs under way whose histories it reads.

    Args:
        client: The client of Temporal.
        runs: Where to keep the runs under way.
        cache: Keeps the events of runs while this server shows them.
        clock: Returns the time in nanoseconds since the epoch.
        connection: Knows whether Temporal answers.
        before_outcomes: Is awaited before outcomes of attempts are added to a run.
    """

    def __init__(
        self,
        client: Client,
        *,
        runs: dict[RunKey, FollowedRun],
        cache: MemoryJournal,
        clock: Callable[[], int],
        connection: Connection,
        before_outcomes: Callable[[FollowedRun], Awaitable[None]],
    ) -> None:
        self.runs = runs
        self._client = client
        self._cache = cache
        self._clock = clock
        self._connection = connection
        self._before_outcomes = before_outcomes
        self._loop = asyncio.get_running_loop()
        self._followers: dict[RunKey, asyncio.Task[None]] = {}
        self._loading: dict[RunKey, asyncio.Future[FollowedRun]] = {}
        self._executions: dict[RunKey, str] = {}
        self._started: dict[RunKey, float] = {}  # by the loop's time
        self._hints: dict[RunKey, _Hints] = {}
        self._deleted: dict[str, float] = {}
        self._closed = False

    @asynccontextmanager
    async def using(self, key: RunKey) -> AsyncIterator[FollowedRun | None]:
        """Read the history of a run up to now, and keep reading it while inside; `None`: the run has ended.

        Raises:
            RunNotFound: The run does not exist.
            RunBroken: This server cannot show it.
            JournalUnavailable: Temporal does not answer, or this server has stopped.
        """
        execution, length, pending, new = await self._position(key)
        if self._executions.get(key) not in (None, execution):
            self.drop(key)
        if self._cache.has_ended(key):
            yield None
            return
        async with self._connection.waiting(None):
            run = await self._follow(key, execution)
        run.users += 1
        try:
            if run.last_event < length and key in self._hints:
                self._hints[key].give(local=False)
            async with self._connection.waiting(None):
                await run.reach(length)
            if new:
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEGIN_SECONDS):
                        await run.begun()
            if run.broken is not None:
                raise run.broken
            run.reports.pending = pending
            yield None if run.closed else run
        finally:
            run.users -= 1
            run.last_used = self._loop.time()

    def hint(self, key: RunKey) -> None:
        """Note that this server drives a run, and has decided on inputs of it."""
        if key in self._hints:
            self._hints[key].give()

    @contextmanager
    def starting(self, key: RunKey, *, attached: bool) -> Iterator[None]:
        """Keep the hints of a run while this server starts it: its first decision may come before Temporal's answer.

        Args:
            key: The run.
            attached: Whether its caller stays attached to it, with a stream.
        """
        hints = self._hints.setdefault(key, _Hints(starting=True, attached=attached))
        try:
            yield
        finally:
            if hints.awaits_first and key not in self._executions:
                self._hints.pop(key, None)

    def note_start(self, key: RunKey, execution: str) -> None:
        """Note that this server starts a run. Its first use needs no description of its workflow."""
        if self._executions.get(key) == execution:  # another call has found it before
            return
        hints = self._hints.get(key)
        self.drop(key)
        self._executions[key] = execution
        self._started[key] = self._loop.time()
        if hints is not None:
            self._hints[key] = hints

    async def _position(self, key: RunKey) -> "_Position":
        """Return where a run is now."""
        if self._started.pop(key, -math.inf) > self._loop.time() - NEW_SECONDS:
            return _Position(self._executions[key], 1, {}, new=True)
        description = await self._describe(key)
        pending = pending_attempts(description.raw_description)
        return _Position(description.run_id, description.history_length, pending, new=False)

    async def _describe(self, key: RunKey) -> WorkflowExecutionDescription:
        async with self._connection.waiting():
            try:
                description = await self._client.get_workflow_handle(workflow_id_of(key)).describe()
            except RPCError as error:
                if error.status == RPCStatusCode.NOT_FOUND:
                    raise RunNotFound(key) from None
                raise
        if description.workflow_type != WORKFLOW_TYPE:
            raise ForeignWorkflow(key, description.workflow_type)
        if description.run_id in self._deleted:
            raise RunNotFound(key)
        return description

    def execution_of(self, key: RunKey) -> str:
        """Return the Temporal run id of a run that is used now."""
        return self._executions.get(key, "")

    def is_deleted(self, execution: str) -> bool:
        """Return whether a workflow, by its Temporal run id, was deleted on this server in the last time."""
        return execution in self._deleted

    def note_deletion(self, key: RunKey, execution: str) -> None:
        """Note that a run was deleted. This server does not show it any more; Temporal deletes it some time later."""
        now = self._loop.time()
        self._deleted = {it: when for it, when in self._deleted.items() if when > now - DELETION_SECONDS}
        self._deleted[execution] = now
        self.drop(key)

    async def _follow(self, key: RunKey, execution: str) -> FollowedRun:
        """Return a run whose history this server reads from now on."""
        run = self.runs.get(key)
        if run is not None:
            return run
        if self._closed:
            raise JournalUnavailable("this server has stopped")
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = self._loop.create_future()
            self._executions[key] = execution
            follower = self._read_history(key, execution, loading)
            self._followers[key] = asyncio.create_task(follower, name=f"history of {key.run_id}")
        return await asyncio.shield(loading)

    async def _read_history(self, key: RunKey, execution: str, loading: "asyncio.Future[FollowedRun]") -> None:
        """Read the history of a run until it ends."""
        reader = HistoryReader()
        run: FollowedRun | None = None
        prepared = 0  # the events of the run when it was last prepared for outcomes
        try:
            async for event in self._history(key, execution, reader):
                if run is None:
                    reader.add(event)
                    run = FollowedRun(reader, execution, self._cache, self._clock)
                    run.last_used = self._loop.time()  # its first user continues some time later
                    self.runs[key] = run
                    loading.set_result(run)
                    continue
                if event.event_type in _OUTCOMES and prepared != run.committed:
                    prepared = run.committed
                    await self._wait_for_stream(run)
                    await self._before_outcomes(run)
                run.add(event)
            if not reader.closed:  # it was deleted
                self._fail(key, run, loading, RunNotFound(key))
        except UnsupportedVersion as error:
            self._fail(key, run, loading, RunBroken(key, str(error)))
        except Exception:
            logger.exception("the history of a run cannot be read", extra={"run_id": key.run_id})
            self._fail(key, run, loading, RunBroken(key))
        finally:
            if self._loading.get(key) is loading:
                del self._loading[key]
            if run is not None and self.runs.get(key) is run:
                del self.runs[key]
            if self._followers.get(key) is asyncio.current_task():  # not if the run was dropped, and is read anew
                del self._followers[key]
                self._hints.pop(key, None)
            if not loading.done():
                loading.cancel()

    async def _wait_for_stream(self, run: FollowedRun) -> None:
        """Wait for the stream of the caller that has started a run, for a moment at most: it may have left.

        A short run may have ended before Temporal has answered its start.
        """
        hints = self._hints.get(run.key)
        if hints is not None and hints.awaits_stream:
            hints.awaits_stream = False
            with suppress(TimeoutError):
                async with asyncio.timeout(JOIN_SECONDS):
                    await run.watched.wait()

    def _fail(
        self, key: RunKey, run: FollowedRun | None, loading: "asyncio.Future[FollowedRun]", error: EngineError
    ) -> None:
        if run is not None:
            run.fail(error)
            self._cache.discard(key)
        elif not loading.done():
            loading.set_exception(error)
            loading.exception()

    async def _history(self, key: RunKey, execution: str, reader: HistoryReader) -> AsyncGenerator[HistoryEvent, None]:
        """Yield the events of a history until its workflow ends. Requests that fail are repeated."""
        request = GetWorkflowExecutionHistoryRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id_of(key), run_id=execution),
            wait_new_event=True,
        )
        timeout = timedelta(seconds=POLL_SECONDS)
        hints = self._hints.setdefault(key, _Hints())
        if hints.awaits_first:
            await hints.wait()
        while True:
            try:
                page = await self._client.workflow_service.get_workflow_execution_history(request, timeout=timeout)
            except RPCError as error:
                if error.status == RPCStatusCode.NOT_FOUND:
                    return
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for event in page.history.events:
                yield event
            if not page.next_page_token:
                return
            request.next_page_token = page.next_page_token
            if page.history.events and not reader.in_task:
                await hints.wait()

    async def forget_idle_runs(self) -> None:
        """Forget idle runs again and again."""
        while True:
            await asyncio.sleep(IDLE_SECONDS / 3)
            self.forget_idle()

    def forget_idle(self) -> None:
        """Read no longer the histories of runs for which nobody has asked for some time."""
        oldest = self._loop.time() - IDLE_SECONDS
        for key, run in list(self.runs.items()):
            if not run.users and run.last_used < oldest:
                self.drop(key)
        newest = self._loop.time() - NEW_SECONDS
        self._started = {key: time for key, time in self._started.items() if time > newest}
        known = self.runs.keys() | self._loading.keys() | self._started.keys()
        self._executions = {
            key: execution for key, execution in self._executions.items() if key in known or self._cache.has_ended(key)
        }

    def drop(self, key: RunKey) -> None:
        """Forget what this server knows of a run."""
        self._executions.pop(key, None)
        self._started.pop(key, None)
        loading = self._loading.pop(key, None)
        if loading is not None and not loading.done():  # a follower that is cancelled before it runs settles nothing
            loading.set_exception(RunNotFound(key))
            loading.exception()
        self._hints.pop(key, None)
        follower = self._followers.pop(key, None)
        if follower is not None:
            follower.cancel()
        run = self.runs.pop(key, None)
        if run is not None:
            run.fail(RunNotFound(key))
        self._cache.discard(key)

    async def close(self) -> None:
        """Read no more histories."""
        self._closed = True
        followers = list(self._followers.values())
        for task in followers:
            task.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
