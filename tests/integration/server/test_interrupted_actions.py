"""Actions that time out or are cancelled: clean-up is awaited, and attempts that do not end are abandoned."""

import asyncio
import threading

from integration.server.build import end_of, finished, flow, reason_of, state_of, step, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import GUARD, RawClient
from stepwave import Context, action


async def test_an_attempt_that_never_ends_fails_by_its_timeout(
    client: RawClient, controlled: ControlledActions
) -> None:
    events = await client.run(flow(step("s", "controlled", timeout=0.05)))
    failure = finished(events)["s"].failure
    assert (reason_of(failure), failure.retryable) == ("timeout", True)
    assert failure.message == "the attempt took longer than the step's timeout of 0.05 s"
    assert controlled.cancelled == ["s"]


async def test_the_servers_default_timeout_is_named_in_the_failure(serve: Serve, connect: Connect) -> None:
    client = connect(await serve(step_timeout=0.05))
    failure = finished(await client.run(flow(step("s", "controlled"))))["s"].failure
    assert failure.message == "the attempt took longer than the server's default timeout of 0.05 s"


async def test_a_blocked_thread_fails_by_its_timeout_and_delays_no_other_run(serve: Serve, connect: Connect) -> None:
    released = threading.Event()

    @action
    def bad() -> None:
        released.wait(GUARD)

    client = connect(await serve(bad, max_attempts=1))
    events = await client.run(flow(step("s", "bad", timeout=0.05)))
    result = finished(events)["s"]
    assert reason_of(result.failure) == "timeout"
    assert result.abandoned
    assert state_of(end_of(await client.run(flow(step("t")))).state) == "succeeded"
    released.set()


async def test_more_blocked_threads_than_a_pool_has_block_nothing(serve: Serve, connect: Connect) -> None:
    released = threading.Event()

    @action
    def bad() -> None:
        released.wait(GUARD)

    @action
    def good() -> str:
        return "ran"

    client = connect(await serve(bad, good))
    stuck = [step(f"s{i}", "bad", timeout=0.05, allow_failure=True) for i in range(60)]
    await client.run(flow(*stuck))
    assert value_of(finished(await client.run(flow(step("t", "good"))))["t"].output) == "ran"
    released.set()


async def test_an_action_that_swallows_cancellation_is_abandoned_after_its_grace(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    server = await serve(cancel_grace=0.05)
    client = connect(server)
    events = await client.run(flow(step("s", "stubborn", timeout=0.05)))
    result = finished(events)["s"]
    assert (state_of(result.state), reason_of(result.failure), result.abandoned) == ("failed", "timeout", True)
    assert server.engine.attempts_in_flight == 0
    controlled.release("s")


async def test_clean_up_within_the_grace_is_awaited(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    order: list[str] = []

    @action
    async def careful(context: Context) -> None:
        try:
            await controlled.wait_released(context.step_id)
        finally:
            await asyncio.sleep(0)
            order.append("cleaned")

    client = connect(await serve(careful))
    async with client.execute(flow(step("s", "careful")), run_id="live") as run:
        await controlled.wait_started("s")
        await client.cancel("live")
        result = finished(await run.rest())["s"]
        order.append("ended")
    assert order == ["cleaned", "ended"]
    assert (state_of(result.state), result.abandoned) == ("cancelled", False)


async def test_an_output_that_arrives_after_cancellation_counts(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    @action
    async def calm(context: Context) -> str:
        try:
            await controlled.wait_released(context.step_id)
        except asyncio.CancelledError:
            return "saved"
        return "let"

    client = connect(await serve(calm))
    await client.start(flow(step("s", "calm")), run_id="live")
    await controlled.wait_started("s")
    await client.cancel("live")
    events = await client.events("live")
    assert state_of(finished(events)["s"].state) == "succeeded"
    assert value_of(finished(events)["s"].output) == "saved"
    assert state_of(end_of(events).state) == "cancelled"


async def test_an_exception_in_clean_up_does_not_hide_the_cancellation(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    @action
    async def clumsy(context: Context) -> None:
        try:
            await controlled.wait_released(context.step_id)
        finally:
            raise OSError("broke it")

    client = connect(await serve(clumsy))
    await client.start(flow(step("s", "clumsy")), run_id="live")
    await controlled.wait_started("s")
    await client.cancel("live", "enough")
    result = finished(await client.events("live"))["s"]
    assert (state_of(result.state), result.failure.message) == ("cancelled", "cancelled: enough")
