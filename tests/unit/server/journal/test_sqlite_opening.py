"""Opening a journal in SQLite: locks, migrations, and files that are rejected."""

import asyncio
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from stepwave_server.journal import JournalError, Retention, SqliteJournal
from stepwave_server.journal.sqlite import database
from stepwave_server.journal.sqlite.storage_errors import (
    JournalCorrupt,
    JournalInUse,
    JournalIsFolder,
    JournalTooNew,
    NotAJournal,
)
from unit.server.journal.journals import Clock, add, finish, key, record, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def _open(path: Path) -> SqliteJournal:
    return SqliteJournal.open(path, clock=Clock(), retention=Retention())


async def _create(path: Path) -> None:
    """Create a journal with one run, and close it."""
    journal = _open(path)
    await finish(journal, "a", Clock(), *[1_000] * 100)
    await journal.close()


def _version(path: Path) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def _execute(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


async def test_a_second_server_is_rejected_with_the_owners_process(path: Path) -> None:
    journal = _open(path)
    with pytest.raises(JournalInUse, match=f"in use by process {os.getpid()} on "):
        _open(path)
    await journal.close()
    await _open(path).close()


async def test_a_second_server_is_rejected_by_any_path_to_the_file(path: Path) -> None:
    journal = _open(path)
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(JournalInUse):
        _open(link)
    await journal.close()


async def test_a_later_schema_is_rejected_and_left_unchanged(path: Path) -> None:
    await _create(path)
    _execute(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(JournalTooNew, match=r"its schema is 99, and this version knows up to \d") as caught:
        _open(path)
    assert (caught.value.version, caught.value.known) == (99, len(database.MIGRATIONS))
    assert path.read_bytes() == before


async def test_another_programs_database_is_rejected_and_left_unchanged(path: Path) -> None:
    _execute(path, "CREATE TABLE precious (thing)")
    before = path.read_bytes()
    with pytest.raises(NotAJournal, match="is no journal of Stepwave; it is left as it is"):
        _open(path)
    assert path.read_bytes() == before


async def test_a_text_file_is_rejected_and_left_unchanged(path: Path) -> None:
    path.write_text("steps: []\n" * 100)
    with pytest.raises(NotAJournal):
        _open(path)
    assert path.read_text().startswith("steps")


async def test_a_damaged_file_is_reported_as_damaged(path: Path) -> None:
    await _create(path)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(JournalCorrupt, match="is damaged; restore a back-up"):
        _open(path)


async def test_damage_within_the_file_is_reported_by_the_read_that_meets_it(path: Path) -> None:
    await _create(path)
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'chunks'").fetchone()
    data = bytearray(path.read_bytes())
    data[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    journal = _open(path)
    assert journal.has_ended(key("a"))
    with pytest.raises(JournalCorrupt):
        await journal.read(key("a"), 0, 1_000)
    await journal.close()


async def test_a_folder_is_rejected(path: Path) -> None:
    path.mkdir()
    with pytest.raises(
        JournalIsFolder, match=rf"{path}: it is a folder; name a file in it, as in sqlite:{path}/journal\.db"
    ):
        _open(path)
    assert list(path.iterdir()) == []


async def test_a_folder_that_cannot_be_created_is_reported(path: Path) -> None:
    path.write_text("a file, where a folder is wanted")
    with pytest.raises(JournalError, match=rf"cannot open the journal .*: Not a directory: {path} is a file"):
        _open(path / "journal.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(JournalError, match="Permission denied"):
        _open(folder / "journal.db")


async def test_a_rejected_file_is_unlocked(path: Path) -> None:
    await _create(path)
    _execute(path, "PRAGMA user_version = 99")
    with pytest.raises(JournalTooNew):
        _open(path)
    _execute(path, f"PRAGMA user_version = {len(database.MIGRATIONS)}")
    await _open(path).close()


async def test_an_earlier_schema_is_migrated_and_keeps_its_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _create(path)
    migrations = (*database.MIGRATIONS, "ALTER TABLE owner ADD COLUMN note TEXT; UPDATE owner SET note = 'moved';")
    monkeypatch.setattr(database, "MIGRATIONS", migrations)
    journal = _open(path)
    assert _version(path) == len(migrations)
    assert journal.has_ended(key("a"))
    await journal.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT note FROM owner").fetchone() == ("moved",)


async def test_a_file_of_the_first_schema_is_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(database, "MIGRATIONS", database.MIGRATIONS[:1])
        journal = _open(path)
        await write(journal, "a", 10)
        await journal.close()
    assert _version(path) == 1
    journal = _open(path)
    assert [(left.header.key, left.broken) async for left in journal.unfinished()] == [(key("a"), False)]
    journal.mark_broken(key("a"))
    await add(journal, "a", [record(20)])
    await journal.close()
    journal = _open(path)
    assert [(left.header.key, left.broken) async for left in journal.unfinished()] == [(key("a"), True)]
    await journal.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _create(path)
    known = database.MIGRATIONS
    monkeypatch.setattr(database, "MIGRATIONS", (*known, "CREATE TABLE created (x); INSERT INTO nowhere VALUES (1);"))
    with pytest.raises(JournalError, match="no such table: nowhere"):
        _open(path)
    monkeypatch.setattr(database, "MIGRATIONS", known)
    journal = _open(path)
    assert _version(path) == len(known)
    await journal.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'created'").fetchone() == (0,)


async def test_a_file_that_was_not_closed_is_opened(path: Path) -> None:
    """A killed server leaves the file with its write-ahead log, and the next server opens both."""
    journal = _open(path)
    await finish(journal, "a", Clock(), 10)
    copies = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        Path(f"{copies}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    await journal.close()
    again = _open(copies)
    assert again.has_ended(key("a"))
    await again.close()


def test_opening_needs_a_running_loop(path: Path) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        _open(path)
    asyncio.run(_create(path))
