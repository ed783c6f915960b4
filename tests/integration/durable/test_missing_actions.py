"""Runs whose actions the next server lacks: they wait, visibly, for one that has them."""

import asyncio

import grpc

from integration.durable.lives import Life, Lives
from integration.server.build import end_of, finished, flow, state_of, states, step
from integration.server.caller import GUARD, refusal
from stepwave.v1.event_pb2 import StepWaiting, WaitCause

HELD = flow(step("held", "gated"), step("next", after=["held"]))


async def _leave_running(lives: Lives) -> None:
    """Leave a run to the next server whose step is running."""
    async with lives.next() as first:
        await first.caller.start(HELD, run_id="live")
        await first.stage.here("held")


async def _waiting(life: Life) -> StepWaiting:
    watch = life.caller.watch("live")
    waiting = (await watch.until("step_waiting", "held")).step_waiting
    watch.call.cancel()
    return waiting


async def test_a_run_tells_which_actions_it_waits_for(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(without="gated") as second:
        run = await second.caller.get("live")
        assert (state_of(run.state), list(run.missing_actions)) == ("running", ["gated"])


async def test_whoever_watches_is_told_which_step_waits_and_why(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(without="gated") as second:
        for _ in range(2):  # one who joins later as well
            waiting = await _waiting(second)
            assert waiting.cause == WaitCause.WAIT_CAUSE_ACTION_MISSING
            assert "gated" in waiting.message


async def test_it_goes_on_when_a_server_starts_that_has_the_action(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(without="gated") as second:
        await _waiting(second)
    async with lives.next() as third:
        await third.stage.here("held")
        assert not (await third.caller.get("live")).missing_actions
        third.stage.let("held")
        events = await third.caller.events("live")
    assert states(events) == {"held": "succeeded", "next": "succeeded"}
    assert finished(events)["held"].attempts == 2


async def test_waiting_through_many_servers_uses_up_no_attempts(lives: Lives) -> None:
    await _leave_running(lives)
    for _ in range(5):
        async with lives.next(without="gated") as between:
            await _waiting(between)
    async with lives.next() as last:
        last.stage.let("held")
        assert finished(await last.caller.events("live"))["held"].attempts == 2


async def test_it_can_be_cancelled_while_it_waits(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(without="gated") as second:
        await second.caller.cancel("live")
        events = await second.caller.events("live")
        assert states(events) == {"held": "cancelled", "next": "skipped"}
        assert not (await second.caller.get("live")).missing_actions


async def test_its_other_steps_go_on_meanwhile(lives: Lives) -> None:
    other = step("other", "fails", allow_failure=True)
    async with lives.next() as first:
        await first.caller.start(flow(step("held", "gated"), other, step("after", after=["other"])), run_id="live")
        await first.stage.here("held", "other")
    async with lives.next(without="gated") as second:
        second.stage.let("other")
        watch = second.caller.watch("live")
        await watch.until("step_finished", "after")
        assert list((await second.caller.get("live")).missing_actions) == ["gated"]
        watch.call.cancel()


async def test_its_timeout_still_ends_it(lives: Lives) -> None:
    async with lives.next() as first:
        await first.caller.start(flow(step("held", "gated"), timeout=0.5), run_id="live")
        await first.stage.here("held")
    async with lives.next(without="gated") as second:
        assert state_of(end_of(await second.caller.events("live")).state) == "failed"


async def test_a_drain_does_not_wait_for_it(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(without="gated", drain_timeout=600) as second:
        await _waiting(second)
        async with asyncio.timeout(GUARD):
            await second.server.drain()


async def test_a_drain_waits_for_nothing_else_once_its_other_steps_have_ended(lives: Lives) -> None:
    both = flow(step("held", "gated"), step("other", "fails", allow_failure=True))
    async with lives.next() as first:
        await first.caller.start(both, run_id="live")
        await first.stage.here("held", "other")
    async with lives.next(without="gated", drain_timeout=600) as second:
        await second.stage.here("other")
        drain = asyncio.create_task(second.server.drain())
        await asyncio.sleep(0)
        assert not drain.done()
        second.stage.let("other")
        async with asyncio.timeout(GUARD):
            await drain


async def test_the_same_submission_still_finds_it(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(without="gated") as second:
        assert (await second.caller.start(HELD, run_id="live")).run_id == "live"


async def test_a_new_run_of_the_missing_action_is_refused(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(without="gated") as second:
        refused = await refusal(second.caller.start(HELD, run_id="new"))
        assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["steps[0].action"])
