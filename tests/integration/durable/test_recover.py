"""What a server does with the runs that it finds under way: goes on, leaves them alone, or fails them."""

from integration.durable.lives import Lives
from integration.server.build import end_of, flow, reason_of, sequences, state_of, states, step
from integration.server.serving import settles
from stepwave.v1 import orchestrator_pb2 as pb

HELD = flow(step("done"), step("held", "gated", after=["done"]), step("next", after=["held"]))


async def _leave_running(lives: Lives) -> None:
    """Leave a run to the next server whose second step is running."""
    async with lives.next() as first:
        await first.caller.start(HELD, run_id="live")
        await first.stage.here("held")


async def test_resume_goes_on_where_the_run_was(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next() as second:
        second.stage.let("held")
        events = await second.caller.events("live")
        assert second.stage.invoked == ["held", "next"]
    assert states(events) == {"done": "succeeded", "held": "succeeded", "next": "succeeded"}
    assert sequences(events) == list(range(1, len(events) + 1))


async def test_a_paused_run_says_so_and_runs_nothing(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(recover="pause") as second:
        run = await second.caller.get("live")
        assert (run.paused, state_of(run.state), run.counts.succeeded) == (True, "running", 1)
        (listed,) = (await second.caller.stub.ListRuns(pb.ListRunsRequest())).runs
        assert listed == run
    assert second.stage.invoked == []


async def test_a_paused_run_can_be_watched(lives: Lives) -> None:
    async with lives.next() as first:
        await first.caller.start(HELD, run_id="live")
        await first.stage.here("held")
        before = first.caller.watch("live")
        await before.until("step_started", "held")
        before.call.cancel()
    async with lives.next(recover="pause") as second, second.caller.watch("live") as watch:
        await watch.until("step_started", "held")
        assert watch.seen == before.seen


async def test_a_paused_run_can_be_cancelled(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(recover="pause") as second:
        watch = second.caller.watch("live")
        await watch.until("step_started", "held")
        assert not (await second.caller.cancel("live", "enough")).paused
        events = await watch.rest()
    assert states(events) == {"done": "succeeded", "held": "cancelled", "next": "skipped"}
    assert state_of(end_of(events).state) == "cancelled"


async def test_a_paused_run_is_not_lost_by_its_caller_meanwhile(lives: Lives) -> None:
    """It is left alone: its window, that is nothing here, begins with the server that goes on with it."""
    async with lives.next() as first:
        first.caller.execute(HELD, run_id="live", window=0)
        await first.stage.here("held")
    async with lives.next(recover="pause") as second:
        async with second.caller.watch("live", attach=True) as watch:
            await watch.until("step_started", "held")
        await settles(lambda: second.server.engine.watchers == 0)
        run = await second.caller.get("live")
        assert (state_of(run.state), run.stopping, run.paused) == ("running", False, True)


async def test_a_paused_run_goes_on_with_the_next_server_that_resumes(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(recover="pause") as second:
        assert (await second.caller.get("live")).paused
    async with lives.next() as third:
        third.stage.let("held")
        events = await third.caller.events("live")
        assert not (await third.caller.get("live")).paused
    assert state_of(end_of(events).state) == "succeeded"


async def test_a_server_that_pauses_what_it_finds_takes_new_runs(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(recover="pause") as second:
        second.stage.let("held")
        assert state_of(end_of(await second.caller.run(HELD, run_id="new")).state) == "succeeded"
        assert (await second.caller.get("live")).paused


async def test_fail_ends_a_run_as_interrupted(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(recover="fail") as second:
        events = await second.caller.events("live")
        assert second.stage.invoked == []
    assert states(events) == {"done": "succeeded", "held": "cancelled", "next": "skipped"}
    result = end_of(events)
    assert (state_of(result.state), [reason_of(failure) for failure in result.failures]) == ("failed", ["interrupted"])


async def test_what_had_ended_is_left_as_it_is(lives: Lives) -> None:
    async with lives.next() as first:
        before = await first.caller.run(flow(step("a")), run_id="ended")
    for how in ("resume", "pause", "fail"):
        async with lives.next(recover=how) as life:
            assert await life.caller.events("ended") == before


async def test_a_run_that_is_ended_instead_of_gone_on_with_takes_no_place(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(recover="pause", max_attempts=1) as second:
        await second.caller.cancel("live")
        await second.caller.events("live")
        assert second.server.engine.attempts_in_flight == 0
    async with lives.next() as third:
        await third.caller.start(HELD, run_id="other")
        await third.stage.here("held")
    async with lives.next(recover="fail", max_attempts=1) as fourth:
        await fourth.caller.events("other")
        assert fourth.server.engine.attempts_in_flight == 0
        fourth.stage.let("held")
        assert state_of(end_of(await fourth.caller.run(HELD, run_id="new")).state) == "succeeded"
