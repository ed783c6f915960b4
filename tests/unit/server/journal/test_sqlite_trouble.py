"""The journal in SQLite while commits fail: no change has an effect, and commits are retried."""

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


class Notifications:
    """The notifications that a listener got."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    def add(self, trouble: str) -> None:
        self._queue.put_nowait(trouble)

    async def next(self) -> str:
        async with asyncio.timeout(GUARD):
            return await self._queue.get()


class Hook:
    """Runs functions at the points that a journal reports."""

    def __init__(self) -> None:
        self.actions: dict[str, Callable[[], object]] = {}

    def __call__(self, point: str) -> None:
        self.actions.get(point, lambda: None)()


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
    hook.actions.clear()
    await journal.close()


@pytest.fixture
def notifications(journal: SqliteJournal) -> Notifications:
    notifications = Notifications()
    journal.listen(notifications.add)
    return notifications


def _append(journal: SqliteJournal, name: str, effects: list[str]) -> None:
    journal.create(header(name))
    journal.append(key(name), [record(10)], partial(effects.append, name))


async def test_while_the_disk_is_full_nothing_has_an_effect_and_afterwards_everything(
    journal: SqliteJournal, notifications: Notifications, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.01)
    await write(journal, "before", 10)
    pages = spy.pragma("page_count")
    spy.pragma(f"max_page_count = {pages}")
    effects: list[str] = []
    journal.create(header("big"))
    journal.append(key("big"), [record(60_000)], partial(effects.append, "big"))
    assert "the disk is full" in await notifications.next()
    _append(journal, "small", effects)
    assert effects == []
    assert await journal.read(key("big"), 0, 1_000) == []
    spy.pragma("max_page_count = 1000000")
    assert await notifications.next() == ""
    await add(journal, "small", [record(10)])
    assert effects == ["big", "small"]


async def test_a_listener_added_while_commits_fail_is_called_at_once(
    journal: SqliteJournal, notifications: Notifications, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(writer, "FIRST_PAUSE", 0.01)
    hook.actions["before-commit"] = fail
    effects: list[str] = []
    _append(journal, "a", effects)
    trouble = await notifications.next()
    late: list[str] = []
    journal.listen(late.append)
    assert late == [trouble]
    assert effects == []
    hook.actions.clear()
    assert await notifications.next() == ""
    assert late == [trouble, ""]


async def test_a_slow_disk_delays_effects_but_not_the_loop(journal: SqliteJournal, hook: Hook) -> None:
    disk = threading.Event()
    hook.actions["before-commit"] = partial(disk.wait, GUARD)
    effects: list[str] = []
    _append(journal, "a", effects)
    for _ in range(100):
        await asyncio.sleep(0)
    assert effects == []
    assert await journal.read(key("a"), 0, 1_000) == []
    disk.set()
    await add(journal, "a", [record(10)])
    assert effects == ["a"]


async def test_a_server_that_lost_the_journal_writes_nothing(
    journal: SqliteJournal, path: Path, notifications: Notifications
) -> None:
    """The other server has begun an epoch, as is possible on a disk without locks."""
    await finish(journal, "mine", Clock())
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE owner SET epoch = epoch + 1, process = 'process 4711 on elsewhere'")
    effects: list[str] = []
    _append(journal, "late", effects)
    assert "was taken over by process 4711 on elsewhere" in await notifications.next()
    await journal.close()
    assert effects == []
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("SELECT run_id FROM runs").fetchall() == [("mine",)]


async def test_closing_while_commits_fail_drops_changes_without_effect(
    journal: SqliteJournal, path: Path, notifications: Notifications, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    hook.actions["before-commit"] = fail
    effects: list[str] = []
    _append(journal, "a", effects)
    await notifications.next()
    async with asyncio.timeout(GUARD):
        await journal.close()
    assert effects == []
    assert "1 changes were not committed" in caplog.text


async def test_a_commit_waits_for_the_lock_of_another_program(journal: SqliteJournal, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        effects: list[str] = []
        _append(journal, "a", effects)
        other.execute("ROLLBACK")
        await add(journal, "a", [record(10)])
    assert effects == ["a"]


async def test_effects_happen_after_the_commit_when_it_is_published(journal: SqliteJournal, hook: Hook) -> None:
    journal.create(header("a"))
    await add(journal, "a", [record(10)])  # no other commit is under way after it
    order: list[str] = []
    for point in ("before-commit", "after-commit", "before-publication"):
        hook.actions[point] = partial(order.append, point)
    happened = asyncio.Event()

    def effect() -> None:
        order.append("effect")
        happened.set()

    journal.append(key("a"), [record(10)], effect)
    async with asyncio.timeout(GUARD):
        await happened.wait()
    assert order == ["before-commit", "after-commit", "before-publication", "effect"]


async def test_deletions_in_a_lost_journal_fail_rather_than_wait(
    journal: SqliteJournal, path: Path, notifications: Notifications
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


async def test_a_defect_of_the_journal_is_reported_and_has_no_effect(
    journal: SqliteJournal, notifications: Notifications, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("a bug")

    hook.actions["before-commit"] = fail
    effects: list[str] = []
    _append(journal, "a", effects)
    assert "met a defect: ValueError: a bug" in await notifications.next()
    assert effects == []
    assert "Traceback" in caplog.text
