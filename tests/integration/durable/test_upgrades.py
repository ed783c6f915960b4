"""Upgrades: the journal of an earlier version opens, and the run that it has under way goes on to its end.

`tests/golden` has a journal of each version of the core. `golden/make.py` made it with that version, and left a run
under way, as a server that crashes does.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from golden.make import UNFINISHED, answers
from integration.durable.restarts import Restarts
from integration.server.build import check_sequences, end_of, state_of, states
from stepwave import action
from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.journal.sqlite.database import MIGRATIONS

GOLDEN = Path(__file__).parents[2] / "golden"
VERSIONS = sorted(file.parent.name for file in GOLDEN.glob("*/journal.db"))


@action
async def hangs() -> str:
    """Return a text. The earlier version waited forever in the action of this name."""
    return "after the upgrade"


@pytest.fixture(params=VERSIONS)
def upgraded(request: pytest.FixtureRequest, restarts: Restarts) -> Restarts:
    """Servers of this version on the journal of an earlier one, which left a run under way."""
    shutil.copy(GOLDEN / request.param / "journal.db", restarts.path)
    return restarts


async def _kept_events(upgraded: Restarts) -> list[RunEvent]:
    """Return the events that the earlier version committed. The server of this version decides nothing meanwhile."""
    async with upgraded.start(recover="pause") as looking:
        run = await looking.client.get(UNFINISHED)
        assert (state_of(run.state), run.paused) == ("running", True)
        async with looking.client.watch(UNFINISHED) as watch:
            while watch.position < run.last_sequence:
                await watch.message()
    return watch.seen


async def test_a_run_that_an_earlier_version_left_under_way_goes_on_to_its_end(upgraded: Restarts) -> None:
    kept = await _kept_events(upgraded)
    async with upgraded.start(hangs, answers) as server:
        events = await server.client.events(UNFINISHED)
    check_sequences(events)
    assert [event for event in events if event.sequence <= len(kept)] == [event for event in kept if event.sequence]
    assert states(events) == {"given-up": "failed", "again": "succeeded", "last": "succeeded"}
    assert state_of(end_of(events).state) == "succeeded"


async def test_the_file_of_an_earlier_version_gets_the_schema_of_this_one(upgraded: Restarts) -> None:
    async with upgraded.start(hangs, answers) as server:
        await server.client.events(UNFINISHED)
    with closing(sqlite3.connect(upgraded.path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert file.execute("SELECT count(*) FROM runs WHERE end_time IS NULL").fetchone() == (0,)
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
