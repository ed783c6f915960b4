"""The presence of a server: Temporal notices when a server is gone, and releases its holds on runs.

A workflow for each server waits for an activity that only this server performs, for as long as it lives. When the
activity ends, or is silent and nobody takes it up again, another server releases the holds; if there is none, the next
one that starts. Nothing is written while the server lives.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy
from temporalio.exceptions import ActivityError, TimeoutType
from temporalio.exceptions import TimeoutError as ActivityTimeout
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from stepwave_server.engine.temporal.codec import SIGNAL, WORKFLOW_TYPE, to_signal
from stepwave_server.engine.temporal.driver_messages import Request
from stepwave_server.engine.temporal.holds import HOLDERS_MEMO, HoldChange, HoldKind

__all__ = ["RELEASE", "STOPPED", "Presence", "PresenceWorkflow", "release_holds_activity"]

PRESENT = "stepwave.present"
RELEASE = "stepwave.release_holds"

PASSES = (0.0, 5.0, 30.0)
"""Seconds before each search for the runs of a server that is gone. Temporal's lists show a new run some time later."""

RETRY_SECONDS = 1.0

STOP_TIMEOUT = timedelta(seconds=2)
"""The time within which a server tells that it stops. Without Temporal, it counts as lost."""

STOPPED = "stopped"
"""The signal of a server that stops in order."""

_ONCE = RetryPolicy(maximum_attempts=1)
_LIFETIME = timedelta(days=3650)


@workflow.defn(name="stepwave.server", sandboxed=False)
class PresenceWorkflow:
    """Waits for the end of one server, and has its holds released.

    Args:
        task_queue: The task queue of workflows.
        server_id: The server.
        silence: Seconds of silence after which it is asked again, and after which it is gone if it does not answer.
    """

    def __init__(self) -> None:
        self._stopped = False

    @workflow.run
    async def run(self, task_queue: str, server_id: str, silence: float) -> None:
        """Wait, and release."""
        kind: HoldKind = "leave" if await self._stops(_task_queue(task_queue, server_id), silence) else "lose"
        for seconds in PASSES:
            await workflow.sleep(seconds)
            await workflow.execute_activity(
                RELEASE, args=[server_id, kind], start_to_close_timeout=timedelta(seconds=60)
            )

    @workflow.signal(name=STOPPED)
    def stopped(self) -> None:
        """Note that the server has stopped in order, whether its activity has begun or not."""
        self._stopped = True

    async def _stops(self, task_queue: str, silence: float) -> bool:
        """Wait for the end of the server, and return whether it stopped in order."""
        while True:
            present = workflow.start_activity(
                PRESENT,
                args=[silence],
                task_queue=task_queue,
                schedule_to_start_timeout=timedelta(seconds=silence),
                start_to_close_timeout=_LIFETIME,
                heartbeat_timeout=timedelta(seconds=silence),
                retry_policy=_ONCE,
            )
            await workflow.wait_condition(lambda: self._stopped or present.done())  # noqa: B023 - awaited in this turn
            if self._stopped:
                present.cancel()
                with suppress(ActivityError, asyncio.CancelledError):
                    await present
                return True
            try:
                await present
            except ActivityError as error:
                # After a loss of Temporal, a server that lives takes the activity up again.
                if not (isinstance(error.cause, ActivityTimeout) and error.cause.type == TimeoutType.HEARTBEAT):
                    return False
            else:
                return True


def release_holds_activity(client: Client, task_queue: str) -> Callable[..., object]:
    """Return the activity that releases the holds of a server that is gone."""

    @activity.defn(name=RELEASE)
    async def release(server_id: str, kind: HoldKind) -> None:
        query = f"WorkflowType = '{WORKFLOW_TYPE}' AND ExecutionStatus = 'Running' AND TaskQueue = '{task_queue}'"
        async for found in client.list_workflows(query):
            if server_id in (await found.memo()).get(HOLDERS_MEMO, ()):
                message = to_signal(Request(uuid4().hex, HoldChange(kind, server_id)))
                try:
                    await client.get_workflow_handle(found.id, run_id=found.run_id).signal(SIGNAL, message)
                except RPCError as error:
                    if error.status != RPCStatusCode.NOT_FOUND:  # it has ended
                        raise

    return release


class Presence:
    """Keeps this server present, from the first run that it holds.

    Attributes:
        server_id: The id of this server.
        on_loss: Called when the server was taken for gone by mistake: its holds were released.

    Args:
        client: The client of Temporal.
        task_queue: The task queue of workflows.
        silence: Seconds of silence after which the server is asked again.
    """

    def __init__(self, client: Client, *, task_queue: str, silence: float) -> None:
        self.server_id = uuid4().hex[:12]
        self._client = client
        self._task_queue = task_queue
        self._silence = silence
        self.on_loss: Callable[[], None] = lambda: None
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._worker: Worker | None = None
        self._starting = asyncio.Lock()

    async def begin(self) -> None:
        """Be present from now on.

        Raises:
            RPCError: Temporal does not answer.
        """
        async with self._starting:
            if self._worker is not None or self._stopping.is_set():
                return
            await self._announce()
            self._worker = Worker(
                self._client,
                task_queue=_task_queue(self._task_queue, self.server_id),
                activities=[self._present],
                max_concurrent_activities=2,
                max_concurrent_activity_task_polls=1,
                graceful_shutdown_timeout=timedelta(seconds=RETRY_SECONDS),
            )
            self._tasks = [
                asyncio.create_task(self._worker.run(), name="presence"),
                asyncio.create_task(self._watch(), name="watch of the presence"),
            ]

    async def _announce(self) -> None:
        await self._client.start_workflow(
            PresenceWorkflow.run,
            args=[self._task_queue, self.server_id, self._silence],
            id=self._workflow_id,
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary="A server, and what becomes of its attached runs when it is gone",
        )

    @property
    def _workflow_id(self) -> str:
        return f"stepwave-server:{self._task_queue}:{self.server_id}"

    async def _watch(self) -> None:
        """Announce the server again if it was taken for gone by mistake."""
        while True:
            try:
                with suppress(WorkflowFailureError):
                    await self._client.get_workflow_handle(self._workflow_id).result()
                await self._announce()
            except RPCError:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.on_loss()

    @activity.defn(name=PRESENT)
    async def _present(self, silence: float) -> None:
        """Be silent never, until the server stops."""
        while not self._stopping.is_set():
            activity.heartbeat()
            with suppress(TimeoutError):
                async with asyncio.timeout(silence / 4):
                    await self._stopping.wait()

    async def end(self) -> None:
        """Tell that the server stops in order."""
        self._stopping.set()
        async with self._starting:
            worker, tasks = self._worker, self._tasks
        if worker is not None:
            tasks[1].cancel()
            await asyncio.gather(self._tell(), worker.shutdown())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self) -> None:
        """Tell it to the workflow, whether its activity has begun or not."""
        with suppress(RPCError):  # it ended with the activity, or Temporal does not answer
            handle = self._client.get_workflow_handle(self._workflow_id)
            await handle.signal(STOPPED, rpc_timeout=STOP_TIMEOUT)


def _task_queue(task_queue: str, server_id: str) -> str:
    """Return the task queue that one server polls. No action has a name with a colon."""
    return f"{task_queue}:server:{server_id}"
