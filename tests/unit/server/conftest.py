"""Fixtures: an event loop and journals with clocks that the test moves."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from stepwave_server.journal import Journal, MemoryJournal, Retention, SqliteJournal
from unit.server.clocked import ClockedLoop
from unit.server.journal.journals import SECOND, Clock, Open, Spy


@pytest.fixture
def loop() -> Iterator[ClockedLoop]:
    loop = ClockedLoop()
    yield loop
    loop.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


@pytest.fixture(params=["memory", "sqlite"])
async def open_journal(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> AsyncIterator[Open]:
    """Return a function that opens a journal of either kind."""
    async with AsyncExitStack() as stack:

        def open_one(*, count: int = 100, age: int = 1_000 * SECOND, size: int = 1 << 30) -> Journal:
            retention = Retention(count=count, age=age, size=size)
            journal: Journal = MemoryJournal(clock, retention)
            if request.param == "sqlite":
                journal = SqliteJournal.open(tmp_path / "journal.db", clock=clock, retention=retention)
            stack.push_async_callback(journal.close)
            return journal

        yield open_one
