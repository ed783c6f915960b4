"""Timeouts and attempts over a restart: deadlines stay, and attempts start again a limited number of times."""

import asyncio

from integration.durable.restarts import Restarts
from integration.durable.server_process import ServerProcess, StepControl
from integration.server.build import end_of, fallback_to, finished, flow, reason_of, retry, state_of, states, step
from integration.server.raw_client import RawClient
from stepwave.v1 import run_pb2, workflow_pb2
from stepwave.v1.event_pb2 import RunEvent

SECOND = 1_000_000_000


def _started(events: list[RunEvent], step_id: str) -> list[RunEvent]:
    """Return the start times of the attempts of a step."""
    return [event for event in events if event.HasField("step_started") and event.step_started.step_id == step_id]


async def test_a_run_timeout_that_passed_between_servers_fails_the_run_before_any_step_runs(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(
            flow(step("blocked", "controlled"), step("next", after=["blocked"]), timeout=0.4), run_id="live"
        )
        await first.controlled.wait_started("blocked")
    await asyncio.sleep(0.5)  # the time of the timeout
    async with restarts.start() as second:
        events = await second.client.events("live")
        assert second.controlled.invoked == []
    assert states(events) == {"blocked": "cancelled", "next": "skipped"}
    result = end_of(events)
    assert (state_of(result.state), [reason_of(failure) for failure in result.failures]) == ("failed", ["timeout"])


async def test_a_runs_timeout_that_has_not_passed_keeps_its_time(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(flow(step("blocked", "controlled"), timeout=0.6), run_id="live")
        await first.controlled.wait_started("blocked")
    async with restarts.start() as second:
        events = await second.client.events("live")
    (stopping,) = [event for event in events if event.HasField("run_stopping")]
    due = events[0].run_started.deadline.ToNanoseconds()
    assert 0 <= stopping.time.ToNanoseconds() - due < SECOND
    assert due - events[0].time.ToNanoseconds() == round(0.6 * SECOND)


async def test_an_attempt_timeout_restarts_with_the_next_attempt(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(flow(step("blocked", "controlled", timeout=0.3)), run_id="live")
        await first.controlled.wait_started("blocked")
    await asyncio.sleep(0.4)  # more than the timeout
    async with restarts.start() as second:
        events = await second.client.events("live")
    _, again = _started(events, "blocked")
    deadline = again.step_started.deadline.ToNanoseconds()
    assert deadline - again.time.ToNanoseconds() == round(0.3 * SECOND)
    failure = finished(events)["blocked"].failure
    assert (reason_of(failure), failure.attempt) == ("timeout", 2)


async def test_a_backoff_that_ended_between_servers_is_over_and_a_longer_one_continues(restarts: Restarts) -> None:
    steps = (
        step("brief", "fails_first", retry=retry(2, 0.2, jitter=0)),
        step("long", "fails_first", retry=retry(2, 30)),
    )
    async with restarts.start() as first:
        first.controlled.release_all()
        await first.client.start(flow(*steps), run_id="live")
        async with first.client.watch("live") as watch:
            retrying = [await watch.until("step_retrying") for _ in steps]
    await asyncio.sleep(0.3)  # more than the brief pause
    async with restarts.start() as second:
        second.controlled.release_all()
        async with second.client.watch("live") as watch:
            await watch.until("step_finished", "brief")
            assert second.controlled.invoked == ["brief"]
            await second.client.cancel("live")
            events = await watch.rest()
    assert [event for event in events if event.HasField("step_retrying")] == retrying
    assert states(events) == {"brief": "succeeded", "long": "cancelled"}


async def test_an_interrupted_fallback_runs_again(restarts: Restarts) -> None:
    backed = step("a", "core.fail", fallback=fallback_to("controlled"))
    async with restarts.start() as first:
        await first.client.start(flow(backed), run_id="live")
        await first.controlled.wait_started("a")
    async with restarts.start() as second:
        second.controlled.release("a")
        result = finished(await second.client.events("live"))["a"]
    assert (state_of(result.state), result.attempts, result.original_failure.attempt) == ("succeeded", 3, 1)


async def test_times_never_go_back_over_a_restart(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(flow(step("blocked", "controlled"), step("next", after=["blocked"])), run_id="live")
        await first.controlled.wait_started("blocked")
    async with restarts.start() as second:
        second.controlled.release("blocked")
        times = [event.time.ToNanoseconds() for event in await second.client.events("live")]
    assert times == sorted(times)


def _once(step_id: str, action: str) -> workflow_pb2.Step:
    """Return a step that fails when it is interrupted."""
    wanted = step(step_id, action)
    wanted.on_interrupt = workflow_pb2.ON_INTERRUPT_FAIL
    return wanted


async def test_a_running_step_with_on_interrupt_fail_fails(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(flow(_once("once", "controlled"), step("next", after=["once"])), run_id="live")
        await first.controlled.wait_started("once")
    async with restarts.start() as second:
        events = await second.client.events("live")
        assert second.controlled.invoked == []
    assert states(events) == {"once": "failed", "next": "skipped"}
    failure = finished(events)["once"].failure
    assert (reason_of(failure), failure.attempt) == ("interrupted", 1)


async def test_a_step_with_on_interrupt_fail_that_had_not_started_runs_once(restarts: Restarts) -> None:
    """It waits for a place. Only a running attempt may have had side effects."""
    async with restarts.start() as first:
        await first.client.start(
            flow(step("blocked", "controlled"), _once("once", "noop"), max_parallelism=1), run_id="live"
        )
        await first.controlled.wait_started("blocked")
    async with restarts.start() as second:
        second.controlled.release("blocked")
        assert states(await second.client.events("live")) == {"blocked": "succeeded", "once": "succeeded"}
        assert second.controlled.invoked == ["blocked", "once"]


async def _crash(process: ServerProcess, control: StepControl, times: int) -> None:
    """Start a run with a step that blocks, and kill its server in so many attempts."""
    await process.start()
    client = RawClient(process.address)
    await client.start(flow(step("blocked", "controlled")), run_id="live")
    await client.close()
    for attempt in range(1, times + 1):
        await control.wait_started("live", "blocked", attempt)
        await process.restart()


async def _events(process: ServerProcess) -> list[RunEvent]:
    """Return the events of that run, once it has ended."""
    client = RawClient(process.address)
    events = await client.events("live")
    await client.close()
    return events


async def test_three_crashes_in_a_step_are_retried(process: ServerProcess, control: StepControl) -> None:
    await _crash(process, control, 3)
    control.release("live", "blocked")
    result = finished(await _events(process))["blocked"]
    assert (state_of(result.state), result.attempts) == ("succeeded", 4)


async def test_the_fourth_crash_fails_the_step(process: ServerProcess, control: StepControl) -> None:
    await _crash(process, control, 4)
    events = await _events(process)
    assert process.side_effects.attempts("live", "blocked") == [1, 2, 3, 4]
    failure = finished(events)["blocked"].failure
    assert (reason_of(failure), failure.attempt) == ("interrupted", 4)
    assert failure.cause == run_pb2.FAILURE_CAUSE_ATTEMPT_LOST
    assert state_of(end_of(events).state) == "failed"


async def test_any_number_of_drains_in_a_step_is_retried(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(flow(step("blocked", "controlled")), run_id="live")
        await first.controlled.wait_started("blocked")
    for _ in range(4):
        async with restarts.start() as running:
            await running.controlled.wait_started("blocked")
    async with restarts.start() as last:
        last.controlled.release("blocked")
        events = await last.client.events("live")
    result = finished(events)["blocked"]
    assert (state_of(result.state), result.attempts) == ("succeeded", 6)
    causes = [event.step_retrying.failure.cause for event in events if event.HasField("step_retrying")]
    assert causes == [run_pb2.FAILURE_CAUSE_DRAINED] * 5
