"""A server to be killed: `python -m integration.durable.victim --help`, in the tests' folder.

Its actions leave a mark in a folder for every attempt, before they do anything else: a side effect that nothing undoes.
It says its address on standard output once calls succeed. SIGTERM drains it; SIGUSR1 leaves it no room on the disk, and
SIGUSR2 gives it room again: it says `done` then.
"""

import argparse
import asyncio
import os
import resource
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from stepwave import Context, action
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.core.messages import Event, StepFinished
from stepwave_server.engine.runs import defects
from stepwave_server.engine.runs.recovery import RestoredRun
from stepwave_server.journal import JournalError, SqliteJournal, Unfinished
from stepwave_server.journal.sqlite.group import Group
from stepwave_server.wire.events.encode import Encoder, Record

MARKS = Path(os.environ.get("STEPWAVE_TEST_MARKS", "."))
MEETING = os.environ.get("STEPWAVE_TEST_MEETING", "")

SMALL = 4_096
"""Bytes that a file may have when there is no room: enough for marks, and for nothing of a journal."""


def mark(context: Context) -> None:
    """Note, for good, that an attempt was made."""
    line = f"{context.attempt} {context.idempotency_key}\n"
    file = os.open(MARKS / f"{context.run_id}.{context.step_id}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@action
async def waits(context: Context, seconds: float = 0.0, size: int = 0) -> str:
    """Wait, and answer with the step's id and so many characters."""
    mark(context)
    await asyncio.sleep(seconds)
    return context.step_id + "x" * size


@action
def blocks(context: Context, seconds: float = 0.0) -> str:
    """Wait on a thread, and answer with the step's id."""
    mark(context)
    time.sleep(seconds)
    return context.step_id


@action
async def breaks(context: Context, seconds: float = 0.0, until: int = 1_000) -> str:
    """Wait, and fail, until an attempt of this number."""
    mark(context)
    await asyncio.sleep(seconds)
    if context.attempt < until:
        raise ValueError(context.step_id)
    return context.step_id


@action
async def says(context: Context, seconds: float = 0.0) -> AsyncIterator[str]:
    """Answer in chunks."""
    mark(context)
    for letter in context.step_id:
        yield letter
        await asyncio.sleep(seconds / len(context.step_id))


@action
def counts(context: Context, seconds: float = 0.0) -> Iterator[int]:
    """Answer in chunks, on a thread, and say how far it got."""
    mark(context)
    for number in range(5):
        context.progress(number / 5)
        yield number
        time.sleep(seconds / 5)


@action
async def tells(context: Context, input: object) -> object:
    """Answer with what it was given."""
    mark(context)
    return input


@action
async def hangs(context: Context) -> None:
    """Never answer."""
    mark(context)
    await asyncio.Event().wait()


@action
async def meets(context: Context) -> str:
    """Tell the test that this attempt is here, and wait for it to let the step go on."""
    mark(context)
    host, _, port = MEETING.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"{context.run_id}/{context.step_id}/{context.attempt}\n".encode())
        if not await reader.readline():
            raise ConnectionResetError("the test has gone")
    finally:
        writer.close()
    return context.step_id


ACTIONS = (waits, blocks, breaks, says, counts, tells, hangs, meets)


def fail(step_id: str) -> None:
    """Let the server meet a defect at a step's end."""
    encode = Encoder.encode

    def encode_or_not(encoder: Encoder, sequence: int, event: Event) -> Record:
        if isinstance(event, StepFinished) and event.step_id == step_id:
            raise AssertionError("a defect")
        return encode(encoder, sequence, event)

    setattr(Encoder, "encode", encode_or_not)  # noqa: B010 - a type checker minds the other way


def die_broken() -> Callable[[str], None]:
    """Return what kills this process when it has noted that a run broke, before anything else of that run follows."""
    noted = threading.Event()
    write = Group.write

    def watch(group: Group, connection: sqlite3.Connection) -> None:
        write(group, connection)
        if group.breakages:
            noted.set()

    def observe(place: str) -> None:
        if place == "after-commit" and noted.is_set():
            os.kill(os.getpid(), signal.SIGKILL)

    def wait(_: Unfinished) -> RestoredRun:
        raise AssertionError(threading.Event().wait())

    setattr(Group, "write", watch)  # noqa: B010 - as above
    setattr(defects, "restore", wait)  # noqa: B010
    return observe


class Failpoint:
    """Kills this process when it comes by a place for the so-manieth time."""

    def __init__(self, place: str, count: int) -> None:
        self._place = place
        self._left = count

    def __call__(self, place: str) -> None:
        """Come by a place."""
        if place == self._place:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def bound_files(size: int) -> None:
    """Let no file grow beyond a size, and say so; what is beyond it already stays."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    say("done")


def say(line: str) -> None:
    """Tell the test something."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def serve(settings: Settings, observe: Callable[[str], None] | None, missing: frozenset[str]) -> None:
    """Serve until SIGTERM, then drain; `missing` are actions to do without."""
    path = settings.journal_path()
    assert path is not None
    journal = SqliteJournal.open(path, clock=time.time_ns, retention=settings.retention(), observe=observe)
    actions = [each for each in ACTIONS if each.__name__ not in missing]
    server = Server(settings, actions=actions, journal=journal)
    await server.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, bound_files, SMALL)
    loop.add_signal_handler(signal.SIGUSR2, bound_files, resource.RLIM_INFINITY)
    say(server.address)
    await stop.wait()
    await server.drain()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--die-at", metavar="PLACE:COUNT", help="before-commit, after-commit or before-publication")
    parser.add_argument("--defect", metavar="STEP", help="the server meets a defect whenever it ends")
    parser.add_argument("--die-broken", action="store_true", help="die when it is noted that a run met a defect")
    parser.add_argument("--without", action="append", default=[], metavar="ACTION")
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    options = parser.parse_args()
    usual = {"entry_points": False, "max_attempts": 60, "drain_timeout": 0.0}
    said = dict(setting.split("=", 1) for setting in options.set)
    place, _, count = (options.die_at or "").partition(":")
    observe = die_broken() if options.die_broken else Failpoint(place, int(count)) if place else None
    if options.defect:
        fail(options.defect)
    settings = Settings.model_validate(
        {"listen": options.listen, "journal": f"sqlite:{options.journal}", **usual, **said}
    )
    try:
        asyncio.run(serve(settings, observe, frozenset(options.without)))
    except JournalError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
