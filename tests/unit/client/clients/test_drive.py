"""A driven loop runs its work to the end, whatever its other tasks raise."""

import asyncio
import sys
from collections.abc import Iterator

import pytest

from stepwave import RunFailed, Workflow, action
from stepwave._client.drive import close, drive, new_loop
from stepwave.testing import run_scripted

STRAYS = [SystemExit(3), KeyboardInterrupt()]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Return a loop that is closed after the test."""
    loop = new_loop()
    yield loop
    close(loop)


async def throw(error: BaseException) -> None:
    raise error


def test_the_answer_of_the_work_is_returned(loop: asyncio.AbstractEventLoop) -> None:
    assert drive(loop, asyncio.sleep(0, 1)) == 1


@pytest.mark.parametrize("error", [*STRAYS, LookupError()])
def test_an_exception_of_the_work_is_raised(loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        drive(loop, throw(error))
    assert caught.value is error


@pytest.mark.parametrize("error", STRAYS)
def test_an_exception_of_another_task_does_not_stop_the_loop(
    loop: asyncio.AbstractEventLoop, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> BaseException | None:
        task = asyncio.create_task(throw(error))
        await asyncio.wait({task})
        return task.exception()

    assert drive(loop, work()) is error
    assert f"code of an action raised {type(error).__name__}" in caplog.text
    assert "test_drive.py:" in caplog.text


def test_an_exception_in_a_callback_does_not_stop_the_loop(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> int:
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return 1

    assert drive(loop, work()) == 1
    assert "SystemExit: 3" in caplog.text


def test_an_exception_as_the_work_ends_affects_neither_it_nor_later_work(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def work() -> int:
        asyncio.get_running_loop().call_soon(sys.exit, 3)  # runs after the work ends, before `drive` sees it
        return 1

    assert drive(loop, work()) == 1
    assert loop.run_until_complete(asyncio.sleep(0, 2)) == 2


def test_a_loop_that_is_stopped_continues(loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> int:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return 1

    assert drive(loop, work()) == 1
    assert "stopped the event loop, which goes on" in caplog.text


def test_a_task_that_exits_as_it_is_cancelled_does_not_keep_a_loop_from_closing() -> None:
    loop = new_loop()

    async def exit_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            sys.exit(3)

    async def work() -> "asyncio.Task[None]":
        task = asyncio.create_task(exit_when_cancelled())
        await asyncio.sleep(0)
        return task

    task = drive(loop, work())
    close(loop)
    assert loop.is_closed()
    assert isinstance(task.exception(), SystemExit)


def test_in_a_scripted_run_a_task_that_exits_fails_its_step() -> None:
    @action
    async def leaves() -> None:
        await asyncio.create_task(throw(SystemExit(3)))

    flow = Workflow("flow")
    flow.step("leave", leaves)
    with pytest.raises(RunFailed, match="SystemExit: 3"):
        run_scripted(flow, actions=[leaves])
