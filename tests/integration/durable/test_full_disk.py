"""A full disk: new runs are refused, and running ones wait for space and then continue."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing

import grpc
import pytest

from integration.durable.health import wait_for_health
from integration.durable.server_process import ServerProcess, StepControl
from integration.server.build import check_sequences, flow, states, step
from integration.server.raw_client import RawClient, Stream, refusal

BLOCKED = flow(step("blocked", "controlled"), step("next", "waits", after=["blocked"]))
SUCCEEDED = {"blocked": "succeeded", "next": "succeeded"}


@pytest.fixture
async def client(process: ServerProcess) -> AsyncIterator[RawClient]:
    await process.start()
    client = RawClient(process.address)
    yield client
    await client.close()


async def _fill_the_disk(process: ServerProcess, control: StepControl, client: RawClient) -> Stream:
    """Fill the disk while a step runs, and end the step: nothing can be committed."""
    stream = client.execute(BLOCKED, run_id="live", window=60)
    await stream.until("step_started", "blocked")
    await control.wait_started("live", "blocked")
    await process.allow_file_growth(allowed=False)
    control.release("live", "blocked")
    await wait_for_health(client, "NOT_SERVING")
    return stream


async def test_a_server_with_a_full_disk_refuses_new_runs_with_the_reason(
    process: ServerProcess, control: StepControl, client: RawClient
) -> None:
    await _fill_the_disk(process, control, client)
    for refused in (await refusal(client.start(BLOCKED, run_id="new")), await refusal(client.run(BLOCKED))):
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")


async def test_running_runs_continue_when_there_is_space_again(
    process: ServerProcess, control: StepControl, client: RawClient
) -> None:
    stream = await _fill_the_disk(process, control, client)
    assert process.side_effects.attempts("live", "next") == []  # its dependency's end is not committed
    await process.allow_file_growth(allowed=True)
    events = await stream.rest()
    assert states(events) == SUCCEEDED
    check_sequences(events)
    await wait_for_health(client, "SERVING")
    assert states(await client.run(flow(step("a", "waits")), run_id="new")) == {"a": "succeeded"}
    assert [process.side_effects.attempts("live", step_id) for step_id in ("blocked", "next")] == [[1], [1]]


async def test_a_submission_at_the_moment_the_disk_fills_is_refused_and_can_be_repeated(
    process: ServerProcess, control: StepControl, client: RawClient
) -> None:
    """The run was accepted before the server knew of the full disk. The call fails, for nothing is committed."""
    await process.allow_file_growth(allowed=False)
    refused = await refusal(client.start(flow(step("a", "waits")), run_id="first"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")
    assert process.side_effects.attempts("first", "a") == []
    await process.allow_file_growth(allowed=True)
    await wait_for_health(client, "SERVING")
    await client.start(flow(step("a", "waits")), run_id="first")
    assert states(await client.events("first")) == {"a": "succeeded"}
    assert process.side_effects.attempts("first", "a") == [1]


@pytest.mark.parametrize("known", [True, False])
async def test_a_change_that_cannot_be_committed_is_refused(
    process: ServerProcess, control: StepControl, client: RawClient, *, known: bool
) -> None:
    """The server knows of the full disk already, or learns of it by this change."""
    await client.run(flow(step("a", "waits")), run_id="ended")
    attached = client.execute(flow(step("other", "controlled")), run_id="blocked", window=60)
    await attached.until("step_started", "other")
    if known:
        await _fill_the_disk(process, control, client)
    else:
        await process.allow_file_growth(allowed=False)
    changes = [
        refusal(client.delete("ended")),
        refusal(client.start(flow(step("other", "controlled")), run_id="blocked")),
    ]
    for refused in await asyncio.gather(*changes):
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")


async def test_committed_events_can_be_read_with_a_full_disk(
    process: ServerProcess, control: StepControl, client: RawClient
) -> None:
    before = await client.run(flow(step("a", "waits")), run_id="ended")
    await _fill_the_disk(process, control, client)
    assert await client.events("ended") == before


async def test_a_server_that_dies_with_a_full_disk_leaves_a_valid_journal(
    process: ServerProcess, control: StepControl, client: RawClient
) -> None:
    stream = await _fill_the_disk(process, control, client)
    seen = list(stream.seen)
    await process.restart()
    with closing(sqlite3.connect(process.journal)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again = RawClient(process.address)
    events = await again.events("live")
    await again.close()
    assert states(events) == SUCCEEDED
    assert events[: len(seen)] == seen
    assert process.side_effects.attempts("live", "blocked") == [1, 2]


async def test_a_server_with_a_full_disk_can_be_stopped(
    process: ServerProcess, control: StepControl, client: RawClient
) -> None:
    await _fill_the_disk(process, control, client)
    assert await process.stop() == 0
