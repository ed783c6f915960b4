"""Messages are prose: no decision and no replay depends on their words."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwave_server.core.decide import decide
from stepwave_server.core.evolve import fold, new_run
from stepwave_server.core.messages import (
    AttemptFailed,
    Event,
    RunFinished,
    RunStopping,
    StepFinished,
    StepRetrying,
)
from stepwave_server.core.model import (
    SECOND,
    Failure,
    FailureCause,
    FallbackAction,
    Join,
    OnInterrupt,
    Reason,
    Workflow,
)
from stepwave_server.core.replay import replay
from stepwave_server.core.state import MAX_INTERRUPTIONS, RunOptions, RunState
from unit.server.core.build import NOWHERE, flow, retry, step
from unit.server.core.driver import EVALUATOR, Drive
from unit.server.core.replays import STOPPED, assert_replays, begun, diverged, walk
from unit.server.core.strategies import soak, workflows
from unit.server.core.wording import REWORDED, VERSION_1_WORDS, OtherWords, as_version_1, reworded

VERSION_1 = RunOptions(version=1)


def attempt_times_out() -> Drive:
    drive = Drive.begun(flow(step("a", timeout=3, retry=retry(2))))
    drive.start("a")
    drive.wait(4)
    drive.end_interrupted("a")
    drive.wait(4)
    drive.start("a")
    drive.wait(600)
    drive.end_interrupted("a", abandoned=True)
    return drive


def fallback_times_out() -> Drive:
    drive = Drive.begun(flow(step("a", timeout=3, fallback=FallbackAction("other"))))
    drive.fail("a")
    drive.start("a")
    drive.wait(4)
    drive.end_interrupted("a")
    return drive


def default_timeout_passes() -> Drive:
    drive = Drive.begun(flow(step("a", fallback='"kept"')))
    drive.start("a")
    drive.wait(600)
    drive.end_interrupted("a")
    return drive


def total_timeout_passes_in_an_attempt() -> Drive:
    drive = Drive.begun(flow(step("a", total_timeout=3)))
    drive.start("a")
    drive.wait(4)
    drive.end_interrupted("a")
    return drive


def total_timeout_passes_before_an_attempt() -> Drive:
    drive = Drive.begun(flow(step("a", total_timeout=3, fallback=FallbackAction("other"))))
    drive.wait(4)
    drive.succeed("a")
    return drive


def total_timeout_passes_between_attempts() -> Drive:
    drive = Drive.begun(flow(step("a", total_timeout=3, retry=retry(9)), step("b"), go_on=True, max_parallelism=1))
    drive.fail_retryably("a")
    drive.start("b")
    drive.wait(4)
    drive.succeed("b")
    return drive


def pause_exceeds_total_timeout() -> Drive:
    drive = Drive.begun(flow(step("a", total_timeout=3, retry=retry(9, pause=5))))
    drive.fail_retryably("a")
    return drive


def run_times_out() -> Drive:
    drive = Drive.begun(flow(step("a"), step("b", "a"), timeout=3))
    drive.start("a")
    drive.wait(4)
    drive.end_interrupted("a")
    return drive


def clean_up_times_out() -> Drive:
    drive = Drive.begun(flow(step("a"), step("b", join=Join.ALL_DONE)))
    drive.start("b")
    drive.fail("a")
    drive.wait(31)
    drive.end_interrupted("b")
    return drive


def cancelled(reason: str) -> Drive:
    drive = Drive.begun(flow(step("a"), step("b", retry=retry(2)), step("c")))
    drive.start("a")
    drive.fail_retryably("b")
    drive.cancel(reason)
    drive.end_interrupted("a")
    return drive


def cancelled_without_reason() -> Drive:
    return cancelled("")


def cancelled_with_reason() -> Drive:
    return cancelled("cancelled: odd\nlines")


def server_stops_the_run() -> Drive:
    drive = Drive.begun(flow(step("a"), step("b")), checked=False)
    drive.start("a")
    drive.stop(STOPPED)
    drive.end_interrupted("a")
    return drive


def fails_fast() -> Drive:
    drive = Drive.begun(flow(step("a"), step("b")))
    drive.start("b")
    drive.fail("a")
    drive.end_interrupted("b")
    return drive


def not_needed() -> Drive:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=Join.ANY)))
    drive.start("b")
    drive.succeed("a")
    drive.end_interrupted("b")
    drive.succeed("c")
    return drive


def lost_once() -> Drive:
    drive = Drive.begun(flow(step("a")))
    drive.start("a")
    drive.lose("a")
    drive.succeed("a")
    return drive


def lost_too_often() -> Drive:
    drive = Drive.begun(flow(step("a")))
    for _ in range(MAX_INTERRUPTIONS + 1):
        drive.start("a")
        drive.lose("a")
    return drive


def lost_without_another_attempt() -> Drive:
    drive = Drive.begun(flow(step("a", on_interrupt=OnInterrupt.FAIL, fallback='"kept"')))
    drive.start("a")
    drive.lose("a")
    return drive


def lost_while_the_run_stops() -> Drive:
    drive = Drive.begun(flow(step("a")))
    drive.start("a")
    drive.cancel("enough")
    drive.lose("a")
    return drive


def drained() -> Drive:
    drive = Drive.begun(flow(step("a"), step("b", on_interrupt=OnInterrupt.FAIL, fallback='"kept"')))
    drive.start("a", "b")
    drive.lose("a", "b", drained=True)
    drive.succeed("a")
    return drive


def no_input() -> Drive:
    drive = Drive.begun(flow(step("a", bindings=(NOWHERE,)), step("b", fallback='"kept"', bindings=(NOWHERE,))))
    drive.finish()
    return drive


def plan_is_idle() -> Drive:
    drive = Drive(flow(step("a")), options=RunOptions(open=True, idle_timeout=3 * SECOND))
    drive.begin()
    drive.finish()
    drive.wait(3)
    return drive


def nested_step_fails() -> Drive:
    drive = Drive.begun(flow(step("sub", body=flow(step("a")), fallback='"kept"'), step("list", over="[1,2]")))
    drive.fail("sub/a")
    drive.fail("list[0]")
    return drive


def nested_workflow_times_out() -> Drive:
    drive = Drive.begun(flow(step("sub", body=flow(step("a")), timeout=3), step("b", total_timeout=9, over="[1]")))
    drive.start("sub/a")
    drive.wait(4)
    drive.end_interrupted("sub/a")
    return drive


def nested_clean_up_times_out() -> Drive:
    drive = Drive.begun(flow(step("sub", body=flow(step("a"), step("b", join=Join.ALL_DONE)))))
    drive.start("sub/b")
    drive.fail("sub/a")
    drive.wait(31)
    drive.end_interrupted("sub/b")
    return drive


def outputs_are_too_large() -> Drive:
    drive = Drive(flow(step("list", over="[1,2]")), options=RunOptions(max_payload_bytes=10))
    drive.begin()
    drive.succeed("list[0]", '"123456"')
    drive.succeed("list[1]", '"123456"')
    return drive


def nobody_completes_the_step() -> Drive:
    drive = Drive.begun(flow(step("a", action="core.wait", timeout=3, retry=retry(2), total_timeout=6), step("b")))
    drive.wait(10)
    return drive


def no_condition() -> Drive:
    drive = Drive.begun(flow(step("a", when="error"), step("b", over="error"), go_on=True))
    drive.finish()
    return drive


NEWER_SCENARIOS = (
    nested_step_fails,
    nested_workflow_times_out,
    nested_clean_up_times_out,
    outputs_are_too_large,
    nobody_completes_the_step,
    no_condition,
    plan_is_idle,
    drained,
)
"""What version 1 of the core could not run."""

SCENARIOS = (
    attempt_times_out,
    fallback_times_out,
    default_timeout_passes,
    total_timeout_passes_in_an_attempt,
    total_timeout_passes_before_an_attempt,
    total_timeout_passes_between_attempts,
    pause_exceeds_total_timeout,
    run_times_out,
    clean_up_times_out,
    cancelled_without_reason,
    cancelled_with_reason,
    server_stops_the_run,
    fails_fast,
    not_needed,
    lost_once,
    lost_too_often,
    lost_without_another_attempt,
    lost_while_the_run_stops,
    no_input,
)

each_scenario = pytest.mark.parametrize("scenario", [*SCENARIOS, *NEWER_SCENARIOS])
each_scenario_of_version_1 = pytest.mark.parametrize("scenario", SCENARIOS)


def failures_of(drive: Drive) -> Iterator[Failure]:
    for event in drive.events:
        match event:
            case StepFinished():
                yield from (failure for failure in (event.failure, event.original) if failure is not None)
            case StepRetrying() | RunStopping():
                yield event.failure
            case RunFinished():
                yield from event.failures


def version_1(drive: Drive) -> RunState:
    return new_run(drive.workflow, drive.run_input, VERSION_1)


def test_the_scenarios_end_and_have_every_cause() -> None:
    drives = [scenario() for scenario in (*SCENARIOS, *NEWER_SCENARIOS)]
    assert all(drive.run.finished is not None for drive in drives)
    causes = {failure.cause for drive in drives for failure in failures_of(drive)}
    assert causes == set(FailureCause)


@each_scenario
def test_a_run_whose_messages_are_all_reworded_decides_the_same_and_replays(scenario: Callable[[], Drive]) -> None:
    usual = scenario()
    with reworded():
        drive = scenario()
        assert_replays(drive)
    assert drive.log() == usual.log()
    decided = [failure for failure in failures_of(drive) if failure.cause is not FailureCause.UNSPECIFIED]
    assert {failure.message for failure in decided if failure != STOPPED} <= {REWORDED}


@each_scenario
def test_a_run_replays_after_every_message_was_reworded(scenario: Callable[[], Drive]) -> None:
    drive = scenario()
    with reworded():
        run = replay(drive.new_run(), drive.events, OtherWords(EVALUATOR))
    assert run.sequence == len(drive.events)


@each_scenario_of_version_1
def test_a_run_of_version_1_replays_after_every_message_was_reworded(scenario: Callable[[], Drive]) -> None:
    drive = scenario()
    with reworded():
        run = replay(version_1(drive), map(as_version_1, drive.events), OtherWords(EVALUATOR))
    assert run.sequence == len(drive.events)


@each_scenario_of_version_1
def test_a_run_of_version_1_that_goes_on_after_every_message_was_reworded_replays(
    scenario: Callable[[], Drive],
) -> None:
    drive = scenario()
    for left_after in range(len(drive.inputs)):
        events: list[Event] = []
        run = version_1(drive)
        for now, sent in drive.inputs[:left_after]:
            events += map(as_version_1, decide(run, sent, now, EVALUATOR).events)
        run = fold(version_1(drive), events)
        with reworded():
            for now, sent in drive.inputs[left_after:]:
                events += decide(run, sent, now, OtherWords(EVALUATOR)).events
            assert replay(version_1(drive), events, OtherWords(EVALUATOR)).sequence == len(events)


@soak(150)
@given(workflows(), st.data())
def test_any_run_whose_messages_are_all_reworded_replays(workflow: Workflow, data: st.DataObject) -> None:
    with reworded():
        assert_replays(walk(begun(workflow, data), data))


@soak(200)
@given(workflows(), st.data())
def test_any_run_replays_after_every_message_was_reworded(workflow: Workflow, data: st.DataObject) -> None:
    drive = walk(begun(workflow, data), data)
    with reworded():
        replay(drive.new_run(), drive.events, OtherWords(EVALUATOR))


@soak(200)
@given(workflows(depth=0), st.data())
def test_any_run_of_version_1_replays_after_every_message_was_reworded(workflow: Workflow, data: st.DataObject) -> None:
    drive = walk(begun(workflow, data, version=1), data)
    with reworded():
        replay(version_1(drive), map(as_version_1, drive.events), OtherWords(EVALUATOR))


@pytest.mark.parametrize("reason", ["", "enough", "cancelled", ": odd\nlines", "cancelled: twice"])
def test_the_reason_of_a_cancel_request_is_data(reason: str) -> None:
    drive = Drive.begun(flow(step("a")))
    with reworded():
        drive.cancel(reason)
    (event,) = drive.of(RunStopping)
    assert (event.failure.message, event.cancel_reason) == (REWORDED, reason)
    assert replay(drive.new_run(), drive.events, EVALUATOR).sequence == len(drive.events)


def test_the_words_of_an_action_are_compared() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.fail("a")
    end = drive.result()
    changed = replace(end, failures=(replace(end.failures[0], message=REWORDED),))
    assert diverged(drive, [*drive.events[:-1], changed]).expected == changed


@pytest.mark.parametrize("message", VERSION_1_WORDS.values())
@pytest.mark.parametrize("reason", Reason)
def test_an_action_may_fail_with_the_words_of_the_scheduler(reason: Reason, message: str) -> None:
    drive = Drive.begun(flow(step("a", retry=retry(2, pause=0))))
    drive.start("a")
    drive.feed(AttemptFailed("a", 1, Failure(reason, message, retryable=True, step_id="a", attempt=1)))
    assert_replays(drive)
