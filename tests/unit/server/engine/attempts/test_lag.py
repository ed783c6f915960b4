"""What blocks the event loop: code that computes, or an action that waits, but not a machine that is busy or asleep."""

import asyncio
import inspect
import selectors
import threading
import traceback

import pytest

from stepwave_server.engine.attempts.lag import LagDetector, Place, Tick, place_of, stack_of

ACTION = Place("tools.py:5", "run/step")
SERVER = Place("local.py:7")
IDLE = Place("selectors.py:468")


class Monitored:
    """A loop that may be blocked for one second. Four samples per second are taken, on injected clocks."""

    def __init__(self) -> None:
        self._detector = LagDetector(threshold=1.0, interval=0.25)
        self._now = self._cpu = 0.0
        self.tick()
        self.pass_time(0.25, IDLE)
        self.tick()

    def tick(self) -> None:
        self._tick = Tick(self._now, self._cpu)

    def pass_time(
        self, seconds: float, place: Place, *, cpu_share: float = 0.0, interval: float = 0.25
    ) -> list[tuple[float, Place]]:
        """Pass time without a tick, and return what was found to block the loop, with the seconds since the last tick.

        Args:
            seconds: The time.
            place: What the loop's thread executes.
            cpu_share: The part of the time for which it uses the CPU.
            interval: The time between two samples. They are late if it is longer than usual.
        """
        found = []
        for _ in range(round(seconds / interval)):
            self._now += interval
            self._cpu += interval * cpu_share
            if (blocking := self._detector.sample(self._tick, self._now, self._cpu, lambda: place)) is not None:
                found.append((self._now - self._tick.time, blocking))
        return found


@pytest.fixture
def loop() -> Monitored:
    return Monitored()


@pytest.mark.parametrize("cpu_share", [1.0, 0.0], ids=["computes", "waits"])
def test_an_action_that_computes_or_waits_is_found_once_after_the_threshold(loop: Monitored, cpu_share: float) -> None:
    assert loop.pass_time(1.0, ACTION, cpu_share=cpu_share) == []
    assert loop.pass_time(5.0, ACTION, cpu_share=cpu_share) == [(1.25, ACTION)]


def test_an_action_is_found_again_after_a_tick(loop: Monitored) -> None:
    loop.pass_time(2.0, ACTION)
    loop.tick()
    assert loop.pass_time(2.0, ACTION) == [(1.25, ACTION)]


def test_the_server_is_found_if_it_uses_the_cpu(loop: Monitored) -> None:
    assert loop.pass_time(2.0, SERVER, cpu_share=1.0) == [(1.25, SERVER)]


def test_the_server_is_not_reported_for_what_an_action_computed_before(loop: Monitored) -> None:
    loop.pass_time(1.0, ACTION, cpu_share=1.0)
    assert loop.pass_time(1.0, SERVER, cpu_share=1.0) == [(1.25, ACTION)]


@pytest.mark.parametrize("place", [SERVER, IDLE], ids=["server", "idle"])
def test_a_loop_that_does_not_get_the_cpu_is_not_blocked(loop: Monitored, place: Place) -> None:
    assert loop.pass_time(60.0, place, cpu_share=0.01) == []


def test_the_cpu_time_before_the_last_tick_does_not_count(loop: Monitored) -> None:
    loop.pass_time(1.0, SERVER, cpu_share=1.0)
    loop.tick()
    assert loop.pass_time(60.0, SERVER) == []


def test_an_action_on_a_starved_machine_does_not_block(loop: Monitored) -> None:
    assert loop.pass_time(3.0, ACTION, cpu_share=0.05, interval=1.0) == []


def test_an_action_on_a_suspended_machine_does_not_block(loop: Monitored) -> None:
    assert loop.pass_time(3600.0, ACTION, interval=3600.0) == []


def test_an_action_that_continues_to_wait_after_a_suspension_is_found(loop: Monitored) -> None:
    loop.pass_time(3600.0, ACTION, interval=3600.0)
    assert loop.pass_time(2.0, ACTION) == [(3601.0, ACTION)]


def test_an_action_that_is_left_in_between_does_not_block_by_waiting(loop: Monitored) -> None:
    for _ in range(10):
        assert loop.pass_time(0.75, ACTION) == []
        assert loop.pass_time(0.25, IDLE) == []


class _RecordingSelector(selectors.DefaultSelector):
    """Records the places at which the loop waits for events."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[Place] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.places.append(place_of([frame for frame, _ in traceback.walk_stack(inspect.currentframe())], ""))
        return super().select(timeout)


def test_a_loop_that_waits_for_events_is_in_no_action() -> None:
    selector = _RecordingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert selector.places
    assert {place.action for place in selector.places} == {""}


def test_the_stack_of_a_thread_is_its_frames_from_the_innermost() -> None:
    inside, leave = threading.Event(), threading.Event()

    def outer() -> None:
        inner()

    def inner() -> None:
        inside.set()
        leave.wait()

    thread = threading.Thread(target=outer)
    thread.start()
    inside.wait()
    try:
        assert thread.ident is not None
        frames = stack_of(thread.ident)
    finally:
        leave.set()
        thread.join()
    names = [frame.f_code.co_name for frame in frames]
    assert names[names.index("inner") :][:3] == ["inner", "outer", "run"]
    assert names[-1] == "_bootstrap"


def test_a_thread_that_has_ended_has_no_stack() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert thread.ident is not None
    assert stack_of(thread.ident) == []
