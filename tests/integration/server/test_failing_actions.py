"""Actions that raise or return invalid values: the step fails with a reason, and the server continues to serve."""

import asyncio
import threading
from dataclasses import dataclass
from datetime import date

import pytest

from integration.server.build import end_of, finished, flow, reason_of, state_of, step, value_of
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import GUARD, RawClient
from stepwave import action
from stepwave.v1 import run_pb2


class Odd(BaseException):
    """Raised by an action. It derives from `BaseException` for no good reason."""


async def _fails(client: RawClient, name: str = "bad", *, given: object = None) -> run_pb2.Failure:
    """Run one step that fails, check that the server still serves, and return the failure."""
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
async def test_any_exception_of_an_action_fails_its_step(
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


async def test_stop_iteration_on_a_thread_fails_the_step(serve: Serve, connect: Connect) -> None:
    """A future of asyncio cannot hold a `StopIteration`."""

    @action
    def bad() -> object:
        return next(iter(()))

    assert "StopIteration" in (await _fails(connect(await serve(bad)))).message


async def test_an_action_that_cancels_itself_fails_its_step(serve: Serve, connect: Connect) -> None:
    @action
    async def bad() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(GUARD)

    failure = await _fails(connect(await serve(bad)))
    assert (reason_of(failure), failure.message) == ("action_error", "RuntimeError: the action cancelled itself")


async def test_an_action_that_raises_cancelled_error_fails_its_step(serve: Serve, connect: Connect) -> None:
    @action
    async def bad() -> None:
        raise asyncio.CancelledError

    assert reason_of(await _fails(connect(await serve(bad)))) == "action_error"


async def test_an_exception_that_cannot_be_printed_fails_its_step(serve: Serve, connect: Connect) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even that")

    @action
    async def bad() -> None:
        raise Unprintable

    failure = await _fails(connect(await serve(bad)))
    assert "Unprintable" in failure.message


async def test_an_exception_whose_text_exits_fails_its_step(serve: Serve, connect: Connect) -> None:
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
async def test_an_output_that_json_cannot_hold_fails_its_step(serve: Serve, connect: Connect, value: object) -> None:
    @action
    async def bad() -> object:
        return value

    failure = await _fails(connect(await serve(bad)))
    assert reason_of(failure) == "action_error"
    assert "JSON cannot hold" in failure.message


async def test_dates_and_dataclasses_can_be_outputs(serve: Serve, connect: Connect) -> None:
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


async def test_an_output_that_is_too_large_fails_its_step(serve: Serve, connect: Connect) -> None:
    failure = await _fails(connect(await serve(max_payload_bytes=2_000)), "large_output", given={"size": 3_000})
    assert reason_of(failure) == "resource_exhausted"
    assert "3,002 bytes" in failure.message
