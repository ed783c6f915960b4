"""Starts the Temporal workflows of runs."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from stepwave_server.core.messages import Started
from stepwave_server.engine.base import EngineOptions, Submission
from stepwave_server.engine.errors import DefinitionTooLarge
from stepwave_server.engine.temporal.codec import WORKFLOW_TYPE, StartInput, encode_start, workflow_id_of
from stepwave_server.engine.temporal.holds import HOLDERS_MEMO
from stepwave_server.engine.temporal.visibility import attributes_of
from stepwave_server.journal import Header
from stepwave_server.wire.workflows.content import digest

__all__ = ["MAX_DEFINITION_BYTES", "Starter", "TemporalOptions"]

MAX_DEFINITION_BYTES = 2_000_000
"""Bytes of what a workflow is started with, and of a request to it. Temporal bounds a payload to 2 MB."""

TASK_SECONDS = 5.0
TASK_SECONDS_PER_STEP = 0.001
"""The timeout of a workflow task. A decision that was lost with its server is made again after that.

A server that does not have a run in memory replays its history first. That takes less than half a millisecond a step on
two busy cores. Temporal makes the timeout longer, again and again, from the fourth time on: so a replay that takes
longer, as on a machine that is overloaded, succeeds at last.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalOptions:
    """Options of the Temporal engine.

    Attributes:
        address: The address of Temporal, for messages.
        task_queue: The task queue of workflows, and the prefix of those of actions.
        heartbeat_timeout: Seconds after which an attempt without a heartbeat is lost.
    """

    address: str
    task_queue: str = "stepwave"
    heartbeat_timeout: float = 10.0


class Starter:
    """Starts the workflows of runs.

    Args:
        client: The client of Temporal.
        options: Options of the engine.
        temporal: Options of the engine on Temporal alone.
        clock: Returns the time in nanoseconds since the epoch.
        is_deleted: Returns whether a workflow, by its Temporal run id, was deleted on this server.
        server_id: The id of this server, which holds the runs that it starts for streams.
    """

    def __init__(
        self,
        client: Client,
        *,
        options: EngineOptions,
        temporal: TemporalOptions,
        clock: Callable[[], int],
        is_deleted: Callable[[str], bool],
        server_id: str,
    ) -> None:
        self._client = client
        self._options = options
        self._temporal = temporal
        self._clock = clock
        self._is_deleted = is_deleted
        self._server_id = server_id

    async def start(self, submission: Submission) -> str:
        """Start the workflow of a run, and return its Temporal run id. This server makes its first decision, if it can.

        Raises:
            DefinitionTooLarge: Temporal does not take so much.
            WorkflowAlreadyStartedError: A workflow has the id of the run.
            RPCError: Temporal does not answer.
        """
        start = await self._start_input(submission)
        args = encode_start(start)
        if (size := len(args[0]) + sum(len(output) for _, output in args[1]["reused"])) > MAX_DEFINITION_BYTES:
            raise DefinitionTooLarge("the workflow and its input", size, MAX_DEFINITION_BYTES)
        try:
            return await self._start(submission, args, WorkflowIDReusePolicy.REJECT_DUPLICATE)
        except WorkflowAlreadyStartedError as error:
            if not self._is_deleted(error.run_id or ""):
                raise
        return await self._start(submission, args, WorkflowIDReusePolicy.ALLOW_DUPLICATE)

    async def _start(self, submission: Submission, args: list[object], reuse: WorkflowIDReusePolicy) -> str:
        workflow = submission.state.workflow
        handle = await self._client.start_workflow(
            WORKFLOW_TYPE,
            args=args,
            id=workflow_id_of(submission.key),
            task_queue=self._temporal.task_queue,
            task_timeout=timedelta(seconds=TASK_SECONDS + TASK_SECONDS_PER_STEP * len(workflow.steps)),
            search_attributes=attributes_of(submission.key.namespace, workflow.name, workflow.labels),
            memo=None if submission.window is None else {HOLDERS_MEMO: [self._server_id]},
            id_reuse_policy=reuse,
            request_eager_start=True,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        return handle.result_run_id or ""

    async def _start_input(self, submission: Submission) -> StartInput:
        state, parent = submission.state, submission.parent
        header = Header(
            key=submission.key,
            workflow=submission.definition,
            input=state.input,
            options=state.options,
            create_time=self._clock(),
            traceparent=parent.traceparent if parent is not None else "",
            tracestate=parent.tracestate if parent is not None else "",
            window=submission.window,
            rerun_of=submission.rerun_of,
            workflow_digest=submission.workflow_digest or await asyncio.to_thread(digest, submission.definition),
            created_by=submission.created_by,
        )
        return StartInput(
            header=header,
            started=Started(submission.reused, submission.rerun_of if submission.reused else ""),
            heartbeat_timeout=self._temporal.heartbeat_timeout,
            cancel_grace=self._options.cancel_grace,
            task_queue=self._temporal.task_queue,
            holder="" if submission.window is None else self._server_id,
        )
