"""What tests of journals are built of."""

import asyncio
import sqlite3
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import pytest

from stepwave_server.core.info import RunInfo, RunKey, seed_of
from stepwave_server.core.model import State
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
    "settle",
    "write",
]

SECOND = 1_000_000_000
GUARD = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class Spy:
    """Keeps hold of the connection that a journal in SQLite writes with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connect = database.connect

        def spied(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
            self.connection = connect(path, synchronous)
            return self.connection

        monkeypatch.setattr("stepwave_server.journal.sqlite.journal.connect", spied)

    def pragma(self, text: str) -> object:
        """Ask or tell the connection something."""
        row = self.connection.execute(f"PRAGMA {text}").fetchone()
        return row and row[0]


class Open(Protocol):
    """Opens a journal that is closed with the test."""

    def __call__(self, *, count: int = 100, age: int = 1_000 * SECOND, size: int = 1 << 30) -> Journal: ...


def key(name: str) -> RunKey:
    """Return the key of a run."""
    return RunKey("default", name)


def header(name: str, *, create_time: int = 7, window: float | None = None) -> Header:
    """Return what a run was given."""
    return Header(key(name), b"", "null", RunOptions(seed=seed_of(key(name))), create_time, window=window)


def record(size: int, kind: Kind = Kind.STEP_STARTED) -> Record:
    """Return an event of so many bytes, two at least."""
    body = size - 1 - len(prefixed(bytes(size))) + size
    data = b"\x0a" + prefixed(b"x" * body)
    assert len(data) == size
    return Record(kind, data)


def ended(name: str, end_time: int, *, last: int = 1, outputs: Iterable[int] = (), create_time: int = 7) -> Ended:
    """Return how a run ended."""
    labels, counts = {"team": "red"}, (0, 0, 1, 0, 0, 0)
    info = RunInfo(
        key(name), "flow", State.SUCCEEDED, labels, create_time, 7, end_time, counts, last, open=False, stopping=False
    )
    return Ended(info, array("I", [2]), array("I", outputs))


async def add(journal: Journal, name: str, records: Iterable[Record], end: Ended | None = None) -> None:
    """Add events to a run, and wait until they are committed."""
    committed = asyncio.Event()
    journal.append(key(name), list(records), committed.set, end)
    async with asyncio.timeout(GUARD):
        await committed.wait()


async def write(journal: Journal, name: str, *sizes: int) -> None:
    """Open a run and add events of these sizes."""
    journal.create(header(name))
    await add(journal, name, map(record, sizes))


async def finish(journal: Journal, name: str, clock: Clock, *sizes: int) -> None:
    """Run a run to its end, by one event more than those of the sizes."""
    journal.create(header(name))
    await add(journal, name, map(record, sizes or (3,)), ended(name, clock.now))
    await settle()


async def settle() -> None:
    """Let a journal do what it does in the next turn of the loop."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
