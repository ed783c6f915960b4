"""Ordered mode: random runs, whose outcomes come one at a time, have the same events on both engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from temporalio.client import Client

from conformance.clusters import settings_for
from conformance.decisions import Decisions, check_history, history_of
from conformance.players import Player, masked
from conformance.programs import Program, draw_programs
from integration.server.raw_client import RawClient
from stepwave.v1.event_pb2 import RunEvent
from stepwave.v1.orchestrator_pb2 import WatchRunResponse
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.engine.temporal import host
from temporal_server import TemporalServer

RUNS = 40
AT_ONCE = 10


@pytest.fixture
async def players(temporal_server: TemporalServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Player]]:
    """Start a server of each kind: one with runs in its memory, and one on Temporal."""
    monkeypatch.setattr(host, "MIN_HEARTBEAT", 0.1)  # so that cancels reach actions soon
    kinds = [
        Settings(listen="127.0.0.1:0", entry_points=False, cancel_grace=600),
        settings_for(temporal_server).model_copy(update={"drain_timeout": 0.0, "cancel_grace": 600.0}),
    ]
    players = [Player() for _ in kinds]
    async with AsyncExitStack() as stack:
        for player, settings in zip(players, kinds, strict=True):
            server = await stack.enter_async_context(Server(settings, actions=player.actions()))
            player.client = RawClient(server.address)
            stack.push_async_callback(player.client.close)
            stack.callback(player.release_all)
        yield players


async def _play_on_both(program: Program, run_id: str, players: list[Player]) -> list[RunEvent]:
    """Play a run on both engines, compare its events, and return those on Temporal."""
    local, temporal = [await player.play(program, run_id) for player in players]
    assert masked(temporal) == masked(local)
    return temporal


async def test_random_runs_have_the_same_events_on_both_engines(
    players: list[Player], temporal_server: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    decisions = Decisions(monkeypatch)
    client = await Client.connect(temporal_server.address)
    places = asyncio.Semaphore(AT_ONCE)

    async def check(program: Program, run_id: str) -> None:
        async with places:
            seen = await _play_on_both(program, run_id, players)
            records = await check_history(decisions, await history_of(client, run_id))
            assert [event for record in records for event in WatchRunResponse.FromString(record).events] == seen

    programs = draw_programs(RUNS)
    checks = [check(program, f"ordered-{number}") for number, program in enumerate(programs)]
    problems = [problem for problem in await asyncio.gather(*checks, return_exceptions=True) if problem is not None]
    if problems:
        raise ExceptionGroup("some runs differ", problems)  # type: ignore[type-var]  # none is a cancellation
