"""The journal in memory: what it keeps, for how long, and for whom."""

import asyncio
from array import array
from collections.abc import Sequence

import pytest

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.model import State
from stepwave_server.core.state import RunOptions
from stepwave_server.journal import Ended, Header, Listing, MemoryJournal, Position, Retention
from stepwave_server.wire.events import Kind, Record

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _journal(clock: Clock, *, count: int = 100, age: int = 1_000 * SECOND, size: int = 1 << 30) -> MemoryJournal:
    return MemoryJournal(clock, Retention(count=count, age=age, size=size))


def _key(name: str) -> RunKey:
    return RunKey("default", name)


def _write(journal: MemoryJournal, name: str, *sizes: int) -> None:
    """Open a run and add events of these sizes."""
    journal.create(Header(_key(name), b"", "null", RunOptions(), 0))
    journal.append(_key(name), [Record(Kind.STEP_STARTED, b"x" * size) for size in sizes], lambda: None)


def _finish(journal: MemoryJournal, name: str, clock: Clock, *sizes: int) -> None:
    """Run a run to its end."""
    _write(journal, name, *(sizes or (1,)))
    key, labels = _key(name), {"team": "red"}
    info = RunInfo(key, "flow", State.SUCCEEDED, labels, 7, 7, clock.now, (0,) * 6, 1, open=False, stopping=False)
    journal.append(_key(name), [], lambda: None, Ended(info, array("I"), array("I")))


def _names(journal: MemoryJournal) -> list[str]:
    """Return the ended runs that are kept, sorted by name."""
    return sorted(info.key.run_id for info in _listed(journal, Listing("default")))


def _listed(
    journal: MemoryJournal, listing: Listing, before: Position | None = None, most: int = 100
) -> Sequence[RunInfo]:
    return asyncio.run(journal.list_ended(listing, before, most))


def _read(journal: MemoryJournal, name: str, after: int = 0, most: int = 1 << 20) -> list[int] | None:
    """Return the sizes of the events that one read gives."""
    records = asyncio.run(journal.read(_key(name), after, most))
    return None if records is None else [len(record.data) for record in records]


def test_events_are_committed_at_once(clock: Clock) -> None:
    journal = _journal(clock)
    journal.create(Header(_key("a"), b"", "null", RunOptions(), 0))
    told: list[str] = []
    journal.append(_key("a"), [Record(Kind.RUN_STARTED, b"1")], lambda: told.append("committed"))
    assert told == ["committed"]


def test_a_read_gives_what_comes_after_a_number(clock: Clock) -> None:
    journal = _journal(clock)
    _write(journal, "a", 1, 2, 3)
    assert _read(journal, "a") == [1, 2, 3]
    assert _read(journal, "a", after=2) == [3]
    assert _read(journal, "a", after=3) == []


def test_a_read_ends_with_the_event_that_passes_its_bound(clock: Clock) -> None:
    journal = _journal(clock)
    _write(journal, "a", 60, 60, 60)
    assert _read(journal, "a", most=100) == [60, 60]
    assert _read(journal, "a", most=1) == [60]


def test_a_run_that_never_was_cannot_be_read(clock: Clock) -> None:
    assert _read(_journal(clock), "a") is None


def test_a_run_under_way_is_not_kept(clock: Clock) -> None:
    journal = _journal(clock)
    _write(journal, "a", 1)
    assert not journal.has_ended(_key("a"))
    assert _names(journal) == []


def test_more_ended_runs_than_are_kept_are_forgotten_oldest_first(clock: Clock) -> None:
    journal = _journal(clock, count=2)
    for name in ("a", "b", "c"):
        _finish(journal, name, clock)
    assert _names(journal) == ["b", "c"]
    assert _read(journal, "a") is None


def test_ended_runs_are_forgotten_by_age_without_another_ending(clock: Clock) -> None:
    journal = _journal(clock, age=10 * SECOND)
    _finish(journal, "a", clock)
    clock.now = 5 * SECOND
    _finish(journal, "b", clock)
    clock.now = 11 * SECOND
    assert not journal.has_ended(_key("a"))
    assert _names(journal) == ["b"]


def test_ended_runs_are_kept_within_a_size_and_the_newest_whatever_its_own(clock: Clock) -> None:
    journal = _journal(clock, size=100)
    _finish(journal, "a", clock, 60)
    _finish(journal, "b", clock, 60)
    assert _names(journal) == ["b"]
    _finish(journal, "c", clock, 500)
    assert _names(journal) == ["c"]


def test_a_run_that_is_read_is_not_forgotten(clock: Clock) -> None:
    journal = _journal(clock, count=1)
    with journal.reading(_key("a")):
        _finish(journal, "a", clock)
        _finish(journal, "b", clock)
        assert _read(journal, "a") == [1]
    assert _names(journal) == ["b"]
    assert _read(journal, "a") is None


def test_a_run_is_kept_for_its_last_reader(clock: Clock) -> None:
    journal = _journal(clock, count=0)
    with journal.reading(_key("a")):
        with journal.reading(_key("a")):
            _finish(journal, "a", clock)
        assert _read(journal, "a") == [1]
    assert _read(journal, "a") is None


@pytest.mark.parametrize("bound", [{"count": 2}, {"size": 2}], ids=["count", "size"])
def test_a_run_that_is_read_does_not_count(clock: Clock, bound: dict[str, int]) -> None:
    journal = _journal(clock, **bound)
    with journal.reading(_key("a")):
        for name in ("a", "b", "c"):
            _finish(journal, name, clock)
        assert _names(journal) == ["a", "b", "c"]
    assert _names(journal) == ["b", "c"]


def test_a_deleted_run_is_forgotten_even_while_it_is_read(clock: Clock) -> None:
    journal = _journal(clock)
    with journal.reading(_key("a")):
        _finish(journal, "a", clock)
        asyncio.run(journal.delete(_key("a")))
        assert _read(journal, "a") is None


def test_deleting_gives_its_size_back(clock: Clock) -> None:
    journal = _journal(clock, size=100)
    _finish(journal, "a", clock, 90)
    asyncio.run(journal.delete(_key("a")))
    _finish(journal, "b", clock, 90)
    _finish(journal, "c", clock, 5)
    assert _names(journal) == ["b", "c"]


@pytest.mark.parametrize(
    ("listing", "names"),
    [
        (Listing("default"), ["a1", "a2", "b1"]),
        (Listing("other"), []),
        (Listing("default", prefix="a"), ["a1", "a2"]),
        (Listing("default", states=frozenset({State.FAILED})), []),
        (Listing("default", states=frozenset({State.SUCCEEDED})), ["a1", "a2", "b1"]),
        (Listing("default", workflow_name="flow"), ["a1", "a2", "b1"]),
        (Listing("default", workflow_name="flo"), []),
        (Listing("default", labels={"team": "red"}), ["a1", "a2", "b1"]),
        (Listing("default", labels={"team": "red", "tier": "1"}), []),
        (Listing("default", labels={"team": "blue"}), []),
        (Listing("default", since=7), ["a1", "a2", "b1"]),
        (Listing("default", since=8), []),
        (Listing("default", until=8), ["a1", "a2", "b1"]),
        (Listing("default", until=7), []),
    ],
)
def test_lists_match_all_that_is_asked(clock: Clock, listing: Listing, names: list[str]) -> None:
    journal = _journal(clock)
    for name in ("a1", "a2", "b1"):
        _finish(journal, name, clock)
    assert sorted(info.key.run_id for info in _listed(journal, listing)) == names


def test_lists_come_newest_first_and_go_on_after_a_position(clock: Clock) -> None:
    journal = _journal(clock)
    for name in ("a", "c", "b"):
        _finish(journal, name, clock)
    first = _listed(journal, Listing("default"), most=2)
    assert [info.key.run_id for info in first] == ["c", "b"]
    rest = _listed(journal, Listing("default"), first[-1].position)
    assert [info.key.run_id for info in rest] == ["a"]


def test_what_a_run_was_given_and_how_it_ended_are_kept(clock: Clock) -> None:
    journal = _journal(clock)
    _finish(journal, "a", clock)
    header = asyncio.run(journal.header(_key("a")))
    info = asyncio.run(journal.info(_key("a")))
    assert header is not None
    assert info is not None
    assert (header.key, info.key, info.state) == (_key("a"), _key("a"), State.SUCCEEDED)


def test_of_a_run_under_way_nothing_is_told(clock: Clock) -> None:
    journal = _journal(clock)
    _write(journal, "a", 1)
    assert asyncio.run(journal.header(_key("a"))) is None
    assert asyncio.run(journal.info(_key("a"))) is None
    assert asyncio.run(journal.finishes(_key("a"))) is None


def test_events_are_picked_by_number(clock: Clock) -> None:
    journal = _journal(clock)
    _write(journal, "a", 1, 2, 3, 4)
    picked = asyncio.run(journal.pick(_key("a"), [4, 2]))
    assert [len(record.data) for record in picked] == [4, 2]
