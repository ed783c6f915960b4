"""A real server in the test's loop, on a port of its own, and a caller beside it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest

from integration.server.caller import GUARD, Caller
from integration.server.serving import Call, Serve
from integration.server.stage import Stage
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.journal import Journal
from stepwave_server.telemetry import Telemetry


@pytest.fixture
async def quiet() -> AsyncIterator[None]:
    """Fail a test that leaves asyncio work behind."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, stuck = await asyncio.wait(left, timeout=GUARD)
        assert not stuck


@pytest.fixture
async def stage() -> Stage:
    return Stage()


@pytest.fixture(params=["memory", "sqlite"])
async def serve(request: pytest.FixtureRequest, quiet: None, stage: Stage, tmp_path: Path) -> AsyncIterator[Serve]:
    """Start servers with the stage's actions, and others that are given; every claim holds with every journal."""
    numbers = count()
    async with AsyncExitStack() as stack:

        async def start(
            *actions: Callable[..., object],
            journal: Journal | None = None,
            telemetry: Telemetry | None = None,
            **settings: object,
        ) -> Server:
            place = f"sqlite:{tmp_path / f'journal-{next(numbers)}.db'}" if request.param == "sqlite" else "memory"
            usual = {"listen": "127.0.0.1:0", "entry_points": False, "journal": place}
            told = Settings.model_validate({**usual, **settings})
            server = Server(told, actions=[*stage.actions(), *actions], journal=journal, telemetry=telemetry)
            return await stack.enter_async_context(server)

        yield start
        stage.let_all()


@pytest.fixture
async def call(quiet: None) -> AsyncIterator[Call]:
    """Open channels to servers."""
    async with AsyncExitStack() as stack:

        def open_channel(server: Server) -> Caller:
            caller = Caller(server.address)
            stack.push_async_callback(caller.close)
            return caller

        yield open_channel


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve()


@pytest.fixture
async def caller(server: Server, call: Call) -> Caller:
    return call(server)
