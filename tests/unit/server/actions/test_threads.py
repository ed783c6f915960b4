"""Threads for actions that are not async."""

import asyncio
import contextvars
import threading

import pytest

from stepwave_server.actions.threads import run_in_thread

GUARD = 20.0

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def test_a_function_runs_on_another_thread() -> None:
    def work(left: int, *, right: int) -> tuple[int, int]:
        return left + right, threading.get_ident()

    answer, thread = await run_in_thread(work, 2, right=3)
    assert answer == 5
    assert thread != threading.get_ident()


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit("no"), KeyboardInterrupt("no")], ids=lambda e: type(e).__name__
)
async def test_an_exception_is_raised_where_the_call_is_awaited(error: BaseException) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error), match="no"):
        await run_in_thread(work)


async def test_context_variables_are_copied_to_the_thread_but_not_back() -> None:
    def work() -> str:
        before = colour.get()
        colour.set("blue")
        return before

    colour.set("red")
    assert await run_in_thread(work) == "red"
    assert colour.get() == "red"


async def test_a_blocked_thread_delays_neither_the_loop_nor_other_threads() -> None:
    release = threading.Event()
    blocked = [asyncio.create_task(run_in_thread(release.wait, GUARD)) for _ in range(50)]
    assert await run_in_thread(lambda: "ran") == "ran"
    release.set()
    assert await asyncio.gather(*blocked) == [True] * 50


async def test_cancellation_does_not_interrupt_the_thread() -> None:
    started, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait(GUARD)
        ended.set()

    task = asyncio.create_task(run_in_thread(work))
    assert await asyncio.to_thread(started.wait, GUARD)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    assert await asyncio.to_thread(ended.wait, GUARD)


async def test_idle_threads_are_reused() -> None:
    first = await run_in_thread(threading.get_ident)
    seen = {await run_in_thread(threading.get_ident) for _ in range(20)}
    assert len(seen | {first}) <= 3


def test_a_call_may_end_after_its_loop_is_closed() -> None:
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(GUARD)
        ended.set()

    async def abandon() -> None:
        task = asyncio.create_task(run_in_thread(work))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(abandon())
    release.set()
    assert ended.wait(GUARD)
