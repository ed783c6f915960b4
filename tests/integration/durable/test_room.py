"""A disk that is full: nothing new is taken, what runs waits for room, and then all goes on."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing

import grpc
import pytest

from integration.durable.health import becomes
from integration.durable.process import Meeting, Victim
from integration.server.build import flow, sequences, states, step
from integration.server.caller import Caller, Stream, refusal

HELD = flow(step("held", "meets"), step("next", "waits", after=["held"]))
SUCCEEDED = {"held": "succeeded", "next": "succeeded"}


@pytest.fixture
async def caller(victim: Victim) -> AsyncIterator[Caller]:
    await victim.start()
    caller = Caller(victim.address)
    yield caller
    await caller.close()


async def _fill_the_disk(victim: Victim, meeting: Meeting, caller: Caller) -> Stream:
    """Leave no room, and let a run meet that: its step has answered, and nothing can be committed."""
    stream = caller.execute(HELD, run_id="live", window=60)
    await stream.until("step_started", "held")
    await meeting.here("live", "held")
    await victim.leave_room(room=False)
    meeting.let("live", "held")
    await becomes(caller, "NOT_SERVING")
    return stream


async def test_a_server_without_room_refuses_new_runs_and_says_why(
    victim: Victim, meeting: Meeting, caller: Caller
) -> None:
    await _fill_the_disk(victim, meeting, caller)
    for refused in (await refusal(caller.start(HELD, run_id="new")), await refusal(caller.run(HELD))):
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")


async def test_what_ran_goes_on_when_there_is_room_again(victim: Victim, meeting: Meeting, caller: Caller) -> None:
    stream = await _fill_the_disk(victim, meeting, caller)
    assert victim.marks.attempts("live", "next") == []  # its dependency's end is not committed
    await victim.leave_room(room=True)
    events = await stream.rest()
    assert states(events) == SUCCEEDED
    assert sequences(events) == list(range(1, len(events) + 1))
    await becomes(caller, "SERVING")
    assert states(await caller.run(flow(step("a", "waits")), run_id="new")) == {"a": "succeeded"}
    assert [victim.marks.attempts("live", step_id) for step_id in ("held", "next")] == [[1], [1]]


async def test_a_submission_that_met_the_full_disk_is_answered_and_can_be_sent_again(
    victim: Victim, meeting: Meeting, caller: Caller
) -> None:
    """It was accepted before anybody knew: its caller is told that it is not safe."""
    await victim.leave_room(room=False)
    refused = await refusal(caller.start(flow(step("a", "waits")), run_id="first"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")
    assert victim.marks.attempts("first", "a") == []
    await victim.leave_room(room=True)
    await becomes(caller, "SERVING")
    await caller.start(flow(step("a", "waits")), run_id="first")
    assert states(await caller.events("first")) == {"a": "succeeded"}
    assert victim.marks.attempts("first", "a") == [1]


@pytest.mark.parametrize("known", [True, False])
async def test_a_change_that_cannot_be_committed_is_answered(
    victim: Victim, meeting: Meeting, caller: Caller, *, known: bool
) -> None:
    """Whether the server knows already that there is no room, or learns it by this very change."""
    await caller.run(flow(step("a", "waits")), run_id="ended")
    held = caller.execute(flow(step("other", "meets")), run_id="held", window=60)
    await held.until("step_started", "other")
    if known:
        await _fill_the_disk(victim, meeting, caller)
    else:
        await victim.leave_room(room=False)
    changes = [refusal(caller.delete("ended")), refusal(caller.start(flow(step("other", "meets")), run_id="held"))]
    for refused in await asyncio.gather(*changes):
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")


async def test_what_is_committed_can_be_read_without_room(victim: Victim, meeting: Meeting, caller: Caller) -> None:
    before = await caller.run(flow(step("a", "waits")), run_id="ended")
    await _fill_the_disk(victim, meeting, caller)
    assert await caller.events("ended") == before


async def test_a_server_that_dies_without_room_leaves_a_whole_journal(
    victim: Victim, meeting: Meeting, caller: Caller
) -> None:
    stream = await _fill_the_disk(victim, meeting, caller)
    seen = list(stream.seen)
    await victim.restart()
    with closing(sqlite3.connect(victim.journal)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again = Caller(victim.address)
    events = await again.events("live")
    await again.close()
    assert states(events) == SUCCEEDED
    assert events[: len(seen)] == seen
    assert victim.marks.attempts("live", "held") == [1, 2]


async def test_a_server_without_room_stops_when_it_is_told_to(victim: Victim, meeting: Meeting, caller: Caller) -> None:
    await _fill_the_disk(victim, meeting, caller)
    assert await victim.stop() == 0
