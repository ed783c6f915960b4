"""The journal in SQLite when it cannot commit: nothing has an effect, and all of it is tried again."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from stepwave_server.journal import JournalError, Retention, SqliteJournal
from stepwave_server.journal.sqlite import writer
from unit.server.journal.journals import GUARD, Clock, Spy, add, finish, header, key, record, write


class Told:
    """What listeners were told, and when there is more."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[str] = asyncio.Queue()

    async def next(self) -> str:
        async with asyncio.timeout(GUARD):
            return await self.news.get()


class Hook:
    """What happens at the places a journal comes by."""

    def __init__(self) -> None:
        self.does: dict[str, Callable[[], object]] = {}

    def __call__(self, place: str) -> None:
        self.does.get(place, lambda: None)()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def hook() -> Hook:
    return Hook()


@pytest.fixture
async def journal(spy: Spy, path: Path, hook: Hook) -> AsyncIterator[SqliteJournal]:
    journal = SqliteJournal.open(path, clock=Clock(), retention=Retention(), observe=hook)
    yield journal
    hook.does.clear()
    await journal.close()


@pytest.fixture
def told(journal: SqliteJournal) -> Told:
    told = Told()
    journal.listen(told.news.put_nowait)
    return told


def _append(journal: SqliteJournal, name: str, effects: list[str]) -> None:
    journal.create(header(name))
    journal.append(key(name), [record(10)], partial(effects.append, name))


async def test_while_the_disk_is_full_nothing_has_an_effect_and_then_everything(
    journal: SqliteJournal, told: Told, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.01)
    await write(journal, "before", 10)
    pages = spy.pragma("page_count")
    spy.pragma(f"max_page_count = {pages}")
    effects: list[str] = []
    journal.create(header("big"))
    journal.append(key("big"), [record(60_000)], partial(effects.append, "big"))
    assert "the disk is full" in await told.next()
    _append(journal, "small", effects)
    assert effects == []
    assert await journal.read(key("big"), 0, 1_000) == []
    spy.pragma("max_page_count = 1000000")
    assert await told.next() == ""
    await add(journal, "small", [record(10)])
    assert effects == ["big", "small"]


async def test_who_listens_during_the_trouble_is_told_at_once(
    journal: SqliteJournal, told: Told, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.01)
    hook.does["before-commit"] = fail
    effects: list[str] = []
    _append(journal, "a", effects)
    trouble = await told.next()
    late: list[str] = []
    journal.listen(late.append)
    assert late == [trouble]
    assert effects == []
    hook.does.clear()
    assert await told.next() == ""
    assert late == [trouble, ""]


async def test_a_slow_disk_delays_effects_and_not_the_loop(journal: SqliteJournal, hook: Hook) -> None:
    gate = threading.Event()
    hook.does["before-commit"] = partial(gate.wait, GUARD)
    effects: list[str] = []
    _append(journal, "a", effects)
    for _ in range(100):
        await asyncio.sleep(0)
    assert effects == []
    assert await journal.read(key("a"), 0, 1_000) == []
    gate.set()
    await add(journal, "a", [record(10)])
    assert effects == ["a"]


async def test_a_server_that_lost_the_journal_to_another_writes_no_more(
    journal: SqliteJournal, path: Path, told: Told
) -> None:
    """As on a disk that does not keep locks: the other one has begun an epoch."""
    await finish(journal, "mine", Clock())
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE owner SET epoch = epoch + 1, process = 'process 4711 on elsewhere'")
    effects: list[str] = []
    _append(journal, "late", effects)
    assert "was taken over by process 4711 on elsewhere" in await told.next()
    await journal.close()
    assert effects == []
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("SELECT run_id FROM runs").fetchall() == [("mine",)]


async def test_closing_during_the_trouble_gives_up_what_had_no_effect(
    journal: SqliteJournal, path: Path, told: Told, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    hook.does["before-commit"] = fail
    effects: list[str] = []
    _append(journal, "a", effects)
    await told.next()
    async with asyncio.timeout(GUARD):
        await journal.close()
    assert effects == []
    assert "1 changes were not committed" in caplog.text


async def test_a_lock_of_another_program_is_waited_for(journal: SqliteJournal, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        effects: list[str] = []
        _append(journal, "a", effects)
        other.execute("ROLLBACK")
        await add(journal, "a", [record(10)])
    assert effects == ["a"]


async def test_effects_come_after_the_commit_and_before_publication_there_are_none(
    journal: SqliteJournal, hook: Hook
) -> None:
    order: list[str] = []
    for place in ("before-commit", "after-commit", "before-publication"):
        hook.does[place] = partial(order.append, place)
    journal.create(header("a"))
    journal.append(key("a"), [record(10)], partial(order.append, "effect"))
    await add(journal, "a", [record(10)])
    assert order[:4] == ["before-commit", "after-commit", "before-publication", "effect"]


async def test_nobody_waits_for_ever_for_what_a_lost_journal_will_not_do(
    journal: SqliteJournal, path: Path, told: Told
) -> None:
    for name in ("first", "second"):
        await finish(journal, name, Clock())
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE owner SET epoch = epoch + 1")
    async with asyncio.timeout(GUARD):
        with pytest.raises(JournalError, match="was taken over"):
            await journal.delete(key("first"))
        with pytest.raises(JournalError, match="was taken over"):
            await journal.delete(key("second"))


async def test_a_defect_of_the_journal_is_told_and_has_no_effect(
    journal: SqliteJournal, told: Told, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("a slip")

    hook.does["before-commit"] = fail
    effects: list[str] = []
    _append(journal, "a", effects)
    assert "met a defect: ValueError: a slip" in await told.next()
    assert effects == []
    assert "Traceback" in caplog.text
