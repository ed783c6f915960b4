"""Servers that are killed or stopped and started again, as processes or in the event loop of the test."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from random import SystemRandom

import pytest

from integration.durable.restarts import Restarts
from integration.durable.server_process import ServerProcess, StepControl
from integration.server.raw_client import GUARD


@pytest.fixture(autouse=True)
async def no_leftover_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves asyncio tasks behind."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, stuck = await asyncio.wait(left, timeout=GUARD)
        assert not stuck


@pytest.fixture
async def control(no_leftover_tasks: None) -> AsyncIterator[StepControl]:
    control = StepControl()
    await control.open()
    yield control
    await control.close()


@pytest.fixture
async def process(control: StepControl, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """Server processes on one journal. None is started yet."""
    process = ServerProcess(tmp_path, control)
    yield process
    process.kill()
    await process.wait_gone()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """The seed of random workflows and moments: `STEPWAVE_TEST_SEED`, by default a new one. A failure reports it."""
    drawn = os.environ.get("STEPWAVE_TEST_SEED") or str(SystemRandom().randrange(1 << 32))
    request.node.add_report_section("call", "seed", f"STEPWAVE_TEST_SEED={drawn}\n")
    return drawn


@pytest.fixture
async def restarts(no_leftover_tasks: None, tmp_path: Path) -> Restarts:
    """Servers on one journal, in the event loop of the test. None runs yet."""
    return Restarts(tmp_path / "journal.db")
