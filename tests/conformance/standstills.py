"""Measures how long runs stand still when a server, a host or Temporal is killed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from statistics import median

from conformance.member_process import ProcessCluster
from stepwave import AsyncClient, StepFinished, Workflow
from temporal_server import TemporalServer

__all__ = ["Standstills", "shown"]

RUNS = 8
STEPS = 300
STEP_SECONDS = 0.3
BEGUN = 3
"""Steps of each run that end before a process is killed."""

BOUND = 90.0
"""Seconds within which every run goes on."""


class Standstills:
    """Kills one process of a cluster at a time under chains of short steps, whose clients are those of the SDK.

    Args:
        cluster: The servers and hosts.
        temporal: The server of Temporal.
        name: The beginning of the ids of the runs.
    """

    def __init__(self, cluster: ProcessCluster, temporal: TemporalServer, name: str) -> None:
        self._cluster = cluster
        self._temporal = temporal
        self._name = name
        self._kills = 0

    async def measure(self, kills: int) -> dict[str, list[float]]:
        """Kill each kind of process so many times.

        Returns:
            By the kind of what was killed, for each kill: the seconds until every run had finished another step.
        """
        servers, hosts = self._cluster.servers, self._cluster.hosts
        found: dict[str, list[float]] = {"a server": [], "a host": [], "Temporal": []}
        for place in range(kills):
            found["a server"].append(await self._kill(servers[place % 2].end, servers[place % 2].start))
            found["a host"].append(await self._kill(hosts[place % 2].end, hosts[place % 2].start))
            found["Temporal"].append(await self._kill(self._restart_temporal))
        return found

    async def _restart_temporal(self) -> None:
        self._temporal.kill()
        await asyncio.to_thread(self._temporal.start)

    async def _kill(
        self, kill: Callable[[], Awaitable[object]], replace: Callable[[], Awaitable[None]] | None = None
    ) -> float:
        """Start runs, kill a process, and return the longest standstill of a run. Replace the process afterwards."""
        async with AsyncExitStack() as stack:
            longest = await _longest_standstill(await self._runs(stack), kill)
            if replace is not None:
                await replace()
        return longest

    async def _runs(self, stack: AsyncExitStack) -> list["_Chain"]:
        """Return new runs. The clients of one half use the one server first, and those of the other half the other."""
        self._kills += 1
        addresses = [server.address for server in self._cluster.servers]
        targets = ["ipv4:" + ",".join(order) for order in (addresses, addresses[::-1])]
        clients = [await stack.enter_async_context(AsyncClient(target, insecure=True)) for target in targets]
        return [_Chain(clients[place % 2], f"{self._name}{self._kills}_{place}") for place in range(RUNS)]


async def _longest_standstill(runs: Sequence["_Chain"], kill: Callable[[], Awaitable[object]]) -> float:
    """Start runs, kill a process once all have begun, and return the seconds until each has finished another step."""
    async with asyncio.timeout(BOUND), asyncio.TaskGroup() as group:
        following = [group.create_task(run.follow(), name=run.run_id) for run in runs]
        await asyncio.gather(*(run.begun.wait() for run in runs))
        killed = time.monotonic()
        for run in runs:
            run.killed()
        await kill()
        await asyncio.gather(*(run.next.wait() for run in runs))
        for task in following:
            task.cancel()  # the client cancels the run
    return max(run.at for run in runs) - killed


class _Chain:
    """A run of short steps, one after the other, and when its next step ended.

    Attributes:
        run_id: The run.
        begun: Set once some steps have ended.
        next: Set at the first end of a step since the kill.
        at: When that was.
    """

    def __init__(self, client: AsyncClient, run_id: str) -> None:
        self.run_id = run_id
        self.begun = asyncio.Event()
        self.next = asyncio.Event()
        self.at = 0.0
        self._client = client
        self._ended = 0
        self._killed = False

    async def follow(self) -> None:
        """Start the run, and follow it."""
        async with self._client.run(_chain(), run_id=self.run_id) as run:
            async for event in run:
                if isinstance(event, StepFinished):
                    self._take()

    def _take(self) -> None:
        self._ended += 1
        if self._ended >= BEGUN:
            self.begun.set()
        if self._killed and not self.next.is_set():
            self.at = time.monotonic()
            self.next.set()

    def killed(self) -> None:
        """Wait for the next end of a step from now on."""
        self._killed = True


def _chain() -> Workflow:
    flow = Workflow("chain")
    last: list[str] = []
    for place in range(STEPS):
        flow.step(f"s{place}", "waits", {"seconds": STEP_SECONDS}, depends_on=last)
        last = [f"s{place}"]
    return flow


def shown(found: dict[str, list[float]]) -> str:
    """Return the figures as lines of text."""
    return "\n".join(
        f"{what} killed {len(each)} times: all runs went on within {median(each):.1f} s, at worst {max(each):.1f} s"
        for what, each in found.items()
    )
