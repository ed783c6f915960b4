"""Actions that misbehave: each is a failed step with a reason, and the server serves on."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pytest
from pydantic import BaseModel, field_serializer

from integration.server.build import end_of, finished, flow, reason_of, state_of, step, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import GUARD, RawClient
from stepwave import Context, action
from stepwave.v1 import run_pb2


class Odd(BaseException):
    """Raised by an action that means no harm, yet derives from BaseException."""


async def _fails(client: RawClient, name: str = "bad", *, given: object = None) -> run_pb2.Failure:
    """Run one step that fails, see the server serve on, and return the failure."""
    events = await client.run(flow(step("s", name, given=given)))
    assert state_of(end_of(events).state) == "failed"
    after = await client.run(flow(step("s", "core.echo")), given="still there")
    assert value_of(finished(after)["s"].output) == "still there"
    return finished(events)["s"].failure


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        Odd("no"),
        SystemExit("no"),
        KeyboardInterrupt("no"),
        GeneratorExit("no"),
        StopAsyncIteration("no"),
        TimeoutError("no"),
        MemoryError("no"),
        RecursionError("no"),
        ExceptionGroup("no", [ValueError("inner")]),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("threaded", [False, True], ids=["async", "thread"])
async def test_whatever_an_action_raises_is_a_failed_step(
    serve: Serve, connect: Connect, error: BaseException, threaded: bool
) -> None:
    @action("bad")
    async def on_loop() -> None:
        raise error

    @action("bad")
    def on_thread() -> None:
        raise error

    failure = await _fails(connect(await serve(on_thread if threaded else on_loop)))
    assert reason_of(failure) == ("timeout" if isinstance(error, TimeoutError) else "action_error")
    assert "no" in failure.message
    assert failure.details["exception"]


async def test_an_action_on_a_thread_that_raises_stop_iteration_is_a_failed_step(
    serve: Serve, connect: Connect
) -> None:
    """No future of asyncio can carry it."""

    @action
    def bad() -> object:
        return next(iter(()))

    assert "StopIteration" in (await _fails(connect(await serve(bad)))).message


async def test_an_action_that_cancels_itself_is_a_failed_step(serve: Serve, connect: Connect) -> None:
    @action
    async def bad() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(GUARD)

    failure = await _fails(connect(await serve(bad)))
    assert (reason_of(failure), failure.message) == ("action_error", "RuntimeError: the action cancelled itself")


async def test_an_action_that_raises_cancelled_error_is_a_failed_step(serve: Serve, connect: Connect) -> None:
    @action
    async def bad() -> None:
        raise asyncio.CancelledError

    assert reason_of(await _fails(connect(await serve(bad)))) == "action_error"


async def test_an_exception_that_cannot_be_printed_is_a_failed_step(serve: Serve, connect: Connect) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even that")

    @action
    async def bad() -> None:
        raise Unprintable

    failure = await _fails(connect(await serve(bad)))
    assert "Unprintable" in failure.message


async def test_an_exception_whose_text_exits_is_a_failed_step(serve: Serve, connect: Connect) -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise SystemExit

    @action
    async def bad() -> None:
        raise Hostile

    assert "Hostile" in (await _fails(connect(await serve(bad)))).message


async def test_a_failures_details_are_bounded_in_bytes(serve: Serve, connect: Connect) -> None:
    @action
    async def bad() -> None:
        raise ValueError("🙂" * 50_000)

    failure = await _fails(connect(await serve(bad)))
    assert sum(len(key.encode()) + len(value.encode()) for key, value in failure.details.items()) <= 16 * 1024
    assert len(failure.message.encode()) <= 16 * 1024


async def test_tracebacks_can_be_withheld(serve: Serve, connect: Connect) -> None:
    @action
    async def bad() -> None:
        raise ValueError("no")

    failure = await _fails(connect(await serve(bad, tracebacks=False)))
    assert dict(failure.details) == {"exception": "ValueError"}


def _cycle() -> object:
    ring: list[object] = []
    ring.append(ring)
    return ring


def _deep() -> object:
    nest: list[object] = []
    for _ in range(100_000):
        nest = [nest]
    return nest


@pytest.mark.parametrize(
    "value",
    [object(), float("nan"), [float("inf")], {"a": {1: object()}}, _cycle(), _deep(), threading.Lock()],
    ids=["object", "nan", "infinity", "object inside", "cycle", "depth", "lock"],
)
async def test_an_answer_that_json_cannot_hold_is_a_failed_step(serve: Serve, connect: Connect, value: object) -> None:
    @action
    async def bad() -> object:
        return value

    failure = await _fails(connect(await serve(bad)))
    assert reason_of(failure) == "action_error"
    assert "JSON cannot hold" in failure.message


async def test_dates_and_dataclasses_are_answers_that_json_holds(serve: Serve, connect: Connect) -> None:
    @dataclass
    class Day:
        on: date

    @action
    async def fine() -> object:
        return Day(date(2026, 11, 24))

    events = await connect(await serve(fine)).run(flow(step("s", "fine")))
    assert value_of(finished(events)["s"].output) == {"on": "2026-11-24"}


async def test_a_lone_surrogate_survives_as_an_escape(serve: Serve, connect: Connect) -> None:
    @action
    async def fine() -> str:
        return "\ud800"

    events = await connect(await serve(fine)).run(flow(step("s", "fine")))
    assert value_of(finished(events)["s"].output) == "\ud800"


async def test_an_answer_that_is_too_large_is_a_failed_step(serve: Serve, connect: Connect) -> None:
    failure = await _fails(connect(await serve(max_payload_bytes=2_000)), "large_output", given={"size": 3_000})
    assert reason_of(failure) == "resource_exhausted"
    assert "3,002 bytes" in failure.message


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


async def test_a_blocked_thread_fails_by_its_timeout_and_holds_nobody_up(serve: Serve, connect: Connect) -> None:
    let = threading.Event()

    @action
    def bad() -> None:
        let.wait(GUARD)

    client = connect(await serve(bad, max_attempts=1))
    events = await client.run(flow(step("s", "bad", timeout=0.05)))
    result = finished(events)["s"]
    assert reason_of(result.failure) == "timeout"
    assert result.abandoned
    assert state_of(end_of(await client.run(flow(step("t")))).state) == "succeeded"
    let.set()


async def test_more_blocked_threads_than_a_pool_would_hold_stop_nothing(serve: Serve, connect: Connect) -> None:
    let = threading.Event()

    @action
    def bad() -> None:
        let.wait(GUARD)

    @action
    def good() -> str:
        return "ran"

    client = connect(await serve(bad, good))
    stuck = [step(f"s{i}", "bad", timeout=0.05, allow_failure=True) for i in range(60)]
    await client.run(flow(*stuck))
    assert value_of(finished(await client.run(flow(step("t", "good"))))["t"].output) == "ran"
    let.set()


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


async def test_an_answer_that_arrives_in_spite_of_cancellation_counts(
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


async def test_what_clean_up_raises_does_not_hide_why_it_ran(
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


class _Ear(logging.Handler):
    """Hears warnings, from whatever thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[logging.LogRecord] = []
        self.something = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record)
        self.something.set()


@pytest.fixture
def ear() -> Iterator[_Ear]:
    ear = _Ear()
    logger = logging.getLogger("stepwave_server.engine.attempts.lag")
    logger.addHandler(ear)
    yield ear
    logger.removeHandler(ear)


async def test_an_async_action_that_blocks_the_loop_is_named_with_its_place(
    serve: Serve, connect: Connect, ear: _Ear
) -> None:
    @action
    async def bad() -> None:
        ear.something.wait(GUARD)

    await connect(await serve(bad, lag_warning=0.05)).run(flow(step("s", "bad")), run_id="live")
    (record,) = ear.heard
    assert "live/s blocks the event loop for more than 50 ms, at " in record.getMessage()
    assert "test_isolation.py:" in record.getMessage()
    assert "a plain function would run on a thread instead" in record.getMessage()


async def test_a_blocking_call_in_a_helper_is_blamed_on_the_actions_own_line(
    serve: Serve, connect: Connect, ear: _Ear
) -> None:
    async def helper() -> None:
        json.dumps([Waits()], default=lambda _: ear.something.wait(GUARD))

    class Waits:
        pass

    @action
    async def bad() -> None:
        await asyncio.sleep(0)
        await helper()

    await connect(await serve(bad, lag_warning=0.05)).run(flow(step("s", "bad")), run_id="live")
    (record,) = ear.heard
    line = bad.__code__.co_firstlineno + 3
    assert f"test_isolation.py:{line}" in record.getMessage()


async def test_a_task_of_an_action_that_blocks_the_loop_is_not_blamed_on_the_server(
    serve: Serve, connect: Connect, ear: _Ear
) -> None:
    async def blocks() -> None:
        ear.something.wait(GUARD)

    @action
    async def bad() -> None:
        await asyncio.create_task(blocks(), name="blocking")

    await connect(await serve(bad, lag_warning=0.05)).run(flow(step("s", "bad")), run_id="live")
    (record,) = ear.heard
    assert "blocking blocks the event loop" in record.getMessage()
    assert f"test_isolation.py:{blocks.__code__.co_firstlineno + 1}" in record.getMessage()


async def test_what_blocks_while_an_answer_is_written_is_the_actions(serve: Serve, connect: Connect, ear: _Ear) -> None:
    class Slow(BaseModel):
        number: int = 1

        @field_serializer("number")
        def write(self, number: int) -> int:
            ear.something.wait(GUARD)
            return number

    @action
    async def bad() -> object:
        return Slow()

    await connect(await serve(bad, lag_warning=0.05)).run(flow(step("s", "bad")), run_id="live")
    (record,) = ear.heard
    assert "live/s blocks the event loop" in record.getMessage()
    assert "test_isolation.py:" in record.getMessage()


async def test_a_loop_that_is_not_blocked_is_not_warned_of(
    serve: Serve, connect: Connect, controlled: ControlledActions, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(await serve(lag_warning=5))
    with caplog.at_level(logging.WARNING):
        await client.run(flow(*(step(f"s{i}") for i in range(100))))
    assert not caplog.records
