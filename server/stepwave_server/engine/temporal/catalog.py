"""The catalog: which actions exist, on this server and on the hosts of its task queue."""

import asyncio
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from stepwave_server.actions import Action, KnownAction, Registry
from stepwave_server.actions.described import DescribedAction
from stepwave_server.actions.known import unknown_action
from stepwave_server.engine.errors import JournalUnavailable
from stepwave_server.engine.temporal.catalog_workflow import (
    ANNOUNCE,
    CATALOG_TYPE,
    Entries,
    catalog_id,
    from_entry,
    to_entry,
)
from stepwave_server.engine.temporal.codec import task_queue_of

__all__ = ["Catalog", "parts_of"]

logger = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
"""Seconds for which what was read is used again, unless a name is unknown."""

ELSEWHERE_SECONDS = 10.0
"""Seconds for which an action counts as served after its task queue was polled."""

ANNOUNCE_SECONDS = 600.0
"""Seconds after which a host announces its actions again."""

RETRY_SECONDS = 1.0
"""Seconds after which an announcement that failed is made again."""

MAX_ASKED = 100
"""Unknown actions of one workflow whose task queues are asked for. More count as unknown."""

MAX_REQUESTS = 10
"""Requests to Temporal at once."""

MAX_SIGNAL_BYTES = 1_000_000
"""Bytes of the entries in one announcement. Temporal bounds a signal to 2 MB."""

TIMEOUT = timedelta(seconds=5)

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


class Catalog:
    """The actions that steps may call.

    They are those of this process, those that hosts have announced, and those whose task queues are polled.

    Args:
        client: The client of Temporal.
        task_queue: The task queue of workflows, and the prefix of those of actions.
        own: The actions of this process.
        address: The address of Temporal, for messages.
    """

    def __init__(self, client: Client, *, task_queue: str, own: Registry, address: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._own = own
        self._address = address
        self._entries: Mapping[str, DescribedAction] = {}
        self._elsewhere: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._requests = asyncio.Semaphore(MAX_REQUESTS)

    # What is known. Threads read it, so it is replaced, and not changed.

    def __iter__(self) -> Iterator[KnownAction]:
        """Iterate over the actions, by name."""
        actions: dict[str, KnownAction] = {**self._entries, **{action.name: action for action in self._own}}
        return iter(sorted(actions.values(), key=lambda action: action.name))

    def get(self, name: str) -> KnownAction | None:
        """Return the action of a name; `None` if there is none."""
        found = self._own.get(name) or self._entries.get(name)
        if found is None and name in self._elsewhere:
            return DescribedAction(name)
        return found

    def unknown(self, name: str) -> str:
        """Return the error message for an unknown name, with a hint if there is one."""
        return unknown_action(name, [action.name for action in self])

    # Reading.

    async def refresh(self, names: Collection[str] = ()) -> None:
        """Read what hosts have announced, and find out which of these actions are served.

        Raises:
            JournalUnavailable: Temporal does not answer, and one of the actions is unknown.
        """
        called = self._loop.time()
        missing = self._missing(names)
        if not missing and called - self._read_at < FRESH_SECONDS:
            return
        try:
            await self._read(called)
            await self._find_elsewhere(self._missing(names)[:MAX_ASKED])
        except RPCError as error:
            if missing:
                message = f"Temporal at {self._address} does not answer: {error.message}"
                raise JournalUnavailable(message) from error

    def _missing(self, names: Collection[str]) -> Sequence[str]:
        """Return the names of which it is not known that an action has them now."""
        fresh = self._loop.time() - ELSEWHERE_SECONDS
        return [
            name
            for name in names
            if self._own.get(name) is None and name not in self._entries and self._elsewhere.get(name, 0.0) < fresh
        ]

    async def _read(self, called: float) -> None:
        """Read the catalog, unless another call has read it since `called`."""
        async with self._reading:
            if self._read_at > called:
                return
            begun = self._loop.time()
            try:
                handle = self._client.get_workflow_handle(catalog_id(self._task_queue))
                memo = await (await handle.describe(rpc_timeout=TIMEOUT)).memo()
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:
                    raise
                memo = {}  # no host has announced anything yet
            self._entries = {name: from_entry(name, entry) for name, entry in memo.items()}
            self._read_at = begun

    async def _find_elsewhere(self, names: Sequence[str]) -> None:
        """Find out which actions hosts serve that announce nothing, such as those of other SDKs of Temporal."""
        asked = [name for name in names if NAME.fullmatch(name)]
        polled = await asyncio.gather(*map(self._is_polled, asked))
        known = {name: seen for name, seen in self._elsewhere.items() if name not in asked}
        now = self._loop.time()
        self._elsewhere = known | {name: now for name, found in zip(asked, polled, strict=True) if found}

    async def _is_polled(self, action: str) -> bool:
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=task_queue_of(self._task_queue, action)),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        async with self._requests:
            found = await self._client.workflow_service.describe_task_queue(request, timeout=TIMEOUT)
        return bool(found.pollers)

    # Announcing.

    async def keep_announced(self, actions: Iterable[Action]) -> None:
        """Announce the actions of this process now, and again from time to time."""
        parts = parts_of({action.name: to_entry(DescribedAction.of(action)) for action in actions})
        while True:
            try:
                for part in parts:
                    await self._announce(part)
            except RPCError as error:
                logger.warning("the actions of this host cannot be announced yet: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await asyncio.sleep(ANNOUNCE_SECONDS)

    async def _announce(self, entries: Entries) -> None:
        await self._client.start_workflow(
            CATALOG_TYPE,
            args=[{}, {}],
            id=catalog_id(self._task_queue),
            task_queue=self._task_queue,
            start_signal=ANNOUNCE,
            start_signal_args=[entries],
            static_summary="The actions that hosts have announced",
        )


def parts_of(entries: Entries) -> Sequence[Entries]:
    """Return entries in parts, each of which fits into a signal."""
    parts: list[Entries] = []
    room = 0
    for name, entry in entries.items():
        size = len(name) + len(json.dumps(entry))
        if size > room:
            parts.append({})
            room = MAX_SIGNAL_BYTES
        parts[-1][name] = entry
        room -= size
    return parts
