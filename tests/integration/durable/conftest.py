"""Servers that die and are started again, as processes or in the test's loop, and what a test meets them with."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from random import SystemRandom

import pytest

from integration.durable.lives import Lives
from integration.durable.process import Meeting, Victim
from integration.server.caller import GUARD


@pytest.fixture(autouse=True)
async def quiet() -> AsyncIterator[None]:
    """Fail a test that leaves asyncio work behind."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, stuck = await asyncio.wait(left, timeout=GUARD)
        assert not stuck


@pytest.fixture
async def meeting(quiet: None) -> AsyncIterator[Meeting]:
    meeting = Meeting()
    await meeting.open()
    yield meeting
    await meeting.close()


@pytest.fixture
async def victim(meeting: Meeting, tmp_path: Path) -> AsyncIterator[Victim]:
    """Processes on one journal; none is started yet."""
    victim = Victim(tmp_path, meeting)
    yield victim
    victim.kill()
    await victim.gone()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """What draws shapes and moments: `STEPWAVE_TEST_SEED`, or another one every time. A failure's report says which."""
    drawn = os.environ.get("STEPWAVE_TEST_SEED") or str(SystemRandom().randrange(1 << 32))
    request.node.add_report_section("call", "seed", f"STEPWAVE_TEST_SEED={drawn}\n")
    return drawn


@pytest.fixture
async def lives(quiet: None, tmp_path: Path) -> Lives:
    """Servers on one journal, in the test's loop; none lives yet."""
    return Lives(tmp_path / "journal.db")
