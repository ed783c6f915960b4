"""Tests of the engine's timers, on a loop whose clock the test moves."""

import pytest

from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from stepwave_server.core.model import Join, Step
from stepwave_server.wire.events.encode import Kind
from unit.server.engine.clocked_engine import SECOND, EngineHarness


def test_an_attempts_timeout_counts_from_its_start(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits", timeout=5 * SECOND))
    harness.loop.advance(4.9)
    assert harness.log == ["a began"]
    harness.loop.advance(0.2)
    assert harness.log == ["a began", "a interrupted"]
    assert "run_finished" in harness.kinds()


@pytest.mark.parametrize(("seconds", "state"), [(5, run_pb2.STATE_SUCCEEDED), (6, run_pb2.STATE_FAILED)])
def test_an_answer_counts_until_the_deadline_even_if_the_loop_was_blocked(
    harness: EngineHarness, seconds: int, state: run_pb2.State.ValueType
) -> None:
    harness.start(Step("a", "blocks", input=f'{{"seconds": {seconds}}}', timeout=5 * SECOND))
    assert harness.finished().state == state


def test_an_answer_after_the_deadline_is_a_timeout_like_any_other(harness: EngineHarness) -> None:
    harness.start(Step("a", "blocks", input='{"seconds": 6}', timeout=5 * SECOND))
    failure = harness.finished().failure
    assert (failure.reason, failure.retryable) == (run_pb2.FAILURE_REASON_TIMEOUT, True)
    assert failure.message == "the attempt took longer than the step's timeout of 5 s"
    assert harness.engine.attempts_in_flight == 0


def test_an_answer_after_an_interruption_by_timeout_is_too_late(harness: EngineHarness) -> None:
    harness.start(Step("a", "stubborn", timeout=5 * SECOND))
    harness.loop.advance(6)
    harness.release("a")
    assert (harness.finished().failure.reason, harness.finished().abandoned) == (run_pb2.FAILURE_REASON_TIMEOUT, False)


def test_the_default_timeout_is_ten_minutes(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits"))
    harness.loop.advance(599)
    assert harness.log == ["a began"]
    harness.loop.advance(2)
    assert harness.log == ["a began", "a interrupted"]


def test_a_runs_timeout_counts_from_its_start(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits"), timeout=30)
    harness.loop.advance(29)
    assert "run_stopping" not in harness.kinds()
    harness.loop.advance(2)
    assert harness.kinds()[-1] == "run_finished"
    assert harness.last().run_finished.result.failures[0].message == "the run took longer than its timeout of 30 s"


def test_no_timer_runs_before_its_events_are_committed(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits", timeout=5 * SECOND), timeout=30, prompt=False)
    waiting = harness.journal.pending()
    harness.loop.advance(100)
    assert harness.journal.pending() == waiting
    assert harness.log == []


def test_a_deadline_that_passes_before_its_commit_fires_after_it(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits"), timeout=30, prompt=False)
    harness.loop.advance(100)
    harness.commit()
    harness.loop.advance(0.001)
    assert "run_stopping" in [event.WhichOneof("kind") for event in harness.journal.pending()]


def test_clean_up_within_the_grace_is_awaited(harness: EngineHarness) -> None:
    harness.start(Step("a", "stubborn"))
    harness.cancel()
    harness.loop.advance(9)
    assert "run_finished" not in harness.kinds()
    harness.release("a")
    assert harness.kinds()[-1] == "run_finished"


def test_an_attempt_is_abandoned_when_its_grace_is_over(harness: EngineHarness) -> None:
    harness.start(Step("a", "stubborn"))
    harness.cancel()
    harness.loop.advance(10.1)
    assert harness.kinds()[-1] == "run_finished"
    assert harness.finished().abandoned
    assert harness.engine.attempts_in_flight == 0


def test_a_second_cancel_does_not_prolong_the_grace(harness: EngineHarness) -> None:
    harness.start(Step("a", "stubborn"))
    harness.cancel()
    harness.loop.advance(6)
    harness.cancel()
    harness.loop.advance(4.1)
    assert harness.kinds()[-1] == "run_finished"
    assert harness.log == ["a goes on"]


def test_clean_up_steps_get_thirty_seconds_after_a_failure(harness: EngineHarness) -> None:
    tidy = Step("tidy", "waits", ("bad",), join=Join.ALL_DONE)
    harness.start(Step("bad", "fails"), Step("next", "waits", ("bad",)), tidy)
    harness.release("bad")
    harness.loop.advance(29)
    assert harness.log == ["tidy began"]
    harness.loop.advance(2)
    assert harness.log == ["tidy began", "tidy interrupted"]
    assert harness.kinds()[-1] == "run_finished"


def test_a_run_with_timeouts_that_ends_leaves_no_timer(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits", timeout=5 * SECOND), timeout=30)
    harness.release("a")
    kinds = harness.kinds()
    harness.loop.advance(1_000)
    assert harness.kinds() == kinds


def test_a_silent_watch_sends_heartbeats(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits"))
    got, task = harness.watch()
    harness.loop.advance(0)
    assert len(got) == 1
    harness.loop.advance(14.9)
    assert len(got) == 1
    for expected in (2, 3, 4):
        harness.loop.advance(15)
        assert len(got) == expected
        assert not pb.WatchRunResponse.FromString(got[-1].data).events
    harness.release("a")
    assert task.done()


def test_a_resumed_watch_starts_with_a_heartbeat(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits"))
    got, _ = harness.watch(after=len(harness.kinds()))
    harness.loop.turn()
    (heartbeat,) = [pb.WatchRunResponse.FromString(batch.data) for batch in got]
    assert (list(heartbeat.events), heartbeat.last_sequence) == ([], len(harness.kinds()))


def test_a_watch_with_frequent_events_sends_no_heartbeat(harness: EngineHarness) -> None:
    chain = [Step(f"s{i}", "waits", (f"s{i - 1}",) if i else ()) for i in range(5)]
    harness.start(*chain)
    got, task = harness.watch(Kind.STEP_STARTED)
    for spec in chain:
        harness.loop.advance(10)
        harness.release(spec.id)
    assert task.done()
    assert [batch.last for batch in got] == [False] * 5 + [True]
