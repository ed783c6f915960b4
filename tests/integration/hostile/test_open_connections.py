"""Ten thousand connections that are opened and left: they delay nobody, cost little memory, and are closed."""

import asyncio
import struct
import sys
from collections.abc import AsyncIterator

import psutil
import pytest

from benchmarks.processes import Server as Process
from benchmarks.processes import running_server
from integration.hostile.attacks import EMPTY_SETTINGS, SERVE, allow_connections, open_connections
from integration.server.build import end_of, flow, step
from integration.server.raw_client import GUARD, RawClient
from integration.server.stalled_client import PREFACE
from stepwave.v1.run_pb2 import STATE_SUCCEEDED
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.rpc import server as rpc_server
from waiting import until

COUNT = 10_000

MAX_CONCURRENT_STREAMS = 3
"""The setting of HTTP/2 (RFC 9113, 6.5.2)."""

MAX_MEMORY = 300
"""MiB that the server may take in all."""

FEW_FILES = ("bash", "-c", 'ulimit -Sn 256; exec "$0" "$@"')
"""The start of a command with a limit on open files that is lower than the usual one."""


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    async with running_server(*FEW_FILES, sys.executable, *SERVE) as server:
        yield server


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of other systems are lower")
@pytest.mark.parametrize("preface", [False, True])
async def test_ten_thousand_connections_that_never_call_delay_nobody_and_cost_little_memory(
    process: Process, *, preface: bool
) -> None:
    count = allow_connections(COUNT)
    client, later = RawClient(process.address), RawClient(process.address)
    observed = psutil.Process(process.pid)

    async def serves(caller: RawClient) -> bool:
        return end_of(await caller.run(flow(step("a", "core.echo")))).state == STATE_SUCCEEDED

    async def closed() -> bool:
        return observed.num_fds() <= files + 1  # the connection of `later`

    assert await serves(client)
    files = observed.num_fds()
    with open_connections(process.address, count, preface=preface):
        assert await serves(client)
        assert await serves(later)
        assert process.memory("VmHWM") <= MAX_MEMORY
    await until(closed)
    await client.close()
    await later.close()


@pytest.mark.parametrize("sent", [b"", PREFACE], ids=["it never speaks", "it stops in the preface"])
async def test_a_connection_that_does_not_begin_is_closed(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(rpc_server, "HANDSHAKE_SECONDS", 0.1)
    async with Server(Settings(listen="127.0.0.1:0", entry_points=False)) as server:
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        async with asyncio.timeout(GUARD):
            await reader.read()
        writer.close()


async def test_a_connection_is_told_how_many_streams_it_may_open() -> None:
    settings = Settings(listen="127.0.0.1:0", entry_points=False, max_connection_streams=7)
    async with Server(settings) as server:
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE + EMPTY_SETTINGS)
        (length,) = struct.unpack(">I", b"\0" + (await reader.readexactly(9))[:3])
        told = dict(struct.iter_unpack(">HI", await reader.readexactly(length)))
        writer.close()
    assert told[MAX_CONCURRENT_STREAMS] == 7
