"""Timers of retries, total timeouts, fallbacks and limits, on a loop whose clock the test moves."""

import pytest

from stepwave.v1 import run_pb2
from stepwave_server.core.model import FallbackAction, Retry, Step
from unit.server.engine.clocked_engine import SECOND, EngineHarness

POLICY = Retry(3, 10 * SECOND, jitter=0.0)


BLOCKS = Step("blocks", "blocks", input='{"seconds": 10}')


INSTEAD = FallbackAction("waits")


def test_a_backoff_lasts_as_long_as_the_policy_demands(harness: EngineHarness) -> None:
    harness.releases["a"].set()
    harness.start(Step("a", "fails", retry=POLICY))
    harness.loop.advance(9.9)
    assert harness.kinds()[-1] == "step_retrying"
    harness.loop.advance(0.2)
    assert harness.kinds()[-3:] == ["step_ready", "step_started", "step_retrying"]
    harness.loop.advance(20)
    assert harness.last().run_finished.result.state == run_pb2.STATE_FAILED


def test_a_backoff_begins_when_it_is_committed(harness: EngineHarness) -> None:
    harness.releases["a"].set()
    harness.start(Step("a", "fails", retry=POLICY), prompt=False)
    harness.commit()
    harness.loop.advance(60)
    assert harness.kinds()[-1] == "step_started"
    harness.commit()
    assert harness.kinds()[-1] == "step_retrying"
    harness.loop.turn()
    harness.commit()
    assert harness.kinds()[-2:] == ["step_ready", "step_started"]


def test_a_run_with_total_timeouts_that_ends_leaves_no_timer(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits", total_timeout=60 * SECOND), Step("b", "waits", retry=POLICY))
    harness.release("a")
    harness.release("b")
    assert harness.last().HasField("run_finished")
    before = len(harness.kinds())
    harness.loop.advance(600)
    assert len(harness.kinds()) == before


def test_a_total_timeout_ends_a_step_that_waits_for_admission(single_place: EngineHarness) -> None:
    single_place.start(Step("a", "waits"), Step("b", "waits", total_timeout=5 * SECOND, allow_failure=True))
    single_place.loop.advance(5)
    assert single_place.finished().failure.message == "the step took longer than its total timeout of 5 s"
    single_place.release("a")
    assert single_place.log == ["a began"]
    assert single_place.engine.attempts_in_flight == 0


@pytest.mark.parametrize("fallback", [None, "1", INSTEAD])
def test_an_attempt_that_is_admitted_too_late_releases_its_place_or_hands_it_to_its_fallback(
    single_place: EngineHarness, fallback: str | FallbackAction | None
) -> None:
    late = Step("late", "waits", total_timeout=5 * SECOND, fallback=fallback, allow_failure=True)
    single_place.start(BLOCKS, late, Step("last", "waits"))
    assert single_place.log == (["late began"] if fallback is INSTEAD else ["last began"])
    assert single_place.engine.attempts_in_flight == 1
    single_place.release("late")
    assert single_place.log[-1] == "last began"
    assert single_place.engine.attempts_in_flight == 1
    single_place.release("last")
    assert single_place.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED
    assert single_place.engine.attempts_in_flight == 0


def test_a_fallback_waits_in_the_queue_like_the_attempt_that_it_replaces(single_place: EngineHarness) -> None:
    late = Step("late", "fails", total_timeout=5 * SECOND, fallback=INSTEAD)
    single_place.start(Step("a", "waits"), late)
    single_place.loop.advance(60)
    assert single_place.log == ["a began"]
    single_place.release("a")
    assert single_place.log == ["a began", "late began"]
    single_place.release("late")
    assert single_place.engine.attempts_in_flight == 0
    assert single_place.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED


def test_a_fallback_with_other_limits_takes_over_no_place(limited: EngineHarness) -> None:
    late = Step("late", "waits", total_timeout=5 * SECOND, fallback=FallbackAction("stubborn"))
    limited.start(BLOCKS, late, Step("last", "waits"))
    assert limited.log == ["last began"]
    assert limited.engine.attempts_in_flight == 1
    limited.release("late")
    limited.release("last")
    assert limited.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED
    in_flight = [it.in_flight for action in ("waits", "stubborn") for it in limited.engine.limits(action)]
    assert (limited.engine.attempts_in_flight, in_flight) == (0, [0, 0])


@pytest.mark.parametrize("limited", [2], indirect=True)
def test_an_attempt_that_is_admitted_when_its_fallback_replaces_it_does_not_start(limited: EngineHarness) -> None:
    late = Step("late", "fails", total_timeout=59 * SECOND, fallback=FallbackAction("stubborn"))
    limited.releases["first"].set()
    limited.start(Step("first", "fails", allow_failure=True), Step("blocking", "stubborn"), late)
    limited.loop.advance(60)  # both its total timeout and its turn by the rate
    assert limited.kinds().count("step_started") == 2
    in_flight = {it.actions: it.in_flight for action in ("fails", "stubborn") for it in limited.engine.limits(action)}
    assert (limited.engine.attempts_in_flight, in_flight) == (1, {"fails": 0, "stubborn": 1})
    limited.release("blocking")
    assert limited.kinds().count("step_started") == 3
    limited.release("late")
    assert limited.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED
    assert limited.engine.attempts_in_flight == 0


def test_attempts_that_wait_for_a_rate_start_when_it_allows_them(limited: EngineHarness) -> None:
    for step_id in "abc":
        limited.releases[step_id].set()
    limited.start(*[Step(step_id, "fails", allow_failure=True) for step_id in "abc"])
    starts = [limited.kinds().count("step_started")]
    for _ in range(4):
        limited.loop.advance(30)
        starts.append(limited.kinds().count("step_started"))
    assert starts == [1, 1, 2, 2, 3]
    assert limited.last().HasField("run_finished")


def test_a_cancel_ends_a_backoff_and_its_timer(harness: EngineHarness) -> None:
    harness.releases["a"].set()
    harness.start(Step("a", "fails", retry=POLICY))
    harness.cancel()
    assert harness.finished().state == run_pb2.STATE_CANCELLED
    assert harness.engine.attempts_in_flight == 0
