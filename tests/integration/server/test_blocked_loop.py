"""Actions that block the event loop: a warning names the action and the line."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator

import pytest
from pydantic import BaseModel, field_serializer

from integration.server.build import flow, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import GUARD
from stepwave import action

pytestmark = pytest.mark.no_engine("a process watches its own event loop")


class _WarningRecorder(logging.Handler):
    """Records warnings from any thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        self.recorded = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.recorded.set()


@pytest.fixture
def warnings() -> Iterator[_WarningRecorder]:
    warnings = _WarningRecorder()
    logger = logging.getLogger("stepwave_server.engine.attempts.lag")
    logger.addHandler(warnings)
    yield warnings
    logger.removeHandler(warnings)


async def test_an_async_action_that_blocks_the_loop_is_named_with_its_line(
    serve: Serve, connect: Connect, warnings: _WarningRecorder
) -> None:
    @action
    async def bad() -> None:
        warnings.recorded.wait(GUARD)

    await connect(await serve(bad, lag_warning=0.05)).run(flow(step("s", "bad")), run_id="live")
    (record,) = warnings.records
    assert "live/s blocks the event loop for more than 50 ms, at " in record.getMessage()
    assert "test_blocked_loop.py:" in record.getMessage()
    assert "a plain function would run on a thread instead" in record.getMessage()


async def test_a_blocking_call_in_a_helper_is_reported_at_the_actions_own_line(
    serve: Serve, connect: Connect, warnings: _WarningRecorder
) -> None:
    async def helper() -> None:
        json.dumps([Waits()], default=lambda _: warnings.recorded.wait(GUARD))

    class Waits:
        pass

    @action
    async def bad() -> None:
        await asyncio.sleep(0)
        await helper()

    await connect(await serve(bad, lag_warning=0.05)).run(flow(step("s", "bad")), run_id="live")
    (record,) = warnings.records
    line = bad.__code__.co_firstlineno + 3
    assert f"test_blocked_loop.py:{line}" in record.getMessage()


async def test_a_task_of_an_action_that_blocks_the_loop_is_named(
    serve: Serve, connect: Connect, warnings: _WarningRecorder
) -> None:
    async def blocks() -> None:
        warnings.recorded.wait(GUARD)

    @action
    async def bad() -> None:
        await asyncio.create_task(blocks(), name="blocking")

    await connect(await serve(bad, lag_warning=0.05)).run(flow(step("s", "bad")), run_id="live")
    (record,) = warnings.records
    assert "blocking blocks the event loop" in record.getMessage()
    assert f"test_blocked_loop.py:{blocks.__code__.co_firstlineno + 1}" in record.getMessage()


async def test_an_action_that_computes_is_named_with_its_line(
    serve: Serve, connect: Connect, warnings: _WarningRecorder
) -> None:
    @action
    async def bad() -> None:
        while not warnings.recorded.is_set():
            pass

    await connect(await serve(bad, lag_warning=0.05)).run(flow(step("s", "bad")), run_id="live")
    (record,) = warnings.records
    assert "live/s blocks the event loop" in record.getMessage()
    assert "test_blocked_loop.py:" in record.getMessage()


async def test_a_callback_of_an_action_that_blocks_the_loop_is_reported_at_its_line(
    serve: Serve, connect: Connect, warnings: _WarningRecorder
) -> None:
    def blocks(blocked: "asyncio.Future[bool]") -> None:
        blocked.set_result(warnings.recorded.wait(GUARD))

    @action
    async def bad() -> bool:
        loop = asyncio.get_running_loop()
        blocked: asyncio.Future[bool] = loop.create_future()
        loop.call_soon(blocks, blocked)
        return await blocked

    await connect(await serve(bad, lag_warning=0.05)).run(flow(step("s", "bad")), run_id="live")
    (record,) = warnings.records
    place = f"test_blocked_loop.py:{blocks.__code__.co_firstlineno + 1}"
    assert record.getMessage().startswith("a callback blocks the event loop for more than 50 ms, at ")
    assert record.getMessage().endswith(place)


async def test_a_serializer_that_blocks_the_loop_is_reported_for_its_action(
    serve: Serve, connect: Connect, warnings: _WarningRecorder
) -> None:
    class Slow(BaseModel):
        number: int = 1

        @field_serializer("number")
        def write(self, number: int) -> int:
            warnings.recorded.wait(GUARD)
            return number

    @action
    async def bad() -> object:
        return Slow()

    await connect(await serve(bad, lag_warning=0.05)).run(flow(step("s", "bad")), run_id="live")
    (record,) = warnings.records
    assert "live/s blocks the event loop" in record.getMessage()
    assert "test_blocked_loop.py:" in record.getMessage()


async def test_a_loop_that_is_not_blocked_causes_no_warning(
    serve: Serve, connect: Connect, controlled: ControlledActions, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(await serve(lag_warning=5))
    with caplog.at_level(logging.WARNING):
        await client.run(flow(*(step(f"s{i}") for i in range(100))))
    assert not caplog.records
