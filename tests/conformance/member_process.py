"""A cluster on Temporal whose members, servers and hosts, are processes that a test kills and starts again."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from uuid import uuid4

from integration.durable.crash_server import ACTIONS
from integration.durable.server_process import PATHS, TESTS, SideEffects, free_address
from integration.server.raw_client import GUARD
from owned import owned
from stepwave import AsyncClient, StepwaveError
from stepwave._actions.action import name_of
from waiting import until

__all__ = ["MemberProcess", "ProcessCluster"]

START_SECONDS = 60.0
"""Seconds within which a process serves. Several start at once, perhaps on a busy machine."""


class MemberProcess:
    """One process after the other, on the same address.

    Attributes:
        name: The name of the member in its cluster.
        address: The address.

    Args:
        environment: Environment variables of the processes.
        arguments: Their command-line arguments.
        errors: Where their standard error goes.
    """

    def __init__(self, environment: Mapping[str, str], arguments: list[str], errors: Path) -> None:
        self.name = errors.name
        self.address = free_address()
        self._environment = environment
        self._arguments = arguments
        self._errors = errors
        self._process: Process | None = None

    async def start(self) -> None:
        """Start the process, and wait until it serves."""
        command = [sys.executable, "-m", "conformance.member", "--listen", self.address, *self._arguments]
        with self._errors.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *owned(command), stdout=PIPE, stderr=errors, env=self._environment
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            assert (await self._process.stdout.readline()).decode().strip() == self.address

    async def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal that ends the process, wait until it has ended, and return its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)
        async with asyncio.timeout(GUARD):
            return await self._process.wait()

    async def kill(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            await self.end()

    async def restart(self) -> None:
        """Kill the process, and start another."""
        await self.end()
        await self.start()

    def errors(self) -> str:
        """Return what the processes wrote to standard error."""
        return self._errors.read_text()


class ProcessCluster:
    """Two servers, and two hosts of the actions of the crash tests.

    Attributes:
        servers: The servers.
        hosts: The hosts.
        side_effects: The side effects of attempts.
        address: The target of a client of both servers. It uses the first one that answers.

    Args:
        folder: Where the side effects and the errors are.
        temporal: The address of Temporal.
        settings: Settings of all members.
    """

    def __init__(self, folder: Path, temporal: str, *settings: str) -> None:
        (folder / "effects").mkdir()
        self.side_effects = SideEffects(folder / "effects")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("STEPWAVE_")}
        own = {"STEPWAVE_TEST_EFFECTS": str(folder / "effects"), "PYTHONPATH": os.pathsep.join([str(TESTS), *PATHS])}
        queue = f"temporal_task_queue=kills-{uuid4().hex[:8]}"
        arguments = [part for one in (f"temporal_address={temporal}", queue, *settings) for part in ("--set", one)]

        def member(name: str, *more: str) -> MemberProcess:
            return MemberProcess({**inherited, **own}, [*arguments, *more], folder / name)

        self.servers = [member("server0"), member("server1")]
        self.hosts = [member("host0", "--hosts"), member("host1", "--hosts")]
        self.address = "ipv4:" + ",".join(server.address for server in self.servers)

    @property
    def members(self) -> list[MemberProcess]:
        """All members."""
        return [*self.servers, *self.hosts]

    async def start(self) -> None:
        """Start all members, and wait until the servers know the actions of the hosts."""
        async with asyncio.TaskGroup() as group:
            for member in self.members:
                group.create_task(member.start())
        for server in self.servers:
            async with AsyncClient(server.address) as client:
                await until(partial(_knows_all, client), START_SECONDS)

    async def kill(self) -> None:
        """Kill all members."""
        for member in self.members:
            await member.kill()


async def _knows_all(client: AsyncClient) -> bool:
    try:
        known = {action.name for action in await client.actions()}
    except StepwaveError:
        return False
    return known >= {name_of(action) for action in ACTIONS}
