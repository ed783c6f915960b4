"""Kills the processes of a cluster, and Temporal's, while clients follow runs."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from conformance.member_process import ProcessCluster
from integration.durable.crash_load import RandomLoad
from temporal_server import TemporalServer

__all__ = ["Kills"]


class Kills:
    """Kills one process after the other, each once clients have seen more events, and starts another in its place.

    Attributes:
        under_way: The number of runs that had not ended, each time that a process was killed.

    Args:
        cluster: The servers and hosts.
        temporal: The server of Temporal.
        load: The runs.
    """

    def __init__(self, cluster: ProcessCluster, temporal: TemporalServer, load: RandomLoad) -> None:
        self.under_way: list[int] = []
        self._cluster = cluster
        self._temporal = temporal
        self._load = load

    async def once_each(self, events: int) -> None:
        """Kill every process once, each after so many more events."""
        servers, hosts = self._cluster.servers, self._cluster.hosts
        for restart in (
            servers[0].restart,
            hosts[0].restart,
            self._restart_temporal,
            servers[1].restart,
            hosts[1].restart,
        ):
            await self._after(events, restart)

    async def at_random(self, draw: Random, count: int, most_events: int) -> None:
        """Kill processes that are drawn, at moments that are drawn."""
        restarts = [*(member.restart for member in self._cluster.members), self._restart_temporal]
        for _ in range(count):
            await self._after(draw.randint(0, most_events), draw.choice(restarts))

    async def _after(self, events: int, restart: Callable[[], Awaitable[None]]) -> None:
        await self._load.wait_events(events)
        self.under_way.append(self._load.left())
        await restart()

    async def _restart_temporal(self) -> None:
        self._temporal.kill()
        await asyncio.to_thread(self._temporal.start)
