"""Back-ups that are made while a server works: a server that starts from one goes on from that moment."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from integration.durable.claims import check_order
from integration.durable.lives import Lives
from integration.server.build import finished, flow, sequences, states, step
from stepwave_server.journal import JournalError, backup

HELD = flow(step("before"), step("held", "gated", after=["before"]), step("next", after=["held"]))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy" / "journal.db"


@pytest.fixture(autouse=True)
def _folder(copy: Path) -> None:
    copy.parent.mkdir()


async def test_a_server_on_a_copy_has_what_had_ended_and_goes_on_with_the_rest(lives: Lives, copy: Path) -> None:
    async with lives.next() as first:
        ended = await first.caller.run(flow(step("a")), run_id="ended")
        await first.caller.start(HELD, run_id="live")
        await first.stage.here("held")
        await asyncio.to_thread(backup, lives.path, copy)
        async with lives.next(path=copy) as second:  # beside the first
            assert await second.caller.events("ended") == ended
            second.stage.let("held")
            events = await second.caller.events("live")
            assert second.stage.invoked == ["held", "next"]
        assert states(events) == {"before": "succeeded", "held": "succeeded", "next": "succeeded"}
        first.stage.let("held")
        assert sequences(await first.caller.events("live"))[-1] < sequences(events)[-1]


async def test_a_copy_made_under_load_is_whole(lives: Lives, copy: Path) -> None:
    """Every run in it is told as far as it went, and goes on to its end from there."""
    names = [f"run{place}" for place in range(10)]
    wide = flow(*(step(f"s{i}", "core.sleep", given={"seconds": 0.002}, after=_above(i)) for i in range(40)))
    async with lives.next() as first:
        runs = [first.caller.execute(wide, run_id=name, window=60) for name in names]
        await asyncio.gather(*(run.until("step_finished", "s9") for run in runs))
        await asyncio.to_thread(backup, lives.path, copy)
        whole = await asyncio.gather(*(run.rest() for run in runs))
    async with lives.next(path=copy) as second:
        for name, kept in zip(names, whole, strict=True):
            events = await second.caller.events(name)
            check_order(events)
            assert set(states(events).values()) == {"succeeded"}
            shared = [event for event, other in zip(events, kept, strict=False) if event == other]
            assert "s9" in finished(shared), "what a caller saw before the back-up began is in it"


def _above(place: int) -> list[str]:
    """Return what a step depends on: the five before it come first."""
    return [f"s{place - 5}"] if place > 4 else []


async def test_a_copy_is_one_file_readable_for_its_owner_alone(lives: Lives, copy: Path) -> None:
    async with lives.next() as first:
        await first.caller.run(flow(step("a")))
        await asyncio.to_thread(backup, lives.path, copy)
    assert [file.name for file in copy.parent.iterdir()] == [copy.name]
    assert _mode(copy) == 0o600
    with closing(sqlite3.connect(copy)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_a_copy_replaces_an_older_one(lives: Lives, copy: Path) -> None:
    async with lives.next() as first:
        await first.caller.run(flow(step("a")), run_id="old")
        await asyncio.to_thread(backup, lives.path, copy)
        await first.caller.run(flow(step("a")), run_id="new")
        await asyncio.to_thread(backup, lives.path, copy)
    async with lives.next(path=copy) as second:
        assert (await second.caller.get("new")).run_id == "new"


async def test_a_copy_of_a_journal_that_no_server_uses_is_made_as_well(lives: Lives, copy: Path) -> None:
    async with lives.next() as first:
        events = await first.caller.run(flow(step("a")), run_id="ended")
    backup(lives.path, copy)
    async with lives.next(path=copy) as second:
        assert await second.caller.events("ended") == events


async def test_a_copy_that_cannot_be_made_leaves_nothing(lives: Lives, copy: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal at"):
        backup(lives.path, copy)
    lives.path.write_text("Dear diary,\n" * 1_000)
    with pytest.raises(JournalError, match="is no journal of Stepwave"):
        backup(lives.path, copy)
    assert list(copy.parent.iterdir()) == []
