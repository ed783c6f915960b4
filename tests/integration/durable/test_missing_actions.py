"""Runs whose actions the next server lacks: they wait for a server that has them, and report it."""

import asyncio

import grpc

from integration.durable.restarts import Restarts, RunningServer
from integration.server.build import end_of, finished, flow, state_of, states, step
from integration.server.raw_client import GUARD, refusal
from stepwave.v1.event_pb2 import StepWaiting, WaitCause

BLOCKED = flow(step("blocked", "controlled"), step("next", after=["blocked"]))


async def _leave_running(restarts: Restarts) -> None:
    """Leave a run whose step is running to the next server."""
    async with restarts.start() as first:
        await first.client.start(BLOCKED, run_id="live")
        await first.controlled.wait_started("blocked")


async def _waiting(running: RunningServer) -> StepWaiting:
    watch = running.client.watch("live")
    waiting = (await watch.until("step_waiting", "blocked")).step_waiting
    watch.call.cancel()
    return waiting


async def test_a_run_lists_its_missing_actions(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(without="controlled") as second:
        run = await second.client.get("live")
        assert (state_of(run.state), list(run.missing_actions)) == ("running", ["controlled"])


async def test_watchers_see_which_step_waits_and_why(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(without="controlled") as second:
        for _ in range(2):  # a late watcher too
            waiting = await _waiting(second)
            assert waiting.cause == WaitCause.WAIT_CAUSE_ACTION_MISSING
            assert "controlled" in waiting.message


async def test_a_waiting_run_continues_on_a_server_that_has_the_action(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(without="controlled") as second:
        await _waiting(second)
    async with restarts.start() as third:
        await third.controlled.wait_started("blocked")
        assert not (await third.client.get("live")).missing_actions
        third.controlled.release("blocked")
        events = await third.client.events("live")
    assert states(events) == {"blocked": "succeeded", "next": "succeeded"}
    assert finished(events)["blocked"].attempts == 2


async def test_waiting_through_many_servers_uses_up_no_attempts(restarts: Restarts) -> None:
    await _leave_running(restarts)
    for _ in range(5):
        async with restarts.start(without="controlled") as between:
            await _waiting(between)
    async with restarts.start() as last:
        last.controlled.release("blocked")
        assert finished(await last.client.events("live"))["blocked"].attempts == 2


async def test_a_run_can_be_cancelled_while_it_waits_for_an_action(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(without="controlled") as second:
        await second.client.cancel("live")
        events = await second.client.events("live")
        assert states(events) == {"blocked": "cancelled", "next": "skipped"}
        assert not (await second.client.get("live")).missing_actions


async def test_the_other_steps_of_a_waiting_run_continue(restarts: Restarts) -> None:
    other = step("other", "fails", allow_failure=True)
    async with restarts.start() as first:
        await first.client.start(
            flow(step("blocked", "controlled"), other, step("after", after=["other"])), run_id="live"
        )
        await first.controlled.wait_started("blocked", "other")
    async with restarts.start(without="controlled") as second:
        second.controlled.release("other")
        watch = second.client.watch("live")
        await watch.until("step_finished", "after")
        assert list((await second.client.get("live")).missing_actions) == ["controlled"]
        watch.call.cancel()


async def test_the_timeout_of_a_waiting_run_ends_it(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(flow(step("blocked", "controlled"), timeout=0.5), run_id="live")
        await first.controlled.wait_started("blocked")
    async with restarts.start(without="controlled") as second:
        assert state_of(end_of(await second.client.events("live")).state) == "failed"


async def test_a_drain_does_not_wait_for_a_run_that_waits_for_an_action(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(without="controlled", drain_timeout=600) as second:
        await _waiting(second)
        async with asyncio.timeout(GUARD):
            await second.server.drain()


async def test_a_drain_waits_only_for_the_other_steps_of_a_waiting_run(restarts: Restarts) -> None:
    both = flow(step("blocked", "controlled"), step("other", "fails", allow_failure=True))
    async with restarts.start() as first:
        await first.client.start(both, run_id="live")
        await first.controlled.wait_started("blocked", "other")
    async with restarts.start(without="controlled", drain_timeout=600) as second:
        await second.controlled.wait_started("other")
        drain = asyncio.create_task(second.server.drain())
        await asyncio.sleep(0)
        assert not drain.done()
        second.controlled.release("other")
        async with asyncio.timeout(GUARD):
            await drain


async def test_a_repeated_submission_finds_a_waiting_run(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(without="controlled") as second:
        assert (await second.client.start(BLOCKED, run_id="live")).run_id == "live"


async def test_a_new_run_of_the_missing_action_is_refused(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(without="controlled") as second:
        refused = await refusal(second.client.start(BLOCKED, run_id="new"))
        assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["workflow.steps[0].action"])
