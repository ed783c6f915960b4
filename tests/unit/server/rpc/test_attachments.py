"""Who attachments a run: windows, deadlines, and what becomes of them."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from stepwave_server.core.info import RunKey
from stepwave_server.engine.errors import RunNotFound
from stepwave_server.rpc.attachments import Attachment, Attachments
from unit.server.clocked import ClockedLoop

KEY = RunKey("default", "run")


@pytest.fixture
def cancelled() -> list[str]:
    return []


@pytest.fixture
def attachments(cancelled: list[str]) -> Attachments:
    return Attachments(lambda key, reason: cancelled.append(f"{key.run_id}: {reason}"))


@contextmanager
def _stream(loop: ClockedLoop, attachments: Attachments, remaining: float | None = None) -> Iterator[Attachment]:
    """Attachment the run while inside, as a stream on the loop does."""

    async def enter() -> Attachment:
        return stack.enter_context(attachments.hold(KEY, lambda: remaining))

    async def leave() -> None:
        stack.close()

    stack = ExitStack()
    yield loop.run(enter())
    loop.run(leave())


def test_who_leaves_without_a_window_cancels_at_once(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.begin(KEY, 0)
    with _stream(loop, attachments):
        assert cancelled == []
    assert cancelled == ["run: the caller went away"]


def test_a_window_begins_when_the_last_stream_has_gone(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.begin(KEY, 30)
    with _stream(loop, attachments):
        with _stream(loop, attachments):
            pass
        loop.advance(100)
    loop.advance(29.9)
    assert cancelled == []
    loop.advance(0.2)
    assert cancelled == ["run: the caller did not come back"]


def test_who_comes_back_within_the_window_keeps_the_run(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.begin(KEY, 30)
    with _stream(loop, attachments):
        pass
    loop.advance(29)
    with _stream(loop, attachments):
        loop.advance(100)
        assert cancelled == []


def test_every_leave_begins_the_window_anew(loop: ClockedLoop, attachments: Attachments, cancelled: list[str]) -> None:
    attachments.begin(KEY, 30)
    for _ in range(3):
        with _stream(loop, attachments):
            pass
        loop.advance(20)
    assert cancelled == []
    loop.advance(11)
    assert len(cancelled) == 1


def test_a_passed_deadline_cancels_in_spite_of_the_window(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.begin(KEY, 30)
    with _stream(loop, attachments, remaining=0.01):
        pass
    assert cancelled == ["run: the caller's deadline passed"]


def test_a_deadline_that_has_not_passed_starts_the_window(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.begin(KEY, 30)
    with _stream(loop, attachments, remaining=5):
        pass
    assert cancelled == []


def test_who_saw_the_end_cancels_nothing(loop: ClockedLoop, attachments: Attachments, cancelled: list[str]) -> None:
    attachments.begin(KEY, 0)
    with _stream(loop, attachments) as hold:
        hold.ended = True
    loop.advance(100)
    assert cancelled == []


def test_a_run_that_is_not_held_is_held_by_nobody(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    with _stream(loop, attachments):
        pass
    assert cancelled == []


def test_a_detached_run_goes_on(loop: ClockedLoop, attachments: Attachments, cancelled: list[str]) -> None:
    attachments.begin(KEY, 0)
    with _stream(loop, attachments):
        attachments.detach(KEY)
    assert cancelled == []


def test_detaching_within_the_window_stops_its_clock(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.begin(KEY, 30)
    with _stream(loop, attachments):
        pass
    attachments.detach(KEY)
    loop.advance(100)
    assert cancelled == []


def test_a_server_that_stops_lets_every_run_go_on(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.begin(KEY, 0)
    with _stream(loop, attachments):
        attachments.release_all()
    assert cancelled == []


def test_an_earlier_runs_window_does_not_touch_a_later_run_of_the_same_id(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.begin(KEY, 30)
    with _stream(loop, attachments):
        pass
    attachments.begin(KEY, 600)
    with _stream(loop, attachments):
        loop.advance(100)
    assert cancelled == []


def test_a_window_that_outlives_its_run_harms_nobody(loop: ClockedLoop) -> None:
    complaints: list[object] = []

    def forgotten(key: RunKey, reason: str) -> None:
        raise RunNotFound(key)

    loop.set_exception_handler(lambda _, context: complaints.append(context))
    attachments = Attachments(forgotten)
    attachments.begin(KEY, 30)
    with _stream(loop, attachments):
        pass
    loop.advance(31)
    assert complaints == []


def test_a_stream_that_breaks_lets_go_too(loop: ClockedLoop, attachments: Attachments, cancelled: list[str]) -> None:
    async def breaks() -> None:
        with attachments.hold(KEY, lambda: None):
            raise asyncio.CancelledError

    attachments.begin(KEY, 0)
    with pytest.raises(asyncio.CancelledError):
        loop.run(breaks())
    assert cancelled == ["run: the caller went away"]


def _take_up(loop: ClockedLoop, attachments: Attachments, window: float, *, crashed: bool) -> None:
    async def wait() -> None:
        attachments.wait(KEY, window, crashed=crashed)

    loop.run(wait())


def test_a_window_of_zero_does_not_begin_where_the_earlier_server_stopped_in_order(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    _take_up(loop, attachments, 0, crashed=False)
    loop.advance(3600)
    assert cancelled == []
    with _stream(loop, attachments):
        pass
    assert cancelled == ["run: the caller went away"]


@pytest.mark.parametrize(("window", "crashed"), [(0, True), (30, True), (30, False)])
def test_any_other_window_begins_with_the_next_server(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str], window: float, crashed: bool
) -> None:
    _take_up(loop, attachments, window, crashed=crashed)
    loop.advance(window + 1)
    assert cancelled == ["run: the caller did not come back"]
