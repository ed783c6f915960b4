"""A server process that tests kill: `python -m integration.durable.crash_server --help`, in the tests' folder.

Each attempt writes to a file before it does anything else: a side effect that nothing undoes. The server prints its
address once calls succeed. SIGTERM drains it. SIGUSR1 keeps files from growing, as on a full disk, and SIGUSR2 allows
it again; the server prints `done` after either.
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
from urllib.parse import quote

from stepwave import Context, action
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.core.messages import Event, StepFinished
from stepwave_server.engine.runs import defects
from stepwave_server.engine.runs.recovery import RestoredRun
from stepwave_server.journal import JournalError, SqliteJournal, Unfinished
from stepwave_server.journal.sqlite.group import Group
from stepwave_server.wire.events.encode import Encoder, Record

EFFECTS = Path(os.environ.get("STEPWAVE_TEST_EFFECTS", "."))
CONTROL = os.environ.get("STEPWAVE_TEST_CONTROL", "")

FULL_DISK_BYTES = 4_096
"""The size of a file, in bytes, when the disk is full: enough for side effects, too small for any journal."""


def leave_effect(context: Context) -> None:
    """Write the number and key of an attempt to a file."""
    line = f"{context.attempt} {context.idempotency_key}\n"
    name = f"{context.run_id}.{quote(context.step_id, safe='')}"
    file = os.open(EFFECTS / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@action
async def waits(context: Context, seconds: float = 0.0, size: int = 0) -> str:
    """Wait, and answer with the step's id and `size` more characters."""
    leave_effect(context)
    await asyncio.sleep(seconds)
    return context.step_id + "x" * size


@action
def blocks(context: Context, seconds: float = 0.0) -> str:
    """Block a thread, and answer with the step's id."""
    leave_effect(context)
    time.sleep(seconds)
    return context.step_id


@action
async def breaks(context: Context, seconds: float = 0.0, until: int = 1_000) -> str:
    """Wait, and fail in the attempts before `until`."""
    leave_effect(context)
    await asyncio.sleep(seconds)
    if context.attempt < until:
        raise ValueError(context.step_id)
    return context.step_id


@action
async def streams(context: Context, seconds: float = 0.0) -> AsyncIterator[str]:
    """Answer in chunks."""
    leave_effect(context)
    for letter in context.step_id:
        yield letter
        await asyncio.sleep(seconds / len(context.step_id))


@action
def streams_on_thread(context: Context, seconds: float = 0.0) -> Iterator[int]:
    """Answer in chunks on a thread, and report progress."""
    leave_effect(context)
    for number in range(5):
        context.progress(number / 5)
        yield number
        time.sleep(seconds / 5)


@action
async def echoes(context: Context, input: object) -> object:
    """Answer with the input."""
    leave_effect(context)
    return input


@action
async def hangs(context: Context) -> None:
    """Never answer."""
    leave_effect(context)
    await asyncio.Event().wait()


@action
async def controlled(context: Context) -> str:
    """Report to the test that this attempt has started, and wait until the test releases the step."""
    leave_effect(context)
    host, _, port = CONTROL.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"{context.run_id}/{context.step_id}/{context.attempt}\n".encode())
        if not await reader.readline():
            raise ConnectionResetError("the test has ended")
    finally:
        writer.close()
    return context.step_id


ACTIONS = (waits, blocks, breaks, streams, streams_on_thread, echoes, hangs, controlled)


def inject_defect(step_id: str) -> None:
    """Make the server raise whenever a step ends."""
    encode = Encoder.encode

    def encode_or_not(encoder: Encoder, sequence: int, event: Event) -> Record:
        if isinstance(event, StepFinished) and event.step_id == step_id:
            raise AssertionError("an injected defect")
        return encode(encoder, sequence, event)

    setattr(Encoder, "encode", encode_or_not)  # noqa: B010 - a plain assignment is a type error


def die_after_defect() -> Callable[[str], None]:
    """Return a journal observer that kills this process once the journal has recorded a defect of a run.

    The run is not ended before that.
    """
    recorded = threading.Event()
    write = Group.write

    def watch(group: Group, connection: sqlite3.Connection) -> None:
        write(group, connection)
        if group.breakages:
            recorded.set()

    def observe(place: str) -> None:
        if place == "after-commit" and recorded.is_set():
            os.kill(os.getpid(), signal.SIGKILL)

    def wait(_: Unfinished) -> RestoredRun:
        raise AssertionError(threading.Event().wait())

    setattr(Group, "write", watch)  # noqa: B010 - as above
    setattr(defects, "restore", wait)  # noqa: B010
    return observe


class Failpoint:
    """Kills this process when it reaches a place for the `count`th time."""

    def __init__(self, place: str, count: int) -> None:
        self._place = place
        self._left = count

    def __call__(self, place: str) -> None:
        """Report that a place is reached."""
        if place == self._place:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def limit_files(size: int) -> None:
    """Limit the size of files, and report it. Files that are larger already keep their size."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    report("done")


def report(line: str) -> None:
    """Write a line to the test."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def serve(settings: Settings, observe: Callable[[str], None] | None) -> None:
    """Serve until SIGTERM, then drain."""
    path = settings.journal_path()
    assert path is not None
    journal = SqliteJournal.open(path, clock=time.time_ns, retention=settings.retention(), observe=observe)
    server = Server(settings, actions=ACTIONS, journal=journal)
    await server.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, limit_files, FULL_DISK_BYTES)
    loop.add_signal_handler(signal.SIGUSR2, limit_files, resource.RLIM_INFINITY)
    report(server.address)
    await stop.wait()
    await server.drain()


def main() -> None:
    """Serve with the options of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--die-at", metavar="PLACE:COUNT", help="before-commit, after-commit or before-publication")
    parser.add_argument("--defect", metavar="STEP", help="raise whenever this step ends")
    parser.add_argument("--die-after-defect", action="store_true", help="die when the journal has recorded a defect")

    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    options = parser.parse_args()
    usual = {"entry_points": False, "max_attempts": 60, "drain_timeout": 0.0}
    settings_given = dict(setting.split("=", 1) for setting in options.set)
    place, _, count = (options.die_at or "").partition(":")
    observe = die_after_defect() if options.die_after_defect else Failpoint(place, int(count)) if place else None
    if options.defect:
        inject_defect(options.defect)
    settings = Settings.model_validate(
        {"listen": options.listen, "journal": f"sqlite:{options.journal}", **usual, **settings_given}
    )
    try:
        asyncio.run(serve(settings, observe))
    except JournalError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
