"""Files that cannot be used as a journal: the problem is reported, and they are left unchanged."""

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
from integration.durable.restarts import Restarts
from integration.durable.server_process import ServerProcess
from integration.server.build import flow, kinds_of, step
from integration.server.raw_client import refusal
from stepwave_server.journal import JournalError

ONE = flow(step("a"))


async def _refused(restarts: Restarts) -> str:
    """Return the reason why a server cannot start on the journal."""
    with pytest.raises(JournalError) as refused:
        async with restarts.start():
            pass
    return str(refused.value)


async def _create_journal(restarts: Restarts) -> None:
    """Create a journal with a run in it."""
    async with restarts.start() as first:
        await first.client.run(ONE, run_id="ended")


async def test_a_second_server_is_refused_and_the_owner_of_the_journal_is_named(restarts: Restarts) -> None:
    async with restarts.start() as first:
        assert await _refused(restarts) == (
            f"the journal {restarts.path} is in use by process {os.getpid()} on {socket.gethostname()}"
        )
        await first.client.run(ONE)


async def test_a_second_process_is_refused_and_the_owner_of_the_journal_is_named(
    process: ServerProcess, tmp_path: Path
) -> None:
    await process.start()
    restarts = Restarts(process.journal)
    assert f"in use by process {process.pid} on" in await _refused(restarts)
    process.kill()
    await process.wait_exit()
    async with restarts.start() as second:  # the process released its lock by its end
        await second.client.run(ONE)


async def test_a_process_that_cannot_lock_the_journal_exits_with_an_error(restarts: Restarts, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = ServerProcess(tmp_path / "other")
    other.journal = restarts.path
    async with restarts.start():
        await other.launch()
        assert not await other.wait_serving()
        assert await other.wait_exit() != 0
    assert f"in use by process {os.getpid()}" in other.errors()


async def test_a_file_of_another_kind_is_left_unchanged(restarts: Restarts) -> None:
    restarts.path.write_text("Dear diary,\n" * 1_000)
    assert await _refused(restarts) == f"{restarts.path} is no journal of Stepwave; it is left as it is"
    assert restarts.path.read_text() == "Dear diary,\n" * 1_000


async def test_a_database_of_another_program_is_left_unchanged(restarts: Restarts) -> None:
    with closing(sqlite3.connect(restarts.path)) as file:
        file.execute("CREATE TABLE runs (mine INTEGER)")
    before = restarts.path.read_bytes()
    assert await _refused(restarts) == f"{restarts.path} is no journal of Stepwave; it is left as it is"
    assert restarts.path.read_bytes() == before


async def test_a_journal_of_a_later_version_is_left_unchanged(restarts: Restarts) -> None:
    await _create_journal(restarts)
    _set_later_version(restarts.path)
    assert "was written by a later version of Stepwave: its schema is 99" in await _refused(restarts)
    with closing(sqlite3.connect(restarts.path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (99,)
        assert file.execute("SELECT run_id FROM runs").fetchall() == [("ended",)]


@pytest.mark.parametrize("place", [100, 8_192])
async def test_a_damaged_file_is_reported_as_damaged(restarts: Restarts, place: int) -> None:
    """The overwritten page is read when a server starts: the list of tables, or the first table."""
    await _create_journal(restarts)
    with restarts.path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xde\xad\xbe\xef" * 1_000)
    assert await _refused(restarts) == f"the journal {restarts.path} is damaged; restore a back-up, or move it away"


LARGE = flow(step("a", "large_output", given={"size": 100_000}), step("blocked", "controlled", after=["a"]))
"""The size of a text of which one run fills pages of its own."""


def _damage(path: Path, content: bytes, pages: int = 0) -> None:
    """Overwrite the page where a text begins, or a page behind it."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page = path.read_bytes().index(content) // 4_096 + pages
    with path.open("r+b") as file:
        file.seek(page * 4_096)
        file.write(b"\xde\xad\xbe\xef" * 1_024)


async def test_a_run_with_damaged_events_is_reported_and_harms_no_other(restarts: Restarts) -> None:
    async with restarts.start() as first:
        first.controlled.release("blocked")
        await first.client.run(LARGE, run_id="damaged")
        whole = await first.client.run(ONE, run_id="whole")
    _damage(restarts.path, b"x" * 3_000, pages=2)
    async with restarts.start() as second:
        refused = await refusal(second.client.events("damaged"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.DATA_LOSS, "JOURNAL_DAMAGED")
        assert refused.message == f"the journal {restarts.path} is damaged; restore a back-up, or move it away"
        assert await second.client.events("whole") == whole
        assert await second.client.run(ONE, run_id="new")


async def test_streams_end_when_the_journal_proves_damaged(restarts: Restarts) -> None:
    """Nothing will be committed any more, so that clients need not wait."""
    async with restarts.start() as first:
        await first.client.start(flow(step("blocked", "controlled")), run_id="live")
        await first.controlled.wait_started("blocked")
    async with restarts.start(recover="pause") as second:
        before = second.client.watch("live")
        await before.until("step_started", "blocked")
        _damage(restarts.path, b"controlled")  # the page to which events are appended
        for stream in (second.client.execute(ONE, run_id="new"), before):
            refused = await refusal(stream.rest())
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")
            assert "is damaged" in refused.message


async def test_a_running_run_with_damaged_events_keeps_the_server_from_starting(restarts: Restarts) -> None:
    """A start without the run would lose it. The second start checks that the first released the file."""
    async with restarts.start() as first:
        await first.client.start(LARGE, run_id="damaged")
        await first.controlled.wait_started("blocked")
    _damage(restarts.path, b"x" * 3_000, pages=2)
    for _ in range(2):
        assert "is damaged" in await _refused(restarts)


async def test_a_server_whose_journal_was_taken_over_stops_writing(restarts: Restarts) -> None:
    """As on a disk without working locks, where a second server could start."""
    async with restarts.start() as first:
        await first.client.run(ONE, run_id="before")
        await first.client.start(flow(step("blocked", "controlled")), run_id="live")
        stream = first.client.watch("live")
        await stream.until("step_started", "blocked")
        with closing(sqlite3.connect(restarts.path)) as file:
            file.execute("UPDATE owner SET epoch = epoch + 1, process = 'process 1 on another'")
            file.commit()
        for run_id in ("met", "refused"):
            refused = await refusal(first.client.start(ONE, run_id=run_id))
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")
            assert "was taken over by process 1 on another" in refused.message
        for watch in (stream, first.client.watch("live")):  # clients find the run on the other server
            assert (await refusal(watch.rest())).reason == "JOURNAL_UNAVAILABLE"
            assert kinds_of(watch.seen)[-1] == "step_started"
        assert first.controlled.invoked == ["a", "blocked"]
    with closing(sqlite3.connect(restarts.path)) as file:
        assert file.execute("SELECT run_id FROM runs").fetchall() == [("before",), ("live",)]


async def test_a_truncated_file_is_reported_as_damaged(restarts: Restarts) -> None:
    await _create_journal(restarts)
    with restarts.path.open("r+b") as file:
        file.truncate(restarts.path.stat().st_size - 4_096 * 3)
    assert "is damaged" in await _refused(restarts)


async def test_a_folder_in_place_of_the_file_is_refused(restarts: Restarts) -> None:
    restarts.path.mkdir()
    assert f"the journal {restarts.path}" in await _refused(restarts)


async def test_a_folder_that_cannot_be_created_is_refused(restarts: Restarts, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    restarts.path = tmp_path / "file" / "journal.db"
    assert f"cannot open the journal {restarts.path}" in await _refused(restarts)


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_read_only_folder_is_refused(restarts: Restarts, tmp_path: Path) -> None:
    with _read_only(tmp_path):
        assert f"cannot open the journal {restarts.path}: Permission denied" in await _refused(restarts)


def _overwrite(path: Path) -> None:
    path.write_text("Dear diary,\n" * 1_000)


def _set_later_version(path: Path) -> None:
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
        (_set_later_version, "a later version of Stepwave"),
        (_overwrite_tables, "is damaged"),
    ],
)
async def test_the_command_line_reports_the_problem_and_exits_with_2(
    restarts: Restarts, spoil: Callable[[Path], None], words: str
) -> None:
    await _create_journal(restarts)
    spoil(restarts.path)
    _check_error(await _serve(restarts.path), words)


async def test_the_command_line_names_the_owner_of_the_journal_and_exits_with_2(restarts: Restarts) -> None:
    async with restarts.start():
        _check_error(await _serve(restarts.path), f"is in use by process {os.getpid()} on {socket.gethostname()}")


async def _serve(path: Path) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(Shell().run, "serve", "--listen", "127.0.0.1:0", "--journal", f"sqlite:{path}")


def _check_error(done: "subprocess.CompletedProcess[str]", words: str) -> None:
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_a_refused_journal_can_be_opened_by_the_next_server(restarts: Restarts) -> None:
    """The failed start released the file."""
    await _create_journal(restarts)
    async with restarts.start():
        await _refused(restarts)
    async with restarts.start() as third:
        assert (await third.client.get("ended")).run_id == "ended"


async def test_only_the_owner_can_read_the_journal(restarts: Restarts) -> None:
    restarts.path = restarts.path.parent / "new" / "journal.db"
    async with restarts.start() as first:
        await first.client.run(ONE)
        files = list(restarts.path.parent.iterdir())
        assert len(files) >= 2
        assert {file.stat().st_mode & 0o077 for file in [restarts.path.parent, *files]} == {0}
