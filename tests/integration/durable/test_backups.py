"""Backups that are made while a server runs: a server that starts from one continues from that moment."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from integration.durable.invariants import check_event_order
from integration.durable.restarts import Restarts
from integration.server.build import finished, flow, sequences, states, step
from stepwave_server.journal import JournalError, backup

BLOCKED = flow(step("before"), step("blocked", "controlled", after=["before"]), step("next", after=["blocked"]))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy" / "journal.db"


@pytest.fixture(autouse=True)
def _folder(copy: Path) -> None:
    copy.parent.mkdir()


async def test_a_server_on_a_copy_has_the_ended_runs_and_resumes_the_others(restarts: Restarts, copy: Path) -> None:
    async with restarts.start() as first:
        ended = await first.client.run(flow(step("a")), run_id="ended")
        await first.client.start(BLOCKED, run_id="live")
        await first.controlled.wait_started("blocked")
        await asyncio.to_thread(backup, restarts.path, copy)
        async with restarts.start(path=copy) as second:  # beside the first
            assert await second.client.events("ended") == ended
            second.controlled.release("blocked")
            events = await second.client.events("live")
            assert second.controlled.invoked == ["blocked", "next"]
        assert states(events) == {"before": "succeeded", "blocked": "succeeded", "next": "succeeded"}
        first.controlled.release("blocked")
        assert sequences(await first.client.events("live"))[-1] < sequences(events)[-1]


async def test_a_copy_made_under_load_is_complete(restarts: Restarts, copy: Path) -> None:
    """Every run in it has its events up to that moment, and continues to its end."""
    names = [f"run{place}" for place in range(10)]
    wide = flow(*(step(f"s{i}", "core.sleep", given={"seconds": 0.002}, after=_above(i)) for i in range(40)))
    async with restarts.start() as first:
        runs = [first.client.execute(wide, run_id=name, window=60) for name in names]
        await asyncio.gather(*(run.until("step_finished", "s9") for run in runs))
        await asyncio.to_thread(backup, restarts.path, copy)
        whole = await asyncio.gather(*(run.rest() for run in runs))
    async with restarts.start(path=copy) as second:
        for name, kept in zip(names, whole, strict=True):
            events = await second.client.events(name)
            check_event_order(events)
            assert set(states(events).values()) == {"succeeded"}
            shared = [event for event, other in zip(events, kept, strict=False) if event == other]
            assert "s9" in finished(shared), "the backup has what a client saw before it began"


def _above(place: int) -> list[str]:
    """Return the dependencies of a step: up to five steps before it."""
    return [f"s{place - 5}"] if place > 4 else []


async def test_a_copy_is_one_file_that_only_its_owner_can_read(restarts: Restarts, copy: Path) -> None:
    async with restarts.start() as first:
        await first.client.run(flow(step("a")))
        await asyncio.to_thread(backup, restarts.path, copy)
    assert [file.name for file in copy.parent.iterdir()] == [copy.name]
    assert _mode(copy) == 0o600
    with closing(sqlite3.connect(copy)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_a_copy_replaces_an_older_one(restarts: Restarts, copy: Path) -> None:
    async with restarts.start() as first:
        await first.client.run(flow(step("a")), run_id="old")
        await asyncio.to_thread(backup, restarts.path, copy)
        await first.client.run(flow(step("a")), run_id="new")
        await asyncio.to_thread(backup, restarts.path, copy)
    async with restarts.start(path=copy) as second:
        assert (await second.client.get("new")).run_id == "new"


async def test_a_journal_that_no_server_uses_can_be_copied(restarts: Restarts, copy: Path) -> None:
    async with restarts.start() as first:
        events = await first.client.run(flow(step("a")), run_id="ended")
    backup(restarts.path, copy)
    async with restarts.start(path=copy) as second:
        assert await second.client.events("ended") == events


async def test_a_copy_that_cannot_be_made_leaves_nothing(restarts: Restarts, copy: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal at"):
        backup(restarts.path, copy)
    restarts.path.write_text("Dear diary,\n" * 1_000)
    with pytest.raises(JournalError, match="is no journal of Stepwave"):
        backup(restarts.path, copy)
    assert list(copy.parent.iterdir()) == []
