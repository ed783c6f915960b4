"""Ordered mode: random runs, whose outcomes come one at a time, have the same events on both engines."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AsyncExitStack

import pytest
from temporalio.client import Client

from conformance.clusters import settings_for
from conformance.decisions import Decisions, check_history, history_of
from conformance.moves import Program
from conformance.players import Ambiguous, Player, masked
from conformance.programs import NAMED_FOLDER, draw_programs
from integration.server.raw_client import RawClient
from stepwave.v1.event_pb2 import RunEvent
from stepwave.v1.orchestrator_pb2 import WatchRunResponse
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.engine.temporal import host
from temporal_server import TemporalServer

RUNS = {"plain": 24, "timed": 16, "chosen": 16, "both": 10}
"""How many runs of each kind are played; see `programs.KINDS`."""

AT_ONCE = 10

TRIES = 10
"""How often a run is played if the machine is too slow for its timeouts."""

MOST_AMBIGUOUS = 0.1
"""The share of runs that may not be compared, because the machine was too slow each time."""

CHOSEN = {"chosen workflow", "unknown workflow"}
TIMED = {"attempt timeout", "retry after an attempt's timeout", "total timeout", "own timeout", "run timeout"}
FACTS = {"plain": set[str](), "timed": TIMED, "chosen": CHOSEN, "both": {"attempt timeout", "chosen workflow"}}
"""What happens at least in the runs of each kind."""


@pytest.fixture(params=RUNS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of the runs that a test plays."""
    return str(request.param)


@pytest.fixture
def programs(kind: str) -> list[Program]:
    """Draw runs, before servers are there that this would block."""
    return draw_programs(kind, RUNS[kind])


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
            settings = settings.model_copy(update={"workflows": NAMED_FOLDER})
            server = await stack.enter_async_context(Server(settings, actions=player.actions()))
            player.client = RawClient(server.address)
            stack.push_async_callback(player.client.close)
            stack.callback(player.release_all)
        yield players


async def _play(player: Player, program: Program, run_id: str) -> list[RunEvent]:
    try:
        return await player.play(program, run_id)
    except Ambiguous:
        await player.give_up(run_id)
        raise


async def _all_of(plays: Iterable[Awaitable[list[RunEvent]]]) -> list[list[RunEvent]]:
    """Wait for all plays of a run. Raise the first error, when all have ended."""
    found: list[list[RunEvent]] = []
    for played in await asyncio.gather(*plays, return_exceptions=True):
        if isinstance(played, BaseException):
            raise played
        found.append(played)
    return found


class _Comparison:
    """Plays runs on both engines, and compares their events.

    Attributes:
        ambiguous: The timeouts because of which runs were not compared: the machine was too slow for them.
    """

    def __init__(self, players: list[Player], decisions: Decisions, client: Client) -> None:
        self.ambiguous: list[str] = []
        self._players = players
        self._decisions = decisions
        self._client = client
        self._places = asyncio.Semaphore(AT_ONCE)

    async def check(self, program: Program, name: str) -> None:
        """Check that a run has the same events on both engines, and in a replay of its workflow."""
        async with self._places:
            last = ""
            for number in range(TRIES):
                try:
                    await self._check(program, f"{name}-{number}")
                except Ambiguous as ambiguous:
                    last = str(ambiguous)
                else:
                    return
            self.ambiguous.append(last)

    async def _check(self, program: Program, run_id: str) -> None:
        local, temporal = await _all_of([_play(player, program, run_id) for player in self._players])
        assert masked(temporal) == masked(local)
        records = await check_history(self._decisions, await history_of(self._client, run_id))
        assert [event for record in records for event in WatchRunResponse.FromString(record).events] == temporal


async def test_random_runs_have_the_same_events_on_both_engines(
    kind: str,
    programs: list[Program],
    players: list[Player],
    temporal_server: TemporalServer,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    client = await Client.connect(temporal_server.address)
    comparison = _Comparison(players, Decisions(monkeypatch), client)
    checks = [comparison.check(program, f"{kind}-{number}") for number, program in enumerate(programs)]
    problems = [problem for problem in await asyncio.gather(*checks, return_exceptions=True) if problem is not None]
    facts = Counter(fact for program in programs for fact in program.facts)
    figures = f"{len(programs)} runs, not compared: {comparison.ambiguous}; {dict(facts)}"
    request.node.add_report_section("call", "figures", figures)
    if problems:
        raise ExceptionGroup("some runs differ", problems)  # type: ignore[type-var]  # none is a cancellation
    assert facts.keys() >= FACTS[kind]
    assert len(comparison.ambiguous) <= MOST_AMBIGUOUS * len(programs)
