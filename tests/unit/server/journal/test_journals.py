"""Every journal: reading, listing, retention, deletion."""

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest

from stepwave_server.core.info import RunInfo
from stepwave_server.core.model import State
from stepwave_server.journal import Journal, Listing, Position
from unit.server.journal.journals import (
    SECOND,
    Clock,
    Open,
    add,
    ended,
    finish,
    header,
    key,
    record,
    run_scheduled,
    write,
)


async def _names(journal: Journal) -> list[str]:
    """Return the ids of the ended runs, sorted."""
    return sorted(info.key.run_id for info in await _listed(journal, Listing("default")))


async def _listed(
    journal: Journal, listing: Listing, before: Position | None = None, most: int = 100
) -> Sequence[RunInfo]:
    return await journal.list_ended(listing, before, most)


async def _read(journal: Journal, name: str, after: int = 0, most: int = 1 << 20) -> list[int] | None:
    """Return the sizes of the events of one read."""
    await run_scheduled()
    records = await journal.read(key(name), after, most)
    return None if records is None else [len(record.data) for record in records]


async def test_a_commit_is_reported_once_its_events_can_be_read(open_journal: Open) -> None:
    journal = open_journal()
    journal.create(header("a"))
    committed = asyncio.get_running_loop().create_future()
    journal.append(key("a"), [record(5)], lambda: committed.set_result(None))
    await committed
    assert await _read(journal, "a") == [5]


async def test_commits_are_reported_in_the_order_of_the_calls(open_journal: Open) -> None:
    journal = open_journal()
    reported: list[int] = []
    done = asyncio.Event()
    for name in ("a", "b"):
        journal.create(header(name))
    for number in range(100):
        journal.append(key("ab"[number % 2]), [record(5)], partial(reported.append, number))
    journal.append(key("a"), [record(5)], done.set)
    await done.wait()
    assert reported == list(range(100))


async def test_a_read_returns_the_events_after_a_number(open_journal: Open) -> None:
    journal = open_journal()
    await write(journal, "a", 11, 12, 13)
    assert await _read(journal, "a") == [11, 12, 13]
    assert await _read(journal, "a", after=2) == [13]
    assert await _read(journal, "a", after=3) == []


async def test_a_read_ends_with_the_event_that_exceeds_its_bound(open_journal: Open) -> None:
    journal = open_journal()
    await write(journal, "a", 60, 60, 60)
    assert await _read(journal, "a", most=100) == [60, 60]
    assert await _read(journal, "a", most=1) == [60]


async def test_an_unknown_run_cannot_be_read(open_journal: Open) -> None:
    assert await _read(open_journal(), "a") is None


async def test_a_run_under_way_is_not_listed_as_ended(open_journal: Open) -> None:
    journal = open_journal()
    await write(journal, "a", 3)
    assert not journal.has_ended(key("a"))
    assert await _names(journal) == []


async def test_beyond_the_count_the_oldest_ended_runs_are_deleted(open_journal: Open, clock: Clock) -> None:
    journal = open_journal(count=2)
    for name in ("a", "b", "c"):
        await finish(journal, name, clock)
    assert await _names(journal) == ["b", "c"]
    assert await _read(journal, "a") is None


async def test_ended_runs_are_deleted_by_age_even_if_no_other_run_ends(open_journal: Open, clock: Clock) -> None:
    journal = open_journal(age=10 * SECOND)
    await finish(journal, "a", clock)
    clock.now = 5 * SECOND
    await finish(journal, "b", clock)
    clock.now = 11 * SECOND
    assert not journal.has_ended(key("a"))
    assert await _names(journal) == ["b"]


async def test_ended_runs_are_kept_within_a_size_but_the_newest_always(open_journal: Open, clock: Clock) -> None:
    journal = open_journal(size=100)
    await finish(journal, "a", clock, 60)
    await finish(journal, "b", clock, 60)
    assert await _names(journal) == ["b"]
    await finish(journal, "c", clock, 500)
    assert await _names(journal) == ["c"]


async def test_a_run_being_read_is_not_deleted_by_retention(open_journal: Open, clock: Clock) -> None:
    journal = open_journal(count=1)
    with journal.reading(key("a")):
        await finish(journal, "a", clock)
        await finish(journal, "b", clock)
        assert await _read(journal, "a") == [3]
    assert await _names(journal) == ["b"]
    assert await _read(journal, "a") is None


async def test_a_run_is_kept_until_its_last_reader_has_left(open_journal: Open, clock: Clock) -> None:
    journal = open_journal(count=0)
    with journal.reading(key("a")):
        with journal.reading(key("a")):
            await finish(journal, "a", clock)
        assert await _read(journal, "a") == [3]
    assert await _read(journal, "a") is None


@pytest.mark.parametrize("bound", [{"count": 2}, {"size": 6}], ids=["count", "size"])
async def test_a_run_being_read_does_not_count_towards_the_bounds(
    open_journal: Open, clock: Clock, bound: dict[str, int]
) -> None:
    journal = open_journal(**bound)
    with journal.reading(key("a")):
        for name in ("a", "b", "c"):
            await finish(journal, name, clock)
        assert await _names(journal) == ["a", "b", "c"]
    assert await _names(journal) == ["b", "c"]


async def test_a_run_can_be_deleted_while_it_is_read(open_journal: Open, clock: Clock) -> None:
    journal = open_journal()
    with journal.reading(key("a")):
        await finish(journal, "a", clock)
        await journal.delete(key("a"))
        assert await _read(journal, "a") is None


async def test_a_deleted_run_no_longer_counts_towards_the_size(open_journal: Open, clock: Clock) -> None:
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
async def test_a_list_matches_all_criteria(
    open_journal: Open, clock: Clock, listing: Listing, names: list[str]
) -> None:
    journal = open_journal()
    for name in ("a1", "a2", "b1"):
        await finish(journal, name, clock)
    assert sorted(info.key.run_id for info in await _listed(journal, listing)) == names


async def test_a_list_is_newest_first_and_continues_after_a_position(open_journal: Open, clock: Clock) -> None:
    journal = open_journal()
    for name in ("a", "c", "b"):
        await finish(journal, name, clock)
    first = await _listed(journal, Listing("default"), most=2)
    assert [info.key.run_id for info in first] == ["c", "b"]
    rest = await _listed(journal, Listing("default"), first[-1].position)
    assert [info.key.run_id for info in rest] == ["a"]


async def test_the_header_and_the_final_state_of_an_ended_run_are_kept(open_journal: Open, clock: Clock) -> None:
    journal = open_journal()
    await finish(journal, "a", clock)
    header_kept = await journal.header(key("a"))
    info = await journal.info(key("a"))
    assert header_kept is not None
    assert info is not None
    assert (header_kept.key, info.key, info.state) == (key("a"), key("a"), State.SUCCEEDED)


async def test_a_run_under_way_has_no_header_or_final_state(open_journal: Open) -> None:
    journal = open_journal()
    await write(journal, "a", 3)
    assert await journal.header(key("a")) is None
    assert await journal.info(key("a")) is None
    assert await journal.finishes(key("a")) is None


async def test_discarding_a_run_without_events_frees_its_id(open_journal: Open, clock: Clock) -> None:
    journal = open_journal()
    journal.create(header("a"))
    journal.mark_broken(key("a"))
    assert not journal.discard(key("a"))
    assert await _read(journal, "a") is None
    await finish(journal, "a", clock)
    assert await _names(journal) == ["a"]


async def test_a_broken_run_can_be_ended(open_journal: Open, clock: Clock) -> None:
    journal = open_journal()
    await write(journal, "a", 10)
    journal.mark_broken(key("a"))
    assert not journal.has_ended(key("a"))
    await add(journal, "a", [record(20)], ended("a", clock.now, last=2))
    await run_scheduled()
    assert await _names(journal) == ["a"]
    assert await _read(journal, "a") == [10, 20]


async def test_events_are_picked_by_number(open_journal: Open) -> None:
    journal = open_journal()
    await write(journal, "a", 11, 12, 13, 14)
    picked = await journal.pick(key("a"), [4, 2])
    assert [len(record.data) for record in picked] == [14, 12]


# Kept bytes.

DEFINITION = 6
"""Bytes of the definition of every run of these tests: no workflow, and the input `null`."""


async def test_the_bytes_of_a_run_count_from_its_start_until_it_is_deleted(open_journal: Open, clock: Clock) -> None:
    journal = open_journal(count=2)
    await write(journal, "a", 10, 20)
    assert journal.kept_bytes.of("default") == DEFINITION + 30
    await add(journal, "a", [record(5)], ended("a", clock.now))
    for name in ("b", "c"):  # retention deletes the first
        await finish(journal, name, clock, 7)
    assert journal.kept_bytes.by_namespace() == {"default": 2 * (DEFINITION + 7)}
    await journal.delete(key("b"))
    journal.create(header("d"))
    journal.discard(key("d"))
    assert journal.kept_bytes.of("default") == DEFINITION + 7
    assert journal.kept_bytes.of("other") == 0
