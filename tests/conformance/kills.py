"""Kills the processes of a cluster, and Temporal's, while clients follow runs."""

import asyncio
from random import Random
from typing import TypeAlias

from conformance.member_process import MemberProcess, ProcessCluster
from integration.durable.crash_load import RandomLoad
from temporal_server import TemporalServer

__all__ = ["Kills"]

Process: TypeAlias = MemberProcess | TemporalServer


class Kills:
    """Kills one process after the other, each once clients have seen more events, and starts another in its place.

    Attributes:
        killed: The names of the processes that were killed, in order.
        under_way: The number of runs that had not ended, each time that a process was killed.

    Args:
        cluster: The servers and hosts.
        temporal: The server of Temporal.
        load: The runs.
    """

    def __init__(self, cluster: ProcessCluster, temporal: TemporalServer, load: RandomLoad) -> None:
        self.killed: list[str] = []
        self.under_way: list[int] = []
        self._cluster = cluster
        self._temporal = temporal
        self._load = load

    async def once_each(self, events: int) -> None:
        """Kill every process once, each after so many more events."""
        servers, hosts = self._cluster.servers, self._cluster.hosts
        processes: list[Process] = [servers[0], hosts[0], self._temporal, servers[1], hosts[1]]
        for process in processes:
            await self._after(events, process)

    async def at_random(self, draw: Random, count: int, most_events: int) -> None:
        """Kill processes that are drawn, at moments that are drawn."""
        processes: list[Process] = [*self._cluster.members, self._temporal]
        for _ in range(count):
            await self._after(draw.randint(0, most_events), draw.choice(processes))

    async def _after(self, events: int, process: Process) -> None:
        await self._load.wait_events(events)
        self.under_way.append(self._load.left())
        if isinstance(process, MemberProcess):
            self.killed.append(process.name)
            await process.restart()
        else:
            self.killed.append("Temporal")
            process.kill()
            await asyncio.to_thread(process.start)
