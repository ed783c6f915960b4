"""Helpers for tests of journals."""

import asyncio
import sqlite3
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import pytest

from stepwave_server.core.info import RunInfo, RunKey, seed_of
from stepwave_server.core.model import SECOND, State
from stepwave_server.core.state import RunOptions
from stepwave_server.journal import Ended, Header, Journal
from stepwave_server.journal.sqlite import database
from stepwave_server.journal.sqlite.database import Synchronous
from stepwave_server.wire.events.encode import Kind, Record
from stepwave_server.wire.events.varint import prefixed

__all__ = [
    "GUARD",
    "SECOND",
    "Clock",
    "Open",
    "Spy",
    "add",
    "ended",
    "finish",
    "header",
    "key",
    "record",
    "run_scheduled",
    "write",
]

GUARD = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class Spy:
    """Captures the connection that a journal in SQLite writes with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connect = database.connect

        def capture(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
            self.connection = connect(path, synchronous)
            return self.connection

        monkeypatch.setattr("stepwave_server.journal.sqlite.journal.connect", capture)

    def pragma(self, text: str) -> object:
        """Run a `PRAGMA` on the connection, and return its value."""
        row = self.connection.execute(f"PRAGMA {text}").fetchone()
        return row and row[0]


class Open(Protocol):
    """Opens a journal that is closed at the end of the test."""

    def __call__(self, *, count: int = 100, age: int = 1_000 * SECOND, size: int = 1 << 30) -> Journal: ...


def key(name: str) -> RunKey:
    """Return the key of a run."""
    return RunKey("default", name)


def header(name: str, *, create_time: int = 7, window: float | None = None) -> Header:
    """Return the header of a run."""
    return Header(
        key=key(name),
        workflow=b"",
        input="null",
        options=RunOptions(seed=seed_of(key(name))),
        create_time=create_time,
        window=window,
    )


def record(size: int, kind: Kind = Kind.STEP_STARTED) -> Record:
    """Return an event of so many bytes, at least two."""
    body = size - 1 - len(prefixed(bytes(size))) + size
    data = b"\x0a" + prefixed(b"x" * body)
    assert len(data) == size
    return Record(kind, data)


def ended(name: str, end_time: int, *, last: int = 1, outputs: Iterable[int] = (), create_time: int = 7) -> Ended:
    """Return the summary of a run that has ended."""
    info = RunInfo(
        key=key(name),
        workflow_name="flow",
        state=State.SUCCEEDED,
        labels={"team": "red"},
        create_time=create_time,
        start_time=7,
        end_time=end_time,
        counts=(0, 0, 1, 0, 0, 0),
        last_sequence=last,
        open=False,
        stopping=False,
    )
    return Ended(info=info, finishes=array("I", [2]), outputs=array("I", outputs))


async def add(journal: Journal, name: str, records: Iterable[Record], end: Ended | None = None) -> None:
    """Append events to a run, and wait until they are committed."""
    committed = asyncio.Event()
    journal.append(key(name), list(records), committed.set, end)
    async with asyncio.timeout(GUARD):
        await committed.wait()


async def write(journal: Journal, name: str, *sizes: int) -> None:
    """Create a run, and append events of these sizes."""
    journal.create(header(name))
    await add(journal, name, map(record, sizes))


async def finish(journal: Journal, name: str, clock: Clock, *sizes: int) -> None:
    """Create a run with events of these sizes, the last of which ends it."""
    journal.create(header(name))
    await add(journal, name, map(record, sizes or (3,)), ended(name, clock.now))
    await run_scheduled()


async def run_scheduled() -> None:
    """Run the callbacks that a journal has scheduled."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
