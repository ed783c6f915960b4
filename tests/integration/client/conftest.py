"""A scripted server and a client of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from integration.client.fake import GUARD, Fake
from stepwave import AsyncClient


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    server = Fake()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(fake: Fake) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.address, timeout=GUARD) as client:
        yield client


@pytest.fixture(autouse=True)
async def quiet() -> AsyncIterator[None]:
    """Fail a test that leaves tasks behind."""
    before = asyncio.all_tasks()
    yield
    mine = {asyncio.current_task()}  # the fixture's own task
    async with asyncio.timeout(GUARD):
        while left := asyncio.all_tasks() - before - mine:
            await asyncio.wait(left)
