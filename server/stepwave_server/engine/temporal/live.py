"""Transient events of watched runs: chunks and logs from Redis, progress and waits from Temporal."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from stepwave_server.core.info import RunKey
from stepwave_server.engine.base import LogPage
from stepwave_server.engine.temporal.codec import workflow_id_of
from stepwave_server.engine.temporal.followed_run import FollowedRun
from stepwave_server.engine.temporal.pending import pending_attempts
from stepwave_server.engine.temporal.redis.reader import FIRST, RedisReader
from stepwave_server.engine.temporal.task_queues import TaskQueues
from stepwave_server.engine.temporal.transients import RunStreams, log_page

__all__ = ["LiveRuns"]

POLL_SECONDS = 1.0
"""Seconds between two questions to Temporal about the attempts of a watched run."""

POLLS_PER_SECOND = 100
"""Questions in a second for all watched runs together. With more of them, each is asked about less often."""

POLL_TIMEOUT = timedelta(seconds=5)

YOUNG_NANOS = 5_000_000_000
"""Age in nanoseconds up to which a watcher is shown all logs of a run: it may come a little after its start."""


class LiveRuns:
    """Shows what runs show, for as long as somebody watches them.

    Args:
        client: The client of Temporal.
        task_queues: Knows which actions have hosts.
        clock: Returns the time in nanoseconds since the epoch.
        reader: Reads chunks and logs; `None`: there are none.
    """

    def __init__(
        self, client: Client, task_queues: TaskQueues, clock: Callable[[], int], reader: RedisReader | None
    ) -> None:
        self._client = client
        self._task_queues = task_queues
        self._clock = clock
        self._reader = reader
        self._watched: dict[FollowedRun, tuple[int, asyncio.Task[None]]] = {}

    @asynccontextmanager
    async def watching(self, run: FollowedRun | None) -> AsyncIterator[None]:
        """Show what a run shows while inside; `None`: it has ended, and shows nothing."""
        if run is None:
            yield
            return
        count, task = self._watched.get(run) or (0, self._begin(run))
        self._watched[run] = count + 1, task
        run.watched.set()  # the stream joins its subscribers before another task continues
        try:
            yield
        finally:
            count, task = self._watched.pop(run)
            if count > 1:
                self._watched[run] = count - 1, task
            else:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                if self._reader is not None:
                    run.chunk_position = self._reader.leave(_streams(run))

    def _begin(self, run: FollowedRun) -> "asyncio.Task[None]":
        """Begin to show what a run shows. What it has shown so far is followed before more of its history is read."""
        young = self._clock() - run.header.create_time < YOUNG_NANOS
        if self._reader is not None:
            self._reader.follow_chunks(_streams(run), run.chunk_position or FIRST, run.reports.show)
            if young:
                self._reader.follow_logs(_streams(run), FIRST, run.reports.show)
        return asyncio.create_task(self._show(run, young), name=f"live {run.key.run_id}")

    async def catch_up(self, run: FollowedRun) -> None:
        """Show the chunks and logs that hosts have written by now, if somebody watches the run."""
        if self._reader is not None:
            await self._reader.catch_up(_streams(run))

    async def _show(self, run: FollowedRun, young: bool) -> None:
        """Show what a run shows, until this is cancelled. The logs of a young one are followed already."""
        if self._reader is not None and not young:
            self._reader.follow_logs(_streams(run), await self._reader.now(), run.reports.show)
        while True:
            if run.driver.in_flight:
                await self._poll(run)
            await asyncio.sleep(max(POLL_SECONDS, len(self._watched) / POLLS_PER_SECOND))

    async def _poll(self, run: FollowedRun) -> None:
        """Ask Temporal about the attempts of a run, and show what changed. If it does not answer, nothing changes."""
        request = DescribeWorkflowExecutionRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id_of(run.key), run_id=run.execution),
        )
        service = self._client.workflow_service
        try:
            description = await service.describe_workflow_execution(request, timeout=POLL_TIMEOUT)
        except RPCError:
            return
        run.reports.pending = pending_attempts(description)
        await self.find_unserved(run)
        run.reports.show_pending()

    async def find_unserved(self, run: FollowedRun) -> None:
        """Find out for which attempts of a run there is no host."""
        pending = run.reports.pending.values()
        served = {attempt.action for attempt in pending if attempt.start_time is not None}
        waited_for = {attempt.action for attempt in pending if attempt.start_time is None} - served
        run.reports.unserved = await self._task_queues.unserved(waited_for) if waited_for else frozenset()

    async def logs(self, key: RunKey, execution: str, step_id: str, after: int, most: int) -> LogPage:
        """Return at most `most` messages that actions of a run have logged, after a number.

        Raises:
            JournalUnavailable: Redis does not answer.
        """
        messages = [] if self._reader is None else await self._reader.logs(RunStreams(key, execution))
        return log_page(key.run_id, messages, step_id, after, most)

    async def delete(self, key: RunKey, execution: str) -> None:
        """Delete the chunks and logs of a run."""
        if self._reader is not None:
            await self._reader.delete(RunStreams(key, execution))

    async def close(self) -> None:
        """Show nothing more."""
        tasks = [task for _, task in self._watched.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._reader is not None:
            await self._reader.close()


def _streams(run: FollowedRun) -> RunStreams:
    return RunStreams(run.key, run.execution)
