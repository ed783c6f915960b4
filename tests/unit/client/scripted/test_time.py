"""Scripted runs in virtual time decide as a server would, at the same times."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stepwave import (
    ActionError,
    Context,
    Event,
    Fallback,
    Retry,
    RunCancelled,
    SkipCause,
    State,
    StepChunk,
    StepRetrying,
    Workflow,
    action,
)
from stepwave.testing import Always, Hangs, RunStuck, ScriptedRun, Takes, run_scripted

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def one(**options: object) -> Workflow:
    """Return a workflow of one step."""
    flow = Workflow("one")
    flow.step("only", "work", **options)  # type: ignore[call-overload]  # a test says what it wants of a step
    return flow


def starts(run: ScriptedRun) -> list[float]:
    """Return the start times of attempts, in seconds."""
    return [attempt.start.total_seconds() for attempt in run.history]


def test_an_hour_of_backoffs_takes_no_real_time_and_is_in_the_events() -> None:
    retry = Retry(max_attempts=7, initial_backoff=600, backoff_multiplier=1, max_backoff=600, jitter=0)
    began = time.monotonic()
    run = run_scripted(one(retry=retry), {"work": [*[ConnectionError()] * 6, "done"]})
    assert time.monotonic() - began < 30
    assert run.elapsed == HOUR
    assert starts(run) == [0, 600, 1200, 1800, 2400, 3000, 3600]
    pauses = [
        event.next_time - event.time for event in run.events if isinstance(event, StepRetrying) and event.next_time
    ]
    assert pauses == [timedelta(minutes=10)] * 6


def test_pauses_grow_by_the_policy() -> None:
    retry = Retry(max_attempts=5, initial_backoff=1, backoff_multiplier=3, max_backoff=20, jitter=0)
    run = run_scripted(one(retry=retry), {"work": ConnectionError()}, check=False)
    assert starts(run) == [0, 1, 4, 13, 33]


def test_jitter_depends_on_the_run_id_alone() -> None:
    retry = Retry(max_attempts=3, initial_backoff=10, jitter=1)

    def drawn(run_id: str) -> list[float]:
        return starts(run_scripted(one(retry=retry), {"work": OSError()}, run_id=run_id, check=False))

    assert drawn("one") == drawn("one") != drawn("other")


def test_retry_after_delays_the_next_attempt() -> None:
    busy = ActionError("slow down", reason="rate_limited", retry_after=120)
    run = run_scripted(one(retry=Retry(max_attempts=2, initial_backoff=1)), {"work": [busy, "done"]})
    assert starts(run) == [0, 120]


def test_an_attempt_that_hangs_meets_its_timeout() -> None:
    retry = Retry(max_attempts=2, initial_backoff=5, jitter=0)
    run = run_scripted(one(timeout=60, retry=retry), {"work": [Hangs(), "done"]})
    assert starts(run) == [0, 65]
    failure = run.history[0].failure
    assert failure is not None
    assert failure.message == "the attempt took longer than the step's timeout of 60 s"


def test_without_a_timeout_of_its_own_an_attempt_has_the_servers() -> None:
    run = run_scripted(one(), {"work": Hangs()}, check=False, step_timeout=90)
    assert run.elapsed == 90 * SECOND


def test_a_scripted_run_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_STEP_TIMEOUT", "90")
    assert run_scripted(one(), {"work": Takes(100)}).elapsed == 100 * SECOND


def test_an_attempt_shorter_than_its_timeout_answers() -> None:
    assert run_scripted(one(timeout=60), {"work": Takes(59, "done")}).elapsed == 59 * SECOND


def test_a_total_timeout_ends_all_attempts_together() -> None:
    retry = Retry(max_attempts=100, initial_backoff=10, backoff_multiplier=1, jitter=0)
    script = {"work": [*[OSError()] * 3, Hangs()]}
    run = run_scripted(one(total_timeout=35, retry=retry), script, check=False)
    assert starts(run) == [0, 10, 20, 30]
    assert run.elapsed == 35 * SECOND


def test_a_fallback_answers_when_the_attempts_are_used_up() -> None:
    options = {"retry": Retry(max_attempts=2, initial_backoff=30, jitter=0), "fallback": Fallback(value="none")}
    run = run_scripted(one(**options), {"work": OSError()})
    assert run.outputs["only"] == "none"
    assert run.elapsed == 30 * SECOND


def test_a_runs_timeout_ends_it() -> None:
    flow = Workflow("two", timeout=HOUR)
    flow.step("slow", "work", timeout=2 * HOUR)
    flow.step("after", "core.echo", depends_on=["slow"])
    run = run_scripted(flow, {"work": Hangs()}, check=False)
    assert (run.state, run.elapsed) == (State.FAILED, HOUR)
    skipped = run.result.steps["after"].skip_reason
    assert skipped is not None
    assert skipped.cause is SkipCause.TIMEOUT


def test_a_cancel_comes_at_its_time_and_ends_a_pause() -> None:
    retry = Retry(max_attempts=2, initial_backoff=30, jitter=0)
    with pytest.raises(RunCancelled) as caught:
        run_scripted(one(retry=retry), {"work": OSError()}, cancel_after=20)
    assert caught.value.result.duration == 20 * SECOND
    assert caught.value.result.steps["only"].state is State.CANCELLED


def test_the_clean_up_of_an_interrupted_attempt_is_waited_for_as_long_as_on_a_server() -> None:
    async def cleans_up(seconds: float) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(seconds)

    flow = Workflow("two", failure_policy="continue")
    flow.step("quick", "work", {"seconds": 3}, timeout=60)
    flow.step("slow", "work", {"seconds": 3_600}, timeout=60)
    run = run_scripted(flow, {"work": cleans_up}, check=False)
    assert [attempt.duration.total_seconds() for attempt in run.history] == [63, 70]
    assert [step.abandoned for step in run.result.steps.values()] == [False, True]


def test_sleeps_of_steps_and_of_actions_take_no_time() -> None:
    @action
    async def naps(seconds: float) -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(seconds)
        return loop.time() - before

    flow = Workflow("two")
    first = flow.step("first", "core.sleep", {"seconds": 500})
    flow.step("second", naps, {"seconds": 400}, depends_on=[first])
    run = run_scripted(flow, actions=[naps])
    assert (run.outputs["second"], run.elapsed) == (400, 900 * SECOND)


def test_steps_that_wait_side_by_side_take_as_long_as_the_longest() -> None:
    flow = Workflow("three")
    for step_id, seconds in (("a", 10), ("b", 30), ("c", 20)):
        flow.step(step_id, "core.sleep", {"seconds": seconds})
    run = run_scripted(flow)
    assert (run.elapsed, run.most_at_once) == (30 * SECOND, 3)


def test_max_parallelism_admits_steps_in_declaration_order() -> None:
    flow = Workflow("five", max_parallelism=2)
    for step_id in "abcde":
        flow.step(step_id, "work")
    run = run_scripted(flow, {"work": [Takes(10), Takes(1), Takes(1), Takes(1), Takes(1)]})
    assert run.order == ("a", "b", "c", "d", "e")
    assert starts(run) == [0, 0, 1, 2, 3]
    assert run.most_at_once == 2


def test_a_pausing_step_gives_its_permit_back() -> None:
    flow = Workflow("two", max_parallelism=1)
    flow.step("a", "work", retry=Retry(max_attempts=2, initial_backoff=30, jitter=0))
    flow.step("b", "core.sleep", {"seconds": 10})
    run = run_scripted(flow, {"work": [OSError(), "done"]})
    assert [(attempt.step_id, attempt.start.total_seconds()) for attempt in run.history] == [
        ("a", 0),
        ("b", 0),
        ("a", 30),
    ]


def test_events_and_deadlines_are_by_the_wall_clock_that_was_asked_for() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)

    async def deadline(context: Context) -> str:
        return str(context.deadline)

    run = run_scripted(one(timeout=60), {"work": Takes(5, deadline)}, start=noon)
    assert run.outputs["only"] == "2026-11-24 12:01:00+00:00"
    assert run.events[-1].time == noon + 5 * SECOND


def noisy() -> Workflow:
    """Return a workflow with many concurrent steps."""
    flow = Workflow("noisy", retry=Retry(max_attempts=3, initial_backoff=1))
    for number in range(5):
        flow.step(f"plain{number}", "plain", {"number": number})
        flow.step(f"flaky{number}", "flaky")
        flow.step(f"sleep{number}", "core.sleep", {"seconds": number})
    flow.step("last", "core.echo", depends_on=[f"flaky{number}" for number in range(5)], join="all_done")
    return flow


def plain(number: int, context: Context) -> int:
    for part in range(number):
        context.emit(part)
        time.sleep(0.001 * ((number * 7) % 3))
    return number


def noise() -> tuple[Event, ...]:
    script = {"plain": plain, "flaky": [OSError(), TimeoutError(), OSError(), *["ok"] * 3, OSError(), Always("ok")]}
    return run_scripted(noisy(), script).events


def test_the_same_script_gives_the_same_events() -> None:
    assert noise() == noise()
    assert any(isinstance(event, StepChunk) for event in noise())


def test_plain_functions_run_one_at_a_time_in_the_order_of_their_starts() -> None:
    log: list[str] = []

    def works(context: Context) -> None:
        log.append(f"{context.step_id} begins")
        time.sleep(0.005 if context.step_id == "a" else 0)
        log.append(f"{context.step_id} ends")

    flow = Workflow("two")
    flow.step("a", "work")
    flow.step("b", "work")
    run_scripted(flow, {"work": works})
    assert log == ["a begins", "a ends", "b begins", "b ends"]


def test_a_plain_action_that_is_not_replaced_runs_on_a_thread_and_takes_no_virtual_time() -> None:
    @action
    def work() -> str:
        time.sleep(0.01)
        return threading.current_thread().name

    run = run_scripted(one(timeout=0.001), actions=[work])
    assert (run.outputs["only"], run.elapsed) == ("stepwave-action", timedelta(0))


def test_an_awaitable_of_a_plain_action_takes_virtual_time() -> None:
    @action
    def work() -> Coroutine[Any, Any, str]:
        async def later() -> str:
            await asyncio.sleep(300)
            return "waited"

        return later()

    run = run_scripted(one(), actions=[work])
    assert (run.outputs["only"], run.elapsed) == ("waited", timedelta(seconds=300))


def test_a_long_stream_that_never_waits_takes_no_virtual_time() -> None:
    @action
    async def work() -> AsyncIterator[int]:
        for number in range(1_000):
            yield number

    run = run_scripted(one(), actions=[work])
    assert (len(run.outputs["only"]), run.elapsed) == (1_000, timedelta(0))


def test_an_open_connection_fails_the_test_and_says_what_to_replace() -> None:
    async def connects() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            await asyncio.get_running_loop().sock_recv(ours, 1)

    with pytest.raises(RunStuck, match="keeps a connection or a process open: replace it by a script"):
        run_scripted(one(), {"work": connects}, patience=0.05)


def test_a_thread_that_never_returns_fails_the_test_and_is_named_with_its_line() -> None:
    done = threading.Event()

    def blocks() -> None:
        done.wait()

    with pytest.raises(RunStuck, match=r"step 'only' \(action 'work'\) does not leave its thread") as caught:
        run_scripted(one(), {"work": blocks}, patience=0.05)
    done.set()
    (note,) = caught.value.__notes__
    assert note.startswith(f"step 'only', attempt 1, work, 0:00:00: under way, at {__file__}:")
    assert note.endswith(".blocks")


@pytest.mark.parametrize("make", [Hangs, lambda: Takes(500)])
def test_nothing_is_left_running(make: Callable[[], object]) -> None:
    before = threading.active_count()
    run_scripted(one(timeout=1), {"work": make()}, check=False)
    assert threading.active_count() <= before
