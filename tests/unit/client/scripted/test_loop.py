"""The event loop of scripted runs: its clock jumps to timers, and stands still for threads and connections."""

import asyncio
import math
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from typing import TypeVar

import pytest

from stepwave._scripted.loop import VirtualLoop
from stepwave._scripted.script import RunStuck

T = TypeVar("T")

HOUR = 3_600
EPOCH = 4_000_000_000 * 1_000_000_000


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop(EPOCH, patience=60)
    yield loop
    loop.shut_down()


def run(loop: VirtualLoop, work: Coroutine[object, object, T]) -> T:
    return loop.run_until_complete(work)


def test_a_sleep_takes_virtual_time_only(loop: VirtualLoop) -> None:
    began = time.monotonic()
    run(loop, asyncio.sleep(24 * HOUR))
    assert loop.time() == 24 * HOUR
    assert time.monotonic() - began < 10


def test_the_wall_clock_moves_along_to_the_nanosecond(loop: VirtualLoop) -> None:
    run(loop, asyncio.sleep(0.000_000_007))
    run(loop, asyncio.sleep(HOUR))
    assert loop.nanos() == EPOCH + 7 + HOUR * 1_000_000_000
    assert datetime.fromtimestamp(EPOCH / 1e9, UTC).year == 2096


def test_shorter_sleeps_end_sooner(loop: VirtualLoop) -> None:
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append(loop.time())

    async def all_of_them() -> None:
        await asyncio.gather(*map(sleep, (HOUR, 0.5, 60)))

    run(loop, all_of_them())
    assert woken == [0.5, 60, HOUR]


def test_a_timeout_passes_in_virtual_time(loop: VirtualLoop) -> None:
    async def wait() -> None:
        async with asyncio.timeout(90):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run(loop, wait())
    assert loop.time() == 90


def test_time_stands_still_while_a_thread_works(loop: VirtualLoop) -> None:
    async def work() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(time.sleep, 0.05)

    run(loop, work())
    assert loop.time() == 0


def test_time_stands_still_while_a_connection_is_open(loop: VirtualLoop) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def receive() -> bytes:
        async with asyncio.timeout(0.001):
            return await loop.sock_recv(ours, 10)

    with ours, theirs:
        sender = threading.Timer(0.05, theirs.send, [b"hello"])
        sender.start()
        assert run(loop, receive()) == b"hello"
        sender.join()
    assert loop.time() == 0


def test_work_on_threads_is_done_one_at_a_time_and_in_order(loop: VirtualLoop) -> None:
    log: list[str] = []

    def work(name: str, seconds: float) -> None:
        log.append(f"{name} begins")
        time.sleep(seconds)
        log.append(f"{name} ends")

    async def both() -> None:
        first = loop.in_turn("first", lambda: asyncio.to_thread(work, "first", 0.02))
        second = loop.in_turn("second", lambda: asyncio.to_thread(work, "second", 0))
        await asyncio.gather(first, second)

    run(loop, both())
    assert log == ["first begins", "first ends", "second begins", "second ends"]


def test_work_on_threads_waits_until_nothing_else_can_happen_now(loop: VirtualLoop) -> None:
    log: list[str] = []

    async def busy() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        log.append("busy")

    async def both() -> None:
        thread = loop.in_turn("thread", lambda: asyncio.to_thread(log.append, "thread"))
        await asyncio.gather(thread, busy())

    run(loop, both())
    assert log == ["busy", "thread"]


def test_a_cancelled_wait_for_a_turn_blocks_no_other(loop: VirtualLoop) -> None:
    async def give_up() -> str:
        first = asyncio.create_task(loop.in_turn("first", lambda: asyncio.to_thread(time.sleep, 60)))
        await asyncio.sleep(0)
        first.cancel()
        return await loop.in_turn("second", lambda: asyncio.to_thread(lambda: "done"))

    assert run(loop, give_up()) == "done"


def test_a_thread_that_blocks_virtual_time_is_named() -> None:
    loop = VirtualLoop(EPOCH, patience=0.05)
    done = threading.Event()
    with pytest.raises(
        RunStuck, match=r"for 0\.05 s, step 'a' does not leave its thread, and virtual time stands still"
    ):
        run(loop, loop.in_turn("step 'a'", lambda: asyncio.to_thread(done.wait)))
    done.set()
    loop.shut_down()


def test_patience_may_be_infinite() -> None:
    loop = VirtualLoop(EPOCH, patience=math.inf)
    assert run(loop, asyncio.to_thread(lambda: "done")) == "done"
    loop.shut_down()


def test_a_deadlock_is_reported(loop: VirtualLoop) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RunStuck, match="nothing is left to wait for"):
        run(loop, wait())


def test_an_endless_spin_is_reported(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_max_turns", 1_000)

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - what must not be done is done here
            await asyncio.sleep(0)

    with pytest.raises(RunStuck, match="an action spins"):
        run(loop, spin())


@pytest.mark.parametrize("pause", [0, HOUR])
def test_a_task_that_ignores_its_cancellation_is_abandoned(pause: float) -> None:
    loop = VirtualLoop(EPOCH, patience=60)

    async def ignore_cancellation() -> None:
        while True:
            try:
                await asyncio.sleep(pause)
            except asyncio.CancelledError:
                continue

    async def begin() -> None:
        loop.set_exception_handler(lambda _, __: None)  # it is called for abandoned tasks
        tasks.append(asyncio.create_task(ignore_cancellation()))

    tasks: list[asyncio.Task[None]] = []
    run(loop, begin())
    loop.shut_down()
    assert loop.is_closed()
