"""Recovery of unfinished runs: a server resumes, pauses or fails them."""

from integration.durable.restarts import Restarts
from integration.server.build import check_sequences, end_of, flow, reason_of, state_of, states, step
from integration.server.fixture_types import eventually
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2

BLOCKED = flow(step("done"), step("blocked", "controlled", after=["done"]), step("next", after=["blocked"]))


async def _leave_running(restarts: Restarts) -> None:
    """Leave a run whose second step is running to the next server."""
    async with restarts.start() as first:
        await first.client.start(BLOCKED, run_id="live")
        await first.controlled.wait_started("blocked")


async def test_a_resumed_run_continues_where_it_was(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start() as second:
        second.controlled.release("blocked")
        events = await second.client.events("live")
        assert second.controlled.invoked == ["blocked", "next"]
    assert states(events) == {"done": "succeeded", "blocked": "succeeded", "next": "succeeded"}
    check_sequences(events)


async def test_a_paused_run_is_reported_as_paused_and_runs_no_step(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(recover="pause") as second:
        run = await second.client.get("live")
        assert (run.paused, state_of(run.state), run.counts.succeeded) == (True, "running", 1)
        (listed,) = (await second.client.stub.ListRuns(pb.ListRunsRequest())).runs
        assert listed == run
    assert second.controlled.invoked == []


async def test_a_step_of_a_paused_run_waits_for_no_place(restarts: Restarts) -> None:
    async with restarts.start() as first:
        workflow = flow(step("runs", "controlled"), step("waits", "controlled"), max_parallelism=1)
        await first.client.start(workflow, run_id="live")
        await first.controlled.wait_started("runs")
    async with restarts.start(recover="pause") as second:
        assert not (await second.client.stub.GetRun(pb.GetRunRequest(run_id="live"))).waiting


async def test_a_paused_run_can_be_watched(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(BLOCKED, run_id="live")
        await first.controlled.wait_started("blocked")
        before = first.client.watch("live")
        await before.until("step_started", "blocked")
        before.call.cancel()
    async with restarts.start(recover="pause") as second, second.client.watch("live") as watch:
        await watch.until("step_started", "blocked")
        assert watch.seen == before.seen


async def test_a_paused_run_can_be_cancelled(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(recover="pause") as second:
        watch = second.client.watch("live")
        await watch.until("step_started", "blocked")
        assert not (await second.client.cancel("live", "enough")).paused
        events = await watch.rest()
    assert states(events) == {"done": "succeeded", "blocked": "cancelled", "next": "skipped"}
    assert state_of(end_of(events).state) == "cancelled"


async def test_a_paused_run_is_not_cancelled_by_its_reconnect_window(restarts: Restarts) -> None:
    """Its reconnect window, zero here, begins with the server that resumes it."""
    async with restarts.start() as first:
        first.client.execute(BLOCKED, run_id="live", window=0)
        await first.controlled.wait_started("blocked")
    async with restarts.start(recover="pause") as second:
        async with second.client.watch("live", attach=True) as watch:
            await watch.until("step_started", "blocked")
        await eventually(lambda: second.server.engine.watchers == 0)
        run = await second.client.get("live")
        assert (state_of(run.state), run.stopping, run.paused) == ("running", False, True)


async def test_a_paused_run_continues_on_the_next_server_that_resumes(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(recover="pause") as second:
        assert (await second.client.get("live")).paused
    async with restarts.start() as third:
        third.controlled.release("blocked")
        events = await third.client.events("live")
        assert not (await third.client.get("live")).paused
    assert state_of(end_of(events).state) == "succeeded"


async def test_a_server_that_pauses_recovered_runs_accepts_new_ones(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(recover="pause") as second:
        second.controlled.release("blocked")
        assert state_of(end_of(await second.client.run(BLOCKED, run_id="new")).state) == "succeeded"
        assert (await second.client.get("live")).paused


async def test_recovery_by_fail_ends_a_run_as_interrupted(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(recover="fail") as second:
        events = await second.client.events("live")
        assert second.controlled.invoked == []
    assert states(events) == {"done": "succeeded", "blocked": "cancelled", "next": "skipped"}
    result = end_of(events)
    assert (state_of(result.state), [reason_of(failure) for failure in result.failures]) == ("failed", ["interrupted"])
    (failure,) = result.failures
    assert failure.cause == run_pb2.FAILURE_CAUSE_SERVER_STOPPED
    (blocked,) = (event.step_finished.result for event in events if event.step_finished.result.step_id == "blocked")
    assert blocked.failure.cause == run_pb2.FAILURE_CAUSE_SERVER_STOPPED


async def test_runs_that_had_ended_are_left_unchanged(restarts: Restarts) -> None:
    async with restarts.start() as first:
        before = await first.client.run(flow(step("a")), run_id="ended")
    for how in ("resume", "pause", "fail"):
        async with restarts.start(recover=how) as running:
            assert await running.client.events("ended") == before


async def test_a_run_that_recovery_ends_takes_no_place(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(recover="pause", max_attempts=1) as second:
        await second.client.cancel("live")
        await second.client.events("live")
        assert second.server.engine.attempts_in_flight == 0
    async with restarts.start() as third:
        await third.client.start(BLOCKED, run_id="other")
        await third.controlled.wait_started("blocked")
    async with restarts.start(recover="fail", max_attempts=1) as fourth:
        await fourth.client.events("other")
        assert fourth.server.engine.attempts_in_flight == 0
        fourth.controlled.release("blocked")
        assert state_of(end_of(await fourth.client.run(BLOCKED, run_id="new")).state) == "succeeded"
