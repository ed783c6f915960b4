"""Files that cannot be a server's journal: said plainly, and left as they are."""

import asyncio
import os
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest

from integration.cli.shell import Shell
from integration.durable.lives import Lives
from integration.durable.process import Victim
from integration.server.build import flow, kinds_of, step
from integration.server.caller import refusal
from stepwave_server.journal import JournalError

ONE = flow(step("a"))


async def _refused(lives: Lives) -> str:
    """Return why no server can live on the journal."""
    with pytest.raises(JournalError) as refused:
        async with lives.next():
            pass
    return str(refused.value)


async def _lived(lives: Lives) -> None:
    """Leave a journal with a run in it."""
    async with lives.next() as first:
        await first.caller.run(ONE, run_id="ended")


async def test_a_second_server_is_refused_and_told_who_has_the_journal(lives: Lives) -> None:
    async with lives.next() as first:
        assert await _refused(lives) == (
            f"the journal {lives.path} is in use by process {os.getpid()} on {socket.gethostname()}"
        )
        await first.caller.run(ONE)


async def test_a_second_process_is_refused_and_told_who_has_the_journal(victim: Victim, tmp_path: Path) -> None:
    await victim.start()
    lives = Lives(victim.journal)
    assert f"in use by process {victim.pid} on" in await _refused(lives)
    victim.kill()
    await victim.death()
    async with lives.next() as second:  # the lock went with its process
        await second.caller.run(ONE)


async def test_a_process_that_cannot_have_the_journal_ends_with_an_error(lives: Lives, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Victim(tmp_path / "other")
    other.journal = lives.path
    async with lives.next():
        await other.begin()
        assert not await other.serves()
        assert await other.death() != 0
    assert f"in use by process {os.getpid()}" in other.complaints()


async def test_a_file_that_is_something_else_is_left_as_it_is(lives: Lives) -> None:
    lives.path.write_text("Dear diary,\n" * 1_000)
    assert await _refused(lives) == f"{lives.path} is no journal of Stepwave; it is left as it is"
    assert lives.path.read_text() == "Dear diary,\n" * 1_000


async def test_a_database_of_something_else_is_left_as_it_is(lives: Lives) -> None:
    with closing(sqlite3.connect(lives.path)) as file:
        file.execute("CREATE TABLE runs (mine INTEGER)")
    before = lives.path.read_bytes()
    assert await _refused(lives) == f"{lives.path} is no journal of Stepwave; it is left as it is"
    assert lives.path.read_bytes() == before


async def test_a_journal_of_a_later_version_is_left_as_it_is(lives: Lives) -> None:
    await _lived(lives)
    _outdate(lives.path)
    assert "was written by a later version of Stepwave: its schema is 99" in await _refused(lives)
    with closing(sqlite3.connect(lives.path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (99,)
        assert file.execute("SELECT run_id FROM runs").fetchall() == [("ended",)]


@pytest.mark.parametrize("place", [100, 8_192])
async def test_a_damaged_file_is_called_so(lives: Lives, place: int) -> None:
    """What is overwritten is read when a server starts: the list of tables, or the first of these."""
    await _lived(lives)
    with lives.path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xde\xad\xbe\xef" * 1_000)
    assert await _refused(lives) == f"the journal {lives.path} is damaged; restore a back-up, or move it away"


LARGE = flow(step("a", "bulk", given={"size": 100_000}), step("held", "gated", after=["a"]))
"""A run of it fills pages of its own."""


def _damage(path: Path, content: bytes, pages: int = 0) -> None:
    """Overwrite the page where a content begins, or one so many pages behind it."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page = path.read_bytes().index(content) // 4_096 + pages
    with path.open("r+b") as file:
        file.seek(page * 4_096)
        file.write(b"\xde\xad\xbe\xef" * 1_024)


async def test_a_run_whose_events_are_damaged_is_said_to_be_and_harms_no_other(lives: Lives) -> None:
    async with lives.next() as first:
        first.stage.let("held")
        await first.caller.run(LARGE, run_id="damaged")
        whole = await first.caller.run(ONE, run_id="whole")
    _damage(lives.path, b"x" * 3_000, pages=2)
    async with lives.next() as second:
        refused = await refusal(second.caller.events("damaged"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.DATA_LOSS, "JOURNAL_DAMAGED")
        assert refused.message == f"the journal {lives.path} is damaged; restore a back-up, or move it away"
        assert await second.caller.events("whole") == whole
        assert await second.caller.run(ONE, run_id="new")


async def test_streams_end_when_the_journal_turns_out_to_be_damaged(lives: Lives) -> None:
    """Nothing will be committed any more: their callers need not wait for it."""
    async with lives.next() as first:
        await first.caller.start(flow(step("held", "gated")), run_id="live")
        await first.stage.here("held")
    async with lives.next(recover="pause") as second:
        before = second.caller.watch("live")
        await before.until("step_started", "held")
        _damage(lives.path, b"gated")  # the page that events are added to
        for stream in (second.caller.execute(ONE, run_id="new"), before):
            refused = await refusal(stream.rest())
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")
            assert "is damaged" in refused.message


async def test_a_run_under_way_whose_events_are_damaged_keeps_the_server_from_starting(lives: Lives) -> None:
    """Going on without it would be to forget it; twice, for what was taken to look at it is given back."""
    async with lives.next() as first:
        await first.caller.start(LARGE, run_id="damaged")
        await first.stage.here("held")
    _damage(lives.path, b"x" * 3_000, pages=2)
    for _ in range(2):
        assert "is damaged" in await _refused(lives)


async def test_a_server_whose_journal_was_taken_over_writes_nothing_any_more(lives: Lives) -> None:
    """As on a disk that keeps no locks, where a second server was let in."""
    async with lives.next() as first:
        await first.caller.run(ONE, run_id="before")
        await first.caller.start(flow(step("held", "gated")), run_id="live")
        stream = first.caller.watch("live")
        await stream.until("step_started", "held")
        with closing(sqlite3.connect(lives.path)) as file:
            file.execute("UPDATE owner SET epoch = epoch + 1, process = 'process 1 on another'")
            file.commit()
        for run_id in ("met", "refused"):
            refused = await refusal(first.caller.start(ONE, run_id=run_id))
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")
            assert "was taken over by process 1 on another" in refused.message
        for watch in (stream, first.caller.watch("live")):  # their callers find the run elsewhere
            assert (await refusal(watch.rest())).reason == "JOURNAL_UNAVAILABLE"
            assert kinds_of(watch.seen)[-1] == "step_started"
        assert first.stage.invoked == ["a", "held"]
    with closing(sqlite3.connect(lives.path)) as file:
        assert file.execute("SELECT run_id FROM runs").fetchall() == [("before",), ("live",)]


async def test_a_file_that_was_cut_short_is_called_damaged(lives: Lives) -> None:
    await _lived(lives)
    with lives.path.open("r+b") as file:
        file.truncate(lives.path.stat().st_size - 4_096 * 3)
    assert "is damaged" in await _refused(lives)


async def test_a_folder_in_the_place_of_the_file_is_refused(lives: Lives) -> None:
    lives.path.mkdir()
    assert f"the journal {lives.path}" in await _refused(lives)


async def test_a_folder_that_cannot_be_made_is_refused(lives: Lives, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lives.path = tmp_path / "file" / "journal.db"
    assert f"cannot open the journal {lives.path}" in await _refused(lives)


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_read_only_folder_is_refused(lives: Lives, tmp_path: Path) -> None:
    with _read_only(tmp_path):
        assert f"cannot open the journal {lives.path}: Permission denied" in await _refused(lives)


def _overwrite(path: Path) -> None:
    path.write_text("Dear diary,\n" * 1_000)


def _outdate(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 99")


def _overwrite_tables(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xde\xad\xbe\xef" * 1_000)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_overwrite, "is no journal of Stepwave"),
        (_outdate, "a later version of Stepwave"),
        (_overwrite_tables, "is damaged"),
    ],
)
async def test_the_command_line_says_what_is_wrong_and_ends_with_2(
    lives: Lives, spoil: Callable[[Path], None], words: str
) -> None:
    await _lived(lives)
    spoil(lives.path)
    _blames(await _serve(lives.path), words)


async def test_the_command_line_says_who_has_the_journal_and_ends_with_2(lives: Lives) -> None:
    async with lives.next():
        _blames(await _serve(lives.path), f"is in use by process {os.getpid()} on {socket.gethostname()}")


async def _serve(path: Path) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(Shell().run, "serve", "--listen", "127.0.0.1:0", "--journal", f"sqlite:{path}")


def _blames(done: "subprocess.CompletedProcess[str]", words: str) -> None:
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_a_refused_journal_can_be_had_by_the_next_server(lives: Lives) -> None:
    """What was taken to look at it is given back."""
    await _lived(lives)
    async with lives.next():
        await _refused(lives)
    async with lives.next() as third:
        assert (await third.caller.get("ended")).run_id == "ended"


async def test_the_journal_is_readable_for_its_owner_alone(lives: Lives) -> None:
    lives.path = lives.path.parent / "new" / "journal.db"
    async with lives.next() as first:
        await first.caller.run(ONE)
        files = list(lives.path.parent.iterdir())
        assert len(files) >= 2
        assert {file.stat().st_mode & 0o077 for file in [lives.path.parent, *files]} == {0}
