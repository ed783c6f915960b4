"""Attachments of streams to runs: reconnect windows, deadlines, and when a run is cancelled."""

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
    async def cancel(key: RunKey, reason: str) -> None:
        cancelled.append(f"{key.run_id}: {reason}")

    return Attachments(cancel)


@contextmanager
def _stream(loop: ClockedLoop, attachments: Attachments) -> Iterator[Attachment]:
    """Attach to the run while inside, as a stream on the loop does."""

    async def enter() -> Attachment:
        return stack.enter_context(attachments.attach(KEY))

    async def leave() -> None:
        stack.close()

    stack = ExitStack()
    yield loop.run(enter())
    loop.run(leave())


def test_without_a_window_the_last_stream_to_leave_cancels_at_once(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.add(KEY, 0)
    with _stream(loop, attachments):
        assert cancelled == []
    assert cancelled == ["run: the caller went away"]


def test_a_window_begins_when_the_last_stream_has_left(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.add(KEY, 30)
    with _stream(loop, attachments):
        with _stream(loop, attachments):
            pass
        loop.advance(100)
    loop.advance(29.9)
    assert cancelled == []
    loop.advance(0.2)
    assert cancelled == ["run: the caller did not come back"]


def test_a_stream_that_attaches_within_the_window_keeps_the_run(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.add(KEY, 30)
    with _stream(loop, attachments):
        pass
    loop.advance(29)
    with _stream(loop, attachments):
        loop.advance(100)
        assert cancelled == []


def test_every_disconnect_restarts_the_window(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.add(KEY, 30)
    for _ in range(3):
        with _stream(loop, attachments):
            pass
        loop.advance(20)
    assert cancelled == []
    loop.advance(11)
    assert len(cancelled) == 1


def test_a_stream_that_saw_the_end_cancels_nothing(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.add(KEY, 0)
    with _stream(loop, attachments) as attachment:
        attachment.ended = True
    loop.advance(100)
    assert cancelled == []


def test_a_stream_does_not_attach_a_detached_run(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    with _stream(loop, attachments):
        pass
    assert cancelled == []


def test_a_detached_run_goes_on(loop: ClockedLoop, attachments: Attachments, cancelled: list[str]) -> None:
    attachments.add(KEY, 0)
    with _stream(loop, attachments):
        attachments.detach(KEY)
    assert cancelled == []


def test_detaching_within_the_window_stops_its_timer(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.add(KEY, 30)
    with _stream(loop, attachments):
        pass
    attachments.detach(KEY)
    loop.advance(100)
    assert cancelled == []


def test_a_server_that_stops_cancels_no_run(loop: ClockedLoop, attachments: Attachments, cancelled: list[str]) -> None:
    attachments.add(KEY, 0)
    with _stream(loop, attachments):
        attachments.close()
    assert cancelled == []


def test_the_window_of_an_earlier_run_does_not_end_a_later_run_of_the_same_id(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    attachments.add(KEY, 30)
    with _stream(loop, attachments):
        pass
    attachments.add(KEY, 600)
    with _stream(loop, attachments):
        loop.advance(100)
    assert cancelled == []


def test_a_window_that_outlives_its_run_raises_nothing(loop: ClockedLoop) -> None:
    errors: list[object] = []

    async def cancel(key: RunKey, reason: str) -> None:
        raise RunNotFound(key)

    loop.set_exception_handler(lambda _, context: errors.append(context))
    attachments = Attachments(cancel)
    attachments.add(KEY, 30)
    with _stream(loop, attachments):
        pass
    loop.advance(31)
    assert errors == []


def test_a_stream_that_fails_leaves_too(loop: ClockedLoop, attachments: Attachments, cancelled: list[str]) -> None:
    async def fail() -> None:
        with attachments.attach(KEY):
            raise asyncio.CancelledError

    attachments.add(KEY, 0)
    with pytest.raises(asyncio.CancelledError):
        loop.run(fail())
    assert cancelled == ["run: the caller went away"]


def _recover(loop: ClockedLoop, attachments: Attachments, window: float, *, crashed: bool) -> None:
    async def recover() -> None:
        attachments.recover(KEY, window, crashed=crashed)

    loop.run(recover())


def test_a_window_of_zero_does_not_begin_after_an_orderly_stop(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str]
) -> None:
    _recover(loop, attachments, 0, crashed=False)
    loop.advance(3600)
    assert cancelled == []
    with _stream(loop, attachments):
        pass
    assert cancelled == ["run: the caller went away"]


@pytest.mark.parametrize(("window", "crashed"), [(0, True), (30, True), (30, False)])
def test_any_other_window_begins_with_the_next_server(
    loop: ClockedLoop, attachments: Attachments, cancelled: list[str], window: float, crashed: bool
) -> None:
    _recover(loop, attachments, window, crashed=crashed)
    loop.advance(window + 1)
    assert cancelled == ["run: the caller did not come back"]
