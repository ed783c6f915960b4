"""Threads for actions that are not async."""

import asyncio
import contextvars
import threading

import pytest

from stepwave_server.actions.threads import run_in_thread

GUARD = 20.0

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def test_a_function_runs_on_another_thread_and_answers() -> None:
    def work(left: int, *, right: int) -> tuple[int, int]:
        return left + right, threading.get_ident()

    answer, thread = await run_in_thread(work, 2, right=3)
    assert answer == 5
    assert thread != threading.get_ident()


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit("no"), KeyboardInterrupt("no")], ids=lambda e: type(e).__name__
)
async def test_what_it_raises_is_raised_where_it_is_awaited(error: BaseException) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error), match="no"):
        await run_in_thread(work)


async def test_context_variables_go_along_and_do_not_come_back() -> None:
    def work() -> str:
        before = colour.get()
        colour.set("blue")
        return before

    colour.set("red")
    assert await run_in_thread(work) == "red"
    assert colour.get() == "red"


async def test_a_blocked_thread_holds_up_neither_the_loop_nor_others() -> None:
    let = threading.Event()
    blocked = [asyncio.create_task(run_in_thread(let.wait, GUARD)) for _ in range(50)]
    assert await run_in_thread(lambda: "ran") == "ran"
    let.set()
    assert await asyncio.gather(*blocked) == [True] * 50


async def test_who_stops_waiting_leaves_the_thread_alone() -> None:
    begun, let, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        let.wait(GUARD)
        ended.set()

    task = asyncio.create_task(run_in_thread(work))
    assert await asyncio.to_thread(begun.wait, GUARD)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    let.set()
    assert await asyncio.to_thread(ended.wait, GUARD)


async def test_idle_threads_are_used_again() -> None:
    first = await run_in_thread(threading.get_ident)
    seen = {await run_in_thread(threading.get_ident) for _ in range(20)}
    assert len(seen | {first}) <= 3


def test_a_loop_that_is_closed_meanwhile_is_not_told() -> None:
    let, ended = threading.Event(), threading.Event()

    def work() -> None:
        let.wait(GUARD)
        ended.set()

    async def give_up() -> None:
        task = asyncio.create_task(run_in_thread(work))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(give_up())
    let.set()
    assert ended.wait(GUARD)
