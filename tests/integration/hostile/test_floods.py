"""Well-behaved callers beside slow streams and resets. `python -m tests.benchmarks.hostile` measures their delays."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import pytest

from benchmarks.processes import Server, running_server
from integration.hostile.attacks import SERVE, reset_streams, slow_streams
from integration.server.build import end_of, flow, step
from integration.server.raw_client import RawClient
from stepwave.v1.run_pb2 import STATE_SUCCEEDED

Attack: TypeAlias = Callable[[str], AbstractAsyncContextManager[None]]

CALLS = 100
RESETS = 20_000
SLOW = 100


@asynccontextmanager
async def _reset(address: str) -> AsyncIterator[None]:
    flood = asyncio.create_task(reset_streams(address, "watched", RESETS))
    yield
    await flood


def _slow(address: str) -> AbstractAsyncContextManager[None]:
    return slow_streams(address, "watched", SLOW)


@pytest.fixture
async def process() -> AsyncIterator[Server]:
    async with running_server(sys.executable, *SERVE) as server:
        yield server


@pytest.mark.parametrize("attack", [_reset, _slow], ids=["resets", "slow streams"])
async def test_callers_are_served_meanwhile(process: Server, attack: Attack, capfd: pytest.CaptureFixture[str]) -> None:
    client = RawClient(process.address)
    await client.run(flow(*(step(f"s{i}", "core.echo", given="x" * 200) for i in range(900))), run_id="watched")
    async with attack(process.address):
        for _ in range(CALLS):
            assert end_of(await client.run(flow(step("a", "core.echo")))).state == STATE_SUCCEEDED
    await client.close()
    assert "Traceback" not in capfd.readouterr().err
