"""Who holds a run: attached and detached callers, deadlines, disconnects and reconnects."""

import asyncio
from collections import Counter

import grpc
import pytest

from integration.server.build import end_of, flow, state_of, states, step
from integration.server.caller import Caller, refusal
from integration.server.serving import settles
from integration.server.stage import Stage
from stepwave_server.app import Server

HELD = flow(step("done"), step("held", "gated", after=["done"]), step("next", after=["held"]))


async def _end(caller: Caller, run_id: str = "live") -> tuple[str, str]:
    """Wait for a run's end; return its state and the first failure's message."""
    result = end_of(await caller.events(run_id))
    return state_of(result.state), result.failures[0].message if result.failures else ""


async def _gone(server: Server, but: int = 0) -> None:
    """Wait until the server has noticed that its watchers are gone, all but so many."""
    await settles(lambda: server.engine.watchers == but)


async def test_a_disconnect_cancels_the_run(caller: Caller, stage: Stage) -> None:
    async with caller.execute(HELD, run_id="live"):
        await stage.here("held")
    assert await _end(caller) == ("cancelled", "cancelled: the caller went away")
    assert stage.cancelled == ["held"]


async def test_a_passed_deadline_cancels_the_run_at_once(caller: Caller, stage: Stage) -> None:
    """In spite of its reconnect window: the caller asked for no more time."""
    late = caller.execute(HELD, run_id="live", window=600, timeout=0.2)
    refused = await refusal(late.rest())
    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await _end(caller) == ("cancelled", "cancelled: the caller's deadline passed")


async def test_a_reconnect_within_the_window_keeps_the_run(server: Server, caller: Caller, stage: Stage) -> None:
    async with caller.execute(HELD, run_id="live", window=600) as first:
        seen = await first.until("step_started", "held")
    await _gone(server)
    async with caller.watch("live", after=seen.sequence, attach=True) as second:
        stage.let("held")
        assert states(await second.rest()) == {"held": "succeeded", "next": "succeeded"}


async def test_a_window_that_passes_cancels_the_run(caller: Caller, stage: Stage) -> None:
    async with caller.execute(HELD, run_id="live", window=0.05):
        await stage.here("held")
    assert await _end(caller) == ("cancelled", "cancelled: the caller did not come back")


async def test_who_reconnects_and_leaves_starts_the_window_again(server: Server, caller: Caller, stage: Stage) -> None:
    async with caller.execute(HELD, run_id="live", window=0.3):
        await stage.here("held")
    await _gone(server)
    async with caller.watch("live", attach=True) as again:
        await again.until("step_started", "held")
    assert await _end(caller) == ("cancelled", "cancelled: the caller did not come back")


async def test_executing_again_holds_too(server: Server, caller: Caller, stage: Stage) -> None:
    async with caller.execute(HELD, run_id="live") as first:
        await stage.here("held")
        async with caller.execute(HELD, run_id="live") as second:
            await second.until("step_started", "held")
            first.call.cancel()
            await _gone(server, but=1)
            stage.let("held")
            assert state_of(end_of(await second.rest()).state) == "succeeded"


async def test_an_attached_watch_holds(server: Server, caller: Caller, stage: Stage) -> None:
    async with caller.execute(HELD, run_id="live") as first:
        await stage.here("held")
        async with caller.watch("live", attach=True) as second:
            await second.until("step_started", "held")
            first.call.cancel()
            await _gone(server, but=1)
            assert state_of((await caller.get("live")).state) == "running"
    assert await _end(caller) == ("cancelled", "cancelled: the caller went away")


async def test_start_run_is_held_by_nobody(server: Server, caller: Caller, stage: Stage) -> None:
    await caller.start(HELD, run_id="live")
    async with caller.watch("live", attach=True) as watch:
        await watch.until("step_started", "held")
    await _gone(server)
    stage.let("held")
    assert await _end(caller) == ("succeeded", "")


async def test_start_run_detaches_a_held_run(server: Server, caller: Caller, stage: Stage) -> None:
    async with caller.execute(HELD, run_id="live"):
        await stage.here("held")
        assert (await caller.start(HELD, run_id="live")).run_id == "live"
    await _gone(server)
    stage.let("held")
    assert await _end(caller) == ("succeeded", "")


async def test_a_plain_watch_does_not_hold(caller: Caller, stage: Stage) -> None:
    async with caller.execute(HELD, run_id="live"):
        await stage.here("held")
        watch = caller.watch("live")
        await watch.until("step_started", "held")
    assert state_of(end_of(await watch.rest()).state) == "cancelled"


async def test_a_disconnect_frees_everything(server: Server, caller: Caller, stage: Stage) -> None:
    await caller.run(flow(step("warm")))  # what gRPC keeps for a connection is made by now
    await settles(lambda: "_schedule_rpc_coro" not in _work())  # and what it had for that call is gone
    before = _work()
    async with caller.execute(HELD, run_id="live") as run:
        await run.until("step_started", "held")
        assert (server.engine.watchers, server.engine.attempts_in_flight) == (1, 1)
        assert _work() != before
    await caller.events("live")
    await _gone(server)
    assert server.engine.attempts_in_flight == 0
    await settles(lambda: _work() == before)


def _work() -> Counter[str]:
    """Return what asyncio has under way, by the names of the coroutines: gRPC replaces the task that accepts calls."""
    return Counter(str(getattr(task.get_coro(), "__qualname__", task)) for task in asyncio.all_tasks())


@pytest.mark.parametrize("seconds", [-1, 3_601])
async def test_a_window_out_of_bounds_is_refused(caller: Caller, seconds: float) -> None:
    refused = await refusal(caller.execute(HELD, window=seconds).rest())
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["reconnect_window"])


async def test_who_leaves_after_the_end_cancels_nothing(caller: Caller) -> None:
    async with caller.execute(flow(step("a")), run_id="live") as run:
        await run.rest()
    assert await _end(caller) == ("succeeded", "")
