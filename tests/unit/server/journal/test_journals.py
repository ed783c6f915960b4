"""What every journal does: what it keeps, for how long, and for whom."""

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest

from stepwave_server.core.info import RunInfo
from stepwave_server.core.model import State
from stepwave_server.journal import Journal, Listing, Position
from unit.server.journal.journals import SECOND, Clock, Open, add, ended, finish, header, key, record, settle, write


async def _names(journal: Journal) -> list[str]:
    """Return the ended runs that are kept, sorted by name."""
    return sorted(info.key.run_id for info in await _listed(journal, Listing("default")))


async def _listed(
    journal: Journal, listing: Listing, before: Position | None = None, most: int = 100
) -> Sequence[RunInfo]:
    return await journal.list_ended(listing, before, most)


async def _read(journal: Journal, name: str, after: int = 0, most: int = 1 << 20) -> list[int] | None:
    """Return the sizes of the events that one read gives."""
    await settle()
    records = await journal.read(key(name), after, most)
    return None if records is None else [len(record.data) for record in records]


async def test_a_commit_is_told_once_and_what_it_brought_can_be_read_then(open_journal: Open) -> None:
    journal = open_journal()
    journal.create(header("a"))
    committed = asyncio.get_running_loop().create_future()
    journal.append(key("a"), [record(5)], lambda: committed.set_result(None))
    await committed
    assert await _read(journal, "a") == [5]


async def test_commits_are_told_in_the_order_of_the_calls(open_journal: Open) -> None:
    journal = open_journal()
    told: list[int] = []
    done = asyncio.Event()
    for name in ("a", "b"):
        journal.create(header(name))
    for number in range(100):
        journal.append(key("ab"[number % 2]), [record(5)], partial(told.append, number))
    journal.append(key("a"), [record(5)], done.set)
    await done.wait()
    assert told == list(range(100))


async def test_a_read_gives_what_comes_after_a_number(open_journal: Open) -> None:
    journal = open_journal()
    await write(journal, "a", 11, 12, 13)
    assert await _read(journal, "a") == [11, 12, 13]
    assert await _read(journal, "a", after=2) == [13]
    assert await _read(journal, "a", after=3) == []


async def test_a_read_ends_with_the_event_that_passes_its_bound(open_journal: Open) -> None:
    journal = open_journal()
    await write(journal, "a", 60, 60, 60)
    assert await _read(journal, "a", most=100) == [60, 60]
    assert await _read(journal, "a", most=1) == [60]


async def test_a_run_that_never_was_cannot_be_read(open_journal: Open) -> None:
    assert await _read(open_journal(), "a") is None


async def test_a_run_under_way_is_not_kept(open_journal: Open) -> None:
    journal = open_journal()
    await write(journal, "a", 3)
    assert not journal.has_ended(key("a"))
    assert await _names(journal) == []


async def test_more_ended_runs_than_are_kept_are_forgotten_oldest_first(open_journal: Open, clock: Clock) -> None:
    journal = open_journal(count=2)
    for name in ("a", "b", "c"):
        await finish(journal, name, clock)
    assert await _names(journal) == ["b", "c"]
    assert await _read(journal, "a") is None


async def test_ended_runs_are_forgotten_by_age_without_another_ending(open_journal: Open, clock: Clock) -> None:
    journal = open_journal(age=10 * SECOND)
    await finish(journal, "a", clock)
    clock.now = 5 * SECOND
    await finish(journal, "b", clock)
    clock.now = 11 * SECOND
    assert not journal.has_ended(key("a"))
    assert await _names(journal) == ["b"]


async def test_ended_runs_are_kept_within_a_size_and_the_newest_whatever_its_own(
    open_journal: Open, clock: Clock
) -> None:
    journal = open_journal(size=100)
    await finish(journal, "a", clock, 60)
    await finish(journal, "b", clock, 60)
    assert await _names(journal) == ["b"]
    await finish(journal, "c", clock, 500)
    assert await _names(journal) == ["c"]


async def test_a_run_that_is_read_is_not_forgotten(open_journal: Open, clock: Clock) -> None:
    journal = open_journal(count=1)
    with journal.reading(key("a")):
        await finish(journal, "a", clock)
        await finish(journal, "b", clock)
        assert await _read(journal, "a") == [3]
    assert await _names(journal) == ["b"]
    assert await _read(journal, "a") is None


async def test_a_run_is_kept_for_its_last_reader(open_journal: Open, clock: Clock) -> None:
    journal = open_journal(count=0)
    with journal.reading(key("a")):
        with journal.reading(key("a")):
            await finish(journal, "a", clock)
        assert await _read(journal, "a") == [3]
    assert await _read(journal, "a") is None


@pytest.mark.parametrize("bound", [{"count": 2}, {"size": 6}], ids=["count", "size"])
async def test_a_run_that_is_read_does_not_count(open_journal: Open, clock: Clock, bound: dict[str, int]) -> None:
    journal = open_journal(**bound)
    with journal.reading(key("a")):
        for name in ("a", "b", "c"):
            await finish(journal, name, clock)
        assert await _names(journal) == ["a", "b", "c"]
    assert await _names(journal) == ["b", "c"]


async def test_a_deleted_run_is_forgotten_even_while_it_is_read(open_journal: Open, clock: Clock) -> None:
    journal = open_journal()
    with journal.reading(key("a")):
        await finish(journal, "a", clock)
        await journal.delete(key("a"))
        assert await _read(journal, "a") is None


async def test_deleting_gives_its_size_back(open_journal: Open, clock: Clock) -> None:
    journal = open_journal(size=100)
    await finish(journal, "a", clock, 90)
    await journal.delete(key("a"))
    await finish(journal, "b", clock, 90)
    await finish(journal, "c", clock, 5)
    assert await _names(journal) == ["b", "c"]


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
async def test_lists_match_all_that_is_asked(
    open_journal: Open, clock: Clock, listing: Listing, names: list[str]
) -> None:
    journal = open_journal()
    for name in ("a1", "a2", "b1"):
        await finish(journal, name, clock)
    assert sorted(info.key.run_id for info in await _listed(journal, listing)) == names


async def test_lists_come_newest_first_and_go_on_after_a_position(open_journal: Open, clock: Clock) -> None:
    journal = open_journal()
    for name in ("a", "c", "b"):
        await finish(journal, name, clock)
    first = await _listed(journal, Listing("default"), most=2)
    assert [info.key.run_id for info in first] == ["c", "b"]
    rest = await _listed(journal, Listing("default"), first[-1].position)
    assert [info.key.run_id for info in rest] == ["a"]


async def test_what_a_run_was_given_and_how_it_ended_are_kept(open_journal: Open, clock: Clock) -> None:
    journal = open_journal()
    await finish(journal, "a", clock)
    given = await journal.header(key("a"))
    info = await journal.info(key("a"))
    assert given is not None
    assert info is not None
    assert (given.key, info.key, info.state) == (key("a"), key("a"), State.SUCCEEDED)


async def test_of_a_run_under_way_nothing_is_told(open_journal: Open) -> None:
    journal = open_journal()
    await write(journal, "a", 3)
    assert await journal.header(key("a")) is None
    assert await journal.info(key("a")) is None
    assert await journal.finishes(key("a")) is None


async def test_a_run_that_is_let_go_before_its_first_event_leaves_its_id_free(open_journal: Open, clock: Clock) -> None:
    journal = open_journal()
    journal.create(header("a"))
    journal.mark_broken(key("a"))
    assert not journal.discard(key("a"))
    assert await _read(journal, "a") is None
    await finish(journal, "a", clock)
    assert await _names(journal) == ["a"]


async def test_a_run_that_broke_goes_on_to_its_end(open_journal: Open, clock: Clock) -> None:
    journal = open_journal()
    await write(journal, "a", 10)
    journal.mark_broken(key("a"))
    assert not journal.has_ended(key("a"))
    await add(journal, "a", [record(20)], ended("a", clock.now, last=2))
    await settle()
    assert await _names(journal) == ["a"]
    assert await _read(journal, "a") == [10, 20]


async def test_events_are_picked_by_number(open_journal: Open) -> None:
    journal = open_journal()
    await write(journal, "a", 11, 12, 13, 14)
    picked = await journal.pick(key("a"), [4, 2])
    assert [len(record.data) for record in picked] == [14, 12]
