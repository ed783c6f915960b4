"""What a restart does to time and to attempts: deadlines stand, attempts begin anew, and not for ever."""

import asyncio

from integration.durable.lives import Lives
from integration.server.build import end_of, finished, flow, instead, reason_of, retry, state_of, states, step
from stepwave.v1 import workflow_pb2
from stepwave.v1.event_pb2 import RunEvent

SECOND = 1_000_000_000


def _started(events: list[RunEvent], step_id: str) -> list[RunEvent]:
    """Return when attempts of a step started."""
    return [event for event in events if event.HasField("step_started") and event.step_started.step_id == step_id]


async def test_a_runs_timeout_that_passed_meanwhile_fails_it_before_anything_runs(lives: Lives) -> None:
    async with lives.next() as first:
        await first.caller.start(flow(step("held", "gated"), step("next", after=["held"]), timeout=0.4), run_id="live")
        await first.stage.here("held")
    await asyncio.sleep(0.5)  # the time of the timeout
    async with lives.next() as second:
        events = await second.caller.events("live")
        assert second.stage.invoked == []
    assert states(events) == {"held": "cancelled", "next": "skipped"}
    result = end_of(events)
    assert (state_of(result.state), [reason_of(failure) for failure in result.failures]) == ("failed", ["timeout"])


async def test_a_runs_timeout_that_has_not_passed_keeps_its_time(lives: Lives) -> None:
    async with lives.next() as first:
        await first.caller.start(flow(step("held", "gated"), timeout=0.6), run_id="live")
        await first.stage.here("held")
    async with lives.next() as second:
        events = await second.caller.events("live")
    (stopping,) = [event for event in events if event.HasField("run_stopping")]
    due = events[0].run_started.deadline.ToNanoseconds()
    assert 0 <= stopping.time.ToNanoseconds() - due < SECOND
    assert due - events[0].time.ToNanoseconds() == round(0.6 * SECOND)


async def test_an_attempts_timeout_begins_anew_with_the_next_attempt(lives: Lives) -> None:
    async with lives.next() as first:
        await first.caller.start(flow(step("held", "gated", timeout=0.3)), run_id="live")
        await first.stage.here("held")
    await asyncio.sleep(0.4)  # more than the timeout
    async with lives.next() as second:
        events = await second.caller.events("live")
    _, again = _started(events, "held")
    deadline = again.step_started.deadline.ToNanoseconds()
    assert deadline - again.time.ToNanoseconds() == round(0.3 * SECOND)
    failure = finished(events)["held"].failure
    assert (reason_of(failure), failure.attempt) == ("timeout", 2)


async def test_a_pause_that_ended_meanwhile_is_over_and_one_that_did_not_goes_on(lives: Lives) -> None:
    steps = (step("brief", "stumbles", retry=retry(2, 0.2, jitter=0)), step("long", "stumbles", retry=retry(2, 30)))
    async with lives.next() as first:
        first.stage.let_all()
        await first.caller.start(flow(*steps), run_id="live")
        async with first.caller.watch("live") as watch:
            told = [await watch.until("step_retrying") for _ in steps]
    await asyncio.sleep(0.3)  # more than the brief pause
    async with lives.next() as second:
        second.stage.let_all()
        async with second.caller.watch("live") as watch:
            await watch.until("step_finished", "brief")
            assert second.stage.invoked == ["brief"]
            await second.caller.cancel("live")
            events = await watch.rest()
    assert [event for event in events if event.HasField("step_retrying")] == told
    assert states(events) == {"brief": "succeeded", "long": "cancelled"}


async def test_a_fallback_that_ran_is_made_again(lives: Lives) -> None:
    backed = step("a", "core.fail", fallback=instead("gated"))
    async with lives.next() as first:
        await first.caller.start(flow(backed), run_id="live")
        await first.stage.here("a")
    async with lives.next() as second:
        second.stage.let("a")
        result = finished(await second.caller.events("live"))["a"]
    assert (state_of(result.state), result.attempts, result.original_failure.attempt) == ("succeeded", 3, 1)


async def test_times_never_go_back_over_a_restart(lives: Lives) -> None:
    async with lives.next() as first:
        await first.caller.start(flow(step("held", "gated"), step("next", after=["held"])), run_id="live")
        await first.stage.here("held")
    async with lives.next() as second:
        second.stage.let("held")
        times = [event.time.ToNanoseconds() for event in await second.caller.events("live")]
    assert times == sorted(times)


def _once(step_id: str, action: str) -> workflow_pb2.Step:
    """Return a step that wants no second attempt."""
    wanted = step(step_id, action)
    wanted.on_interrupt = workflow_pb2.ON_INTERRUPT_FAIL
    return wanted


async def test_a_step_that_must_not_happen_twice_fails_instead(lives: Lives) -> None:
    async with lives.next() as first:
        await first.caller.start(flow(_once("once", "gated"), step("next", after=["once"])), run_id="live")
        await first.stage.here("once")
    async with lives.next() as second:
        events = await second.caller.events("live")
        assert second.stage.invoked == []
    assert states(events) == {"once": "failed", "next": "skipped"}
    failure = finished(events)["once"].failure
    assert (reason_of(failure), failure.attempt) == ("interrupted", 1)


async def test_a_step_that_must_not_happen_twice_and_has_not_begun_happens_once(lives: Lives) -> None:
    """It waits for its place; only an attempt that was running may have happened."""
    async with lives.next() as first:
        await first.caller.start(flow(step("held", "gated"), _once("once", "noop"), max_parallelism=1), run_id="live")
        await first.stage.here("held")
    async with lives.next() as second:
        second.stage.let("held")
        assert states(await second.caller.events("live")) == {"held": "succeeded", "once": "succeeded"}
        assert second.stage.invoked == ["held", "once"]


async def test_three_interruptions_are_borne(lives: Lives) -> None:
    async with lives.next() as first:
        await first.caller.start(flow(step("held", "gated")), run_id="live")
        await first.stage.here("held")
    for _ in range(2):
        async with lives.next() as life:
            await life.stage.here("held")
    async with lives.next() as last:
        last.stage.let("held")
        result = finished(await last.caller.events("live"))["held"]
    assert (state_of(result.state), result.attempts) == ("succeeded", 4)


async def test_the_fourth_interruption_fails_the_step(lives: Lives) -> None:
    async with lives.next() as first:
        await first.caller.start(flow(step("held", "gated")), run_id="live")
        await first.stage.here("held")
    for _ in range(3):
        async with lives.next() as life:
            await life.stage.here("held")
    async with lives.next() as last:
        events = await last.caller.events("live")
        assert last.stage.invoked == []
    failure = finished(events)["held"].failure
    assert (reason_of(failure), failure.attempt) == ("interrupted", 4)
    assert state_of(end_of(events).state) == "failed"
