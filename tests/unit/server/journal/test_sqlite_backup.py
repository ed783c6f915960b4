"""Backups of a journal in SQLite."""

import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from stepwave_server.journal import JournalError, Retention, SqliteJournal, backup
from stepwave_server.journal.sqlite.storage_errors import NotAJournal
from unit.server.journal.journals import Clock, add, finish, key, record, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    journal = SqliteJournal.open(path, clock=Clock(), retention=Retention())
    yield journal
    await journal.close()


async def test_a_copy_has_the_events_committed_before_it(journal: SqliteJournal, path: Path) -> None:
    await finish(journal, "done", Clock(), 10, 20)
    await write(journal, "running", 30)
    target = path.with_name("copy.db")
    backup(path, target)
    await add(journal, "running", [record(40)])
    copy = SqliteJournal.open(target, clock=Clock(), retention=Retention())
    assert await copy.read(key("done"), 0, 1_000) == [record(10), record(20)]
    assert [left.records async for left in copy.unfinished()] == [[record(30)]]
    await copy.close()


async def test_a_copy_is_one_file_that_only_its_owner_can_read(
    journal: SqliteJournal, path: Path, tmp_path: Path
) -> None:
    await write(journal, "running", 30)
    folder = tmp_path / "copies"
    folder.mkdir()
    backup(path, folder / "copy.db")
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IRUSR | stat.S_IWUSR
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_copy_replaces_an_older_one(journal: SqliteJournal, path: Path) -> None:
    target = path.with_name("copy.db")
    target.write_text("older")
    backup(path, target)
    assert target.read_bytes().startswith(b"SQLite format 3\0")


async def test_a_copy_that_cannot_be_written_fails_and_leaves_no_file(journal: SqliteJournal, path: Path) -> None:
    with pytest.raises(JournalError, match=r"cannot write .*/nowhere/copy\.db: No such file or directory"):
        backup(path, path.with_name("nowhere") / "copy.db")
    assert {file.name for file in path.parent.iterdir()} <= {
        "journal.db",
        "journal.db-shm",
        "journal.db-wal",
        "journal.db.lock",
    }


def test_a_missing_journal_cannot_be_copied(path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal at"):
        backup(path, path.with_name("copy.db"))
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"steps: []\n" * 200], ids=["empty", "text"])
def test_another_file_is_not_copied(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(NotAJournal):
        backup(path, path.with_name("copy.db"))
    assert not path.with_name("copy.db").exists()
