"""A real server in the event loop of the test, on a port of its own, and a client connected to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from integration.server.controlled_actions import ControlledActions
from integration.server.faults import Faults
from integration.server.fixture_types import Connect, Serve
from integration.server.http_service import HttpService, http_service
from integration.server.raw_client import GUARD, RawClient
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.journal import Journal
from stepwave_server.telemetry import Telemetry
from temporal_server import TemporalServer


@pytest.fixture
async def no_leftover_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves asyncio tasks behind."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, stuck = await asyncio.wait(left, timeout=GUARD)
        assert not stuck


@pytest.fixture
async def controlled() -> ControlledActions:
    return ControlledActions()


@pytest.fixture(params=["memory", "sqlite", "temporal"])
async def serve(
    request: pytest.FixtureRequest, no_leftover_tasks: None, controlled: ControlledActions, tmp_path: Path
) -> AsyncIterator[Serve]:
    """Start servers with the controlled actions and any others: once for each kind of journal, and on Temporal."""
    numbers = count()
    engine: dict[str, object] = {}
    if request.param == "temporal":
        temporal: TemporalServer = request.getfixturevalue("temporal_server")
        engine = {
            "engine": "temporal",
            "temporal_address": temporal.address,
            "temporal_namespace": await temporal.new_namespace(),
            "temporal_task_queue": f"test-{uuid4().hex}",
            "chunks": request.getfixturevalue("redis_server").address,
            "drain_timeout": 0,
        }
    async with AsyncExitStack() as stack:

        async def start(
            *actions: Callable[..., object],
            journal: Journal | None = None,
            telemetry: Telemetry | None = None,
            **settings: object,
        ) -> Server:
            place = f"sqlite:{tmp_path / f'journal-{next(numbers)}.db'}" if request.param == "sqlite" else "memory"
            usual = {"listen": "127.0.0.1:0", "entry_points": False, "journal": place, **engine}
            server = Server(
                Settings.model_validate({**usual, **settings}),
                actions=[*controlled.actions(), *actions],
                journal=journal,
                telemetry=telemetry,
            )
            return await stack.enter_async_context(server)

        yield start
        controlled.release_all()


@pytest.fixture
async def connect(no_leftover_tasks: None) -> AsyncIterator[Connect]:
    """Connect clients to servers."""
    async with AsyncExitStack() as stack:

        def open_client(server: Server) -> RawClient:
            client = RawClient(server.address)
            stack.push_async_callback(client.close)
            return client

        yield open_client


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve()


@pytest.fixture
async def service() -> AsyncIterator[HttpService]:
    """A service over HTTP, which has no handlers yet."""
    async with http_service() as service:
        yield service


@pytest.fixture
async def client(server: Server, connect: Connect) -> RawClient:
    return connect(server)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)
