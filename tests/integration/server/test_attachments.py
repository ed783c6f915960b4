"""Attachments of clients to runs: deadlines, disconnects and reconnects."""

import asyncio
from collections import Counter

import grpc
import pytest

from integration.server.build import end_of, flow, state_of, states, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import eventually
from integration.server.raw_client import RawClient, refusal
from stepwave_server.app import Server

BLOCKED = flow(step("done"), step("blocked", "controlled", after=["done"]), step("next", after=["blocked"]))


async def _wait_end(client: RawClient, run_id: str = "live") -> tuple[str, str]:
    """Wait for the end of a run, and return its state and the message of its first failure."""
    result = end_of(await client.events(run_id))
    return state_of(result.state), result.failures[0].message if result.failures else ""


async def _wait_disconnected(server: Server, but: int = 0) -> None:
    """Wait until the server has noticed that all watchers but `left` have gone."""
    await eventually(lambda: server.engine.watchers == but)


async def test_a_disconnect_cancels_the_run(client: RawClient, controlled: ControlledActions) -> None:
    async with client.execute(BLOCKED, run_id="live"):
        await controlled.wait_started("blocked")
    assert await _wait_end(client) == ("cancelled", "cancelled: the caller went away")
    assert controlled.cancelled == ["blocked"]


@pytest.mark.one_server("a deadline that a start on Temporal may pass")
async def test_a_passed_deadline_cancels_a_run_without_a_window(
    client: RawClient, controlled: ControlledActions
) -> None:
    refused = await refusal(client.execute(BLOCKED, run_id="live", timeout=0.2).rest())
    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await _wait_end(client) == ("cancelled", "cancelled: the caller went away")


@pytest.mark.one_server("a deadline that a start on Temporal may pass")
async def test_a_passed_deadline_starts_the_window(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await refusal(client.execute(BLOCKED, run_id="live", window=600, timeout=0.2).rest())
    await _wait_disconnected(server)
    async with client.watch("live", attach=True) as again:
        controlled.release("blocked")
        assert state_of(end_of(await again.rest()).state) == "succeeded"


async def test_the_passed_deadline_of_an_attached_watch_starts_the_window_again(
    client: RawClient, controlled: ControlledActions
) -> None:
    async with client.execute(BLOCKED, run_id="live", window=0.3) as first:
        await controlled.wait_started("blocked")
        watch = client.watch("live", attach=True, timeout=0.2)
        await watch.until("step_started", "blocked")
        first.call.cancel()
        assert (await refusal(watch.rest())).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await _wait_end(client) == ("cancelled", "cancelled: the caller did not come back")


async def test_the_passed_deadline_of_one_stream_leaves_the_run_to_the_others(
    client: RawClient, controlled: ControlledActions
) -> None:
    async with client.execute(BLOCKED, run_id="live") as first:
        await controlled.wait_started("blocked")
        refused = await refusal(client.watch("live", attach=True, timeout=0.2).rest())
        assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
        controlled.release("blocked")
        assert state_of(end_of(await first.rest()).state) == "succeeded"


async def test_a_reconnect_within_the_window_keeps_the_run(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    async with client.execute(BLOCKED, run_id="live", window=600) as first:
        seen = await first.until("step_started", "blocked")
    await _wait_disconnected(server)
    async with client.watch("live", after=seen.sequence, attach=True) as second:
        controlled.release("blocked")
        assert states(await second.rest()) == {"blocked": "succeeded", "next": "succeeded"}


async def test_a_window_that_passes_cancels_the_run(client: RawClient, controlled: ControlledActions) -> None:
    async with client.execute(BLOCKED, run_id="live", window=0.05):
        await controlled.wait_started("blocked")
    assert await _wait_end(client) == ("cancelled", "cancelled: the caller did not come back")


async def test_a_client_that_reconnects_and_leaves_starts_the_window_again(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    async with client.execute(BLOCKED, run_id="live", window=0.3):
        await controlled.wait_started("blocked")
    await _wait_disconnected(server)
    async with client.watch("live", attach=True) as again:
        await again.until("step_started", "blocked")
    assert await _wait_end(client) == ("cancelled", "cancelled: the caller did not come back")


async def test_executing_again_attaches_too(server: Server, client: RawClient, controlled: ControlledActions) -> None:
    async with client.execute(BLOCKED, run_id="live") as first:
        await controlled.wait_started("blocked")
        async with client.execute(BLOCKED, run_id="live") as second:
            await second.until("step_started", "blocked")
            first.call.cancel()
            await _wait_disconnected(server, but=1)
            controlled.release("blocked")
            assert state_of(end_of(await second.rest()).state) == "succeeded"


async def test_an_attached_watch_keeps_the_run(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    async with client.execute(BLOCKED, run_id="live") as first:
        await controlled.wait_started("blocked")
        async with client.watch("live", attach=True) as second:
            await second.until("step_started", "blocked")
            first.call.cancel()
            await _wait_disconnected(server, but=1)
            assert state_of((await client.get("live")).state) == "running"
    assert await _wait_end(client) == ("cancelled", "cancelled: the caller went away")


async def test_a_run_started_by_start_run_has_no_attachment(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(BLOCKED, run_id="live")
    async with client.watch("live", attach=True) as watch:
        await watch.until("step_started", "blocked")
    await _wait_disconnected(server)
    controlled.release("blocked")
    assert await _wait_end(client) == ("succeeded", "")


async def test_start_run_detaches_an_attached_run(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    async with client.execute(BLOCKED, run_id="live"):
        await controlled.wait_started("blocked")
        assert (await client.start(BLOCKED, run_id="live")).run_id == "live"
    await _wait_disconnected(server)
    controlled.release("blocked")
    assert await _wait_end(client) == ("succeeded", "")


async def test_a_plain_watch_does_not_keep_the_run(client: RawClient, controlled: ControlledActions) -> None:
    async with client.execute(BLOCKED, run_id="live"):
        await controlled.wait_started("blocked")
        watch = client.watch("live")
        await watch.until("step_started", "blocked")
    assert state_of(end_of(await watch.rest()).state) == "cancelled"


async def test_a_disconnect_releases_everything(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await client.run(flow(step("warm")))  # by now gRPC has allocated what it keeps for a connection
    await eventually(lambda: "_schedule_rpc_coro" not in _task_names())  # and what it had for that call is released
    before = _task_names()
    async with client.execute(BLOCKED, run_id="live") as run:
        await run.until("step_started", "blocked")
        assert (server.engine.watchers, server.engine.attempts_in_flight) == (1, 1)
        assert _task_names() != before
    await client.events("live")
    await _wait_disconnected(server)
    assert server.engine.attempts_in_flight == 0
    await eventually(lambda: _task_names() <= before)  # some of those before have ended since


def _task_names() -> Counter[str]:
    """Return the names of all tasks' coroutines. gRPC replaces the task that accepts calls, so names are compared."""
    return Counter(str(getattr(task.get_coro(), "__qualname__", task)) for task in asyncio.all_tasks())


@pytest.mark.parametrize("seconds", [-1, 3_601])
async def test_a_window_out_of_bounds_is_refused(client: RawClient, seconds: float) -> None:
    refused = await refusal(client.execute(BLOCKED, window=seconds).rest())
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["reconnect_window"])


async def test_a_disconnect_after_the_end_cancels_nothing(client: RawClient) -> None:
    async with client.execute(flow(step("a")), run_id="live") as run:
        await run.rest()
    assert await _wait_end(client) == ("succeeded", "")
