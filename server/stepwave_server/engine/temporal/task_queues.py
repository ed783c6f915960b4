"""Finds the actions that have hosts, by the pollers of their task queues."""

import time
from collections.abc import Callable, Collection

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from stepwave_server.engine.temporal.codec import task_queue_of

__all__ = ["TaskQueues"]

POLL_NANOS = 70_000_000_000
"""Nanoseconds after its last request for attempts at which a host is gone. A request lasts a minute at most.

A host that runs as many attempts as it may makes no requests: it is known by these attempts.
"""

CACHE_SECONDS = 3.0
"""Seconds for which an answer of Temporal is used again."""

MAX_CACHED = 10_000
"""Actions of which the answer is kept."""


class TaskQueues:
    """Asks Temporal about the task queues of actions.

    Args:
        client: The client of Temporal.
        prefix: The prefix of the task queues.
        clock: Returns the time in nanoseconds since the epoch.
    """

    def __init__(self, client: Client, prefix: str, clock: Callable[[], int]) -> None:
        self._client = client
        self._prefix = prefix
        self._clock = clock
        self._known: dict[str, tuple[float, bool]] = {}

    async def unserved(self, actions: Collection[str]) -> frozenset[str]:
        """Return those of some actions that no host serves. If Temporal does not answer, none is known."""
        return frozenset([action for action in actions if not await self._is_served(action)])

    async def _is_served(self, action: str) -> bool:
        now = time.monotonic()
        known = self._known.get(action)
        if known is not None and now < known[0]:
            return known[1]
        try:
            served = await self._has_hosts(action)
        except RPCError:
            return True
        if len(self._known) >= MAX_CACHED:
            self._known.clear()
        self._known[action] = now + CACHE_SECONDS, served
        return served

    async def _has_hosts(self, action: str) -> bool:
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=task_queue_of(self._prefix, action)),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        answer = await self._client.workflow_service.describe_task_queue(request)
        return is_served(answer.pollers, self._clock())


def is_served(pollers: Collection[PollerInfo], now: int) -> bool:
    """Return whether one of the hosts that Temporal remembers still asks for attempts."""
    return any(now - poller.last_access_time.ToNanoseconds() < POLL_NANOS for poller in pollers)
