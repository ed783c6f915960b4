"""The journal in SQLite: the content of the file, and its recovery by the next server."""

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import pytest

from stepwave_server.core.info import RunInfo, seed_of
from stepwave_server.core.messages import RunFinished, StepFinished
from stepwave_server.core.model import Blob, State
from stepwave_server.core.state import RunOptions
from stepwave_server.core.validate import Limits
from stepwave_server.journal import Header, Listing, Retention, SqliteJournal, Unfinished
from stepwave_server.journal.sqlite import recent_events
from stepwave_server.journal.sqlite.database import Synchronous
from stepwave_server.wire.events.encode import Encoder, Kind, Record
from unit.server.journal.journals import Clock, Spy, add, ended, finish, header, key, record, run_scheduled, write


class OpenFile(Protocol):
    """Opens the journal of a test again, as the next server does."""

    async def __call__(self, *, count: int = 100, synchronous: Synchronous = "full") -> SqliteJournal: ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "journal.db"


@pytest.fixture
async def reopen(clock: Clock, path: Path) -> AsyncIterator[OpenFile]:
    """Return a function that opens the journal, after closing the one before."""
    async with AsyncExitStack() as stack:

        async def open_again(*, count: int = 100, synchronous: Synchronous = "full") -> SqliteJournal:
            await stack.aclose()
            retention = Retention(count=count)
            journal = SqliteJournal.open(path, clock=clock, retention=retention, synchronous=synchronous)
            stack.push_async_callback(journal.close)
            return journal

        yield open_again


def _query(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


async def _records(journal: SqliteJournal, name: str, after: int = 0) -> list[Record]:
    """Read all events after a number, in small parts."""
    found: list[Record] = []
    while records := await journal.read(key(name), after + len(found), 1_000):
        found += records
    return found


async def test_only_the_owner_can_read_the_files(reopen: OpenFile, path: Path) -> None:
    await write(await reopen(), "a", 10)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(
        ["journal.db", "journal.db-shm", "journal.db-wal", "journal.db.lock"], stat.S_IRUSR | stat.S_IWUSR
    )
    assert stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IRWXU


@pytest.mark.parametrize(("synchronous", "value"), [("full", 2), ("normal", 1)])
async def test_commits_are_synchronous_as_configured(
    reopen: OpenFile, spy: Spy, synchronous: Synchronous, value: int
) -> None:
    await reopen(synchronous=synchronous)
    assert spy.pragma("synchronous") == value
    assert spy.pragma("fullfsync") == 1
    assert spy.pragma("journal_mode") == "wal"


async def test_committed_events_survive_the_journal(reopen: OpenFile) -> None:
    await finish(await reopen(), "a", Clock(), 10, 20)
    again = await reopen()
    assert again.has_ended(key("a"))
    assert await _records(again, "a") == [record(10), record(20)]


async def test_closing_commits_the_appended_events(reopen: OpenFile) -> None:
    journal = await reopen()
    journal.create(header("a"))
    journal.append(key("a"), [record(10)], lambda: None)
    journal.append(key("a"), [record(20)], lambda: None)
    await journal.close()
    (left,) = [each async for each in (await reopen()).unfinished()]
    assert left.records == [record(10), record(20)]


async def test_unfinished_runs_are_recovered_oldest_first_with_their_headers(
    reopen: OpenFile,
) -> None:
    journal = await reopen()
    full = Header(
        key=key("new"),
        workflow=b"workflow",
        input=Blob("image/png", b"\x89"),
        options=RunOptions(
            open=True,
            step_timeout=5,
            limits=Limits(max_steps=7, max_edges=8),
            seed=seed_of(key("new")),
            version=1,
            max_payload_bytes=9,
        ),
        create_time=20,
        traceparent="00-trace-span-01",
        tracestate="vendor=1",
        window=2.5,
        rerun_of="earlier",
        workflow_digest="0123",
    )
    for each in (full, header("old", create_time=10)):
        journal.create(each)
        await add(journal, each.key.run_id, [record(10)])
    await finish(journal, "done", Clock())
    again = await reopen()
    assert [each async for each in again.unfinished()] == [
        Unfinished(header("old", create_time=10), [record(10)]),
        Unfinished(full, [record(10)]),
    ]


async def test_the_next_server_continues_a_run(reopen: OpenFile) -> None:
    await write(await reopen(), "a", 10, 20)
    again = await reopen()
    assert [left.header.key async for left in again.unfinished()] == [key("a")]
    await add(again, "a", [record(30)], ended("a", 5))
    last = await reopen()
    assert [left async for left in last.unfinished()] == []
    assert await _records(last, "a") == [record(10), record(20), record(30)]


async def test_a_detached_run_stays_detached_with_the_next_server(reopen: OpenFile) -> None:
    journal = await reopen()
    for name in ("attached", "detached"):
        journal.create(header(name, window=3.0))
        await add(journal, name, [record(10)])
    await journal.detach(key("detached"))
    again = await reopen()
    assert {left.header.key.run_id: left.header.window async for left in again.unfinished()} == {
        "attached": 3.0,
        "detached": None,
    }


async def test_a_broken_run_stays_marked_for_every_later_server(reopen: OpenFile) -> None:
    journal = await reopen()
    for name in ("whole", "broken"):
        await write(journal, name, 10)
    journal.mark_broken(key("broken"))
    for _ in range(2):
        journal = await reopen()
        found = {left.header.key.run_id: left.broken async for left in journal.unfinished()}
        assert found == {"whole": False, "broken": True}
    await add(journal, "broken", [record(20)], ended("broken", 5, last=2))
    journal = await reopen()
    assert [left.header.key.run_id async for left in journal.unfinished()] == ["whole"]
    assert await _records(journal, "broken") == [record(10), record(20)]


async def test_a_run_is_marked_as_broken_after_its_earlier_events(clock: Clock, path: Path) -> None:
    """In every commit, a broken run has all the events that led to the defect."""
    seen: list[tuple[object, ...]] = []

    def look(point: str) -> None:
        if point == "after-commit":
            seen.extend(_query(path, "SELECT broken, (SELECT sum(length(kinds)) FROM chunks) FROM runs"))

    journal = SqliteJournal.open(path, clock=clock, retention=Retention(), observe=look)
    journal.create(header("a"))
    for _ in range(5):
        journal.append(key("a"), [record(10)], lambda: None)
    journal.mark_broken(key("a"))
    await journal.close()
    assert seen[-1] == (1, 5)
    assert all(events == 5 for broken, events in seen if broken)


async def test_a_run_with_an_event_of_a_later_version_is_unreadable(reopen: OpenFile, path: Path) -> None:
    journal = await reopen()
    for name in ("a", "b"):
        await write(journal, name, 10)
    await journal.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE chunks SET kinds = x'fa' WHERE place >> 32 = 1")
    journal = await reopen()
    left = {each.header.key.run_id: each.unreadable async for each in journal.unfinished()}
    assert left == {"a": "it has an event of kind 250, which this version does not know", "b": ""}


async def test_a_run_that_was_never_committed_is_not_recovered(reopen: OpenFile) -> None:
    journal = await reopen()
    journal.create(header("a"))
    assert [left async for left in (await reopen()).unfinished()] == []


def _finished(outputs: int) -> tuple[list[Record], "list[int]"]:
    """Return the events of a run whose outputs are those of its steps, and the steps' sequence numbers."""
    encoder = Encoder("a", "flow", 7)
    texts = [(f"s{index}", '"' + str(index) * 50 + '"') for index in range(outputs)]
    events = [
        encoder.encode(1 + index, StepFinished(9, step_id, "act", State.SUCCEEDED, 0, 1, text, None, None, 8, 8))
        for index, (step_id, text) in enumerate(texts)
    ]
    counts = (0, 0, outputs, 0, 0, 0)
    last = RunFinished(9, State.SUCCEEDED, 8, tuple(texts), (), 0, (), 0, counts)
    return [*events, encoder.encode(outputs + 1, last)], list(range(1, outputs + 1))


async def test_outputs_are_stored_once_and_read_twice(reopen: OpenFile, path: Path) -> None:
    records, numbers = _finished(20)
    journal = await reopen()
    journal.create(header("a"))
    await add(journal, "a", records, ended("a", 5, outputs=numbers))
    again = await reopen()
    assert await _records(again, "a") == records
    assert await again.pick(key("a"), [21, 3]) == [records[20], records[2]]
    stored = b"".join(data for (data,) in _query(path, "SELECT data FROM chunks") if isinstance(data, bytes))
    assert [stored.count(b'"' + str(index).encode() * 50 + b'"') for index in range(10)] == [1] * 10


async def test_events_no_longer_in_memory_are_read_from_the_file(
    reopen: OpenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_events, "MAX_RUN_BYTES", 1_000)
    journal = await reopen()
    journal.create(header("a"))
    records = [record(10 + size) for size in range(100)]
    for first in range(0, 100, 7):
        await add(journal, "a", records[first : first + 7])
    for after in range(100):
        assert await _records(journal, "a", after) == records[after:]
    assert await journal.pick(key("a"), list(range(100, 0, -1))) == records[::-1]


async def test_a_large_commit_is_stored_in_several_chunks(reopen: OpenFile, path: Path) -> None:
    journal = await reopen()
    journal.create(header("a"))
    records = [record(50_000) for _ in range(30)]
    await add(journal, "a", records, ended("a", 5))
    assert _query(path, "SELECT sum(length(data)), max(length(data)) FROM chunks") == [(1_500_000, 300_000)]
    assert await _records(await reopen(), "a") == records


async def test_events_appended_during_a_commit_are_committed_together(clock: Clock, path: Path) -> None:
    commits: list[str] = []
    journal = SqliteJournal.open(path, clock=clock, retention=Retention(), observe=commits.append)
    journal.create(header("a"))
    for _ in range(50):
        journal.append(key("a"), [record(10)], lambda: None)
    await add(journal, "a", [record(10)])
    await journal.close()
    assert commits.count("after-commit") < 10
    assert (_query(path, "SELECT count(*) FROM chunks")[0][0], commits[0]) < (10, "c")


async def test_deleted_runs_leave_no_rows(reopen: OpenFile, path: Path) -> None:
    journal = await reopen(count=1)
    for name in ("a", "b", "c"):
        await finish(journal, name, Clock(), *[50] * 10)
    await write(journal, "running", 10)
    await journal.delete(key("c"))
    while _query(path, "SELECT 1 FROM rubbish"):
        await add(journal, "running", [record(10)])
    for table in ("definitions", "labels", "endings"):
        assert _query(path, f"SELECT count(*) FROM {table}")[0][0] == int(table == "definitions")
    assert _query(path, "SELECT run_id FROM runs") == [("running",)]
    assert _query(path, "SELECT DISTINCT place >> 32 FROM chunks") == [(4,)]


async def test_the_next_server_collects_remaining_garbage(reopen: OpenFile, path: Path) -> None:
    await finish(await reopen(), "a", Clock())
    await reopen()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO rubbish SELECT run FROM runs")
        connection.execute("DELETE FROM runs")
    again = await reopen()
    await write(again, "b", 10)
    assert _query(path, "SELECT run_id, run FROM runs") == [("b", 2)]
    assert _query(path, "SELECT count(*) FROM rubbish") == [(0,)]
    assert _query(path, "SELECT DISTINCT place >> 32 FROM chunks") == [(2,)]


async def test_the_id_of_a_deleted_run_is_free_at_once(reopen: OpenFile) -> None:
    journal = await reopen()
    await finish(journal, "a", Clock(), 10)
    deleted = asyncio.ensure_future(journal.delete(key("a")))
    await asyncio.sleep(0)
    await finish(journal, "a", Clock(), 20)
    await deleted
    assert await _records(await reopen(), "a") == [record(20)]


async def test_pages_of_a_list_continue_after_a_restart(reopen: OpenFile) -> None:
    journal = await reopen()
    for number in range(7):
        name = f"r{number}"
        journal.create(header(name, create_time=number // 2))
        await add(journal, name, [record(10)], ended(name, 9, create_time=number // 2))
    again = await reopen()
    pages: list[RunInfo] = []
    while page := await again.list_ended(Listing("default"), pages[-1].position if pages else None, 3):
        pages += page
    assert [info.key.run_id for info in pages] == ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]
    assert all(later.position > earlier.position for later, earlier in pairwise(pages))


async def test_after_a_restart_the_first_runs_to_end_are_deleted_first(reopen: OpenFile, clock: Clock) -> None:
    journal = await reopen()
    for name in ("b", "c", "a"):
        clock.now += 1
        await finish(journal, name, clock)
    again = await reopen(count=2)
    await run_scheduled()
    assert [again.has_ended(key(name)) for name in "abc"] == [True, False, True]


async def test_a_journal_is_clean_after_an_orderly_stop(reopen: OpenFile) -> None:
    first = await reopen()
    assert first.clean
    await write(first, "a", 10)
    assert (await reopen()).clean


async def _crash(journal: SqliteJournal, path: Path) -> None:
    """Close a journal, and restore the file as a killed server would have left it."""
    before = path.read_bytes(), path.with_name(f"{path.name}-wal").read_bytes()
    await journal.close()
    path.write_bytes(before[0])
    path.with_name(f"{path.name}-wal").write_bytes(before[1])


async def test_after_a_crash_a_journal_is_clean_once_a_server_has_recovered_its_runs_and_stopped(
    reopen: OpenFile, path: Path
) -> None:
    first = await reopen()
    await write(first, "a", 10)
    await _crash(first, path)
    assert not (await reopen()).clean
    second = await reopen()
    assert not second.clean, "the server before did not start, so it recovered no runs"
    assert [left.header.key async for left in second.unfinished()] == [key("a")]
    assert (await reopen()).clean


async def test_a_server_that_lost_its_journal_does_not_mark_it_as_clean(reopen: OpenFile, path: Path) -> None:
    journal = await reopen()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE owner SET epoch = epoch + 1, process = 'another'")
        connection.commit()
    await journal.close()
    assert _query(path, "SELECT process FROM owner") == [("another",)]


async def test_closing_twice_does_nothing(reopen: OpenFile) -> None:
    journal = await reopen()
    await journal.close()
    await journal.close()


def test_the_kinds_of_events_fit_a_byte() -> None:
    assert max(Kind) < 256


async def test_the_next_server_knows_the_bytes_of_all_runs(reopen: OpenFile, clock: Clock) -> None:
    journal = await reopen()
    journal.create(replace(header("under-way"), workflow=b"workflow", input=Blob("image/png", b"picture")))
    await add(journal, "under-way", map(record, (300, 400)))
    await add(journal, "under-way", [record(10)])
    await finish(journal, "ended", clock, 10, 20)
    before = journal.kept_bytes.of("default")
    assert before > 740
    journal = await reopen()
    assert journal.kept_bytes.of("default") == before
    assert [it.header.key.run_id async for it in journal.unfinished()] == ["under-way"]
    await add(journal, "under-way", [record(10)], ended("under-way", clock.now, last=4))
    await run_scheduled()
    assert journal.kept_bytes.of("default") == before + 10
    for name in ("under-way", "ended"):
        await journal.delete(key(name))
    assert journal.kept_bytes.of("default") == 0
