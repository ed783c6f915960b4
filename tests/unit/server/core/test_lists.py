"""Tests of steps that run over a list: their children, places, failures and outputs."""

import pytest

from stepwave_server.core.messages import StepExpanded, StepFinished, StepStarted
from stepwave_server.core.model import Blob, FailureCause, Join, Reason, SkipCause, State
from stepwave_server.core.state import RunOptions
from stepwave_server.core.validate import Limits
from unit.server.core.build import flow, step
from unit.server.core.driver import Drive


def test_a_list_becomes_one_child_for_each_item_and_their_outputs_in_order() -> None:
    drive = Drive.begun(flow(step("pages", over="[7,8,9]"), step("end", "pages")))
    assert drive.log() == ["run started", "wave 0 started", "pages expanded"]
    assert drive.invoked() == {"pages[0]": "7", "pages[1]": "8", "pages[2]": "9"}
    drive.succeed("pages[2]", '"c"')
    drive.succeed("pages[0]", '"a"')
    assert drive.succeed("pages[1]", '"b"') == ["pages[1] succeeded", "pages succeeded", "wave 0 finished"]
    assert drive.finished("pages").output == '["a","b","c"]'
    drive.finish()
    assert drive.result().state is State.SUCCEEDED
    assert drive.result().counts == (0, 0, 5, 0, 0, 0)


def test_children_have_the_wave_of_their_list() -> None:
    drive = Drive.begun(flow(step("a"), step("pages", "a", over="[7]")))
    drive.finish()
    assert [event.wave for event in drive.of(StepStarted) if event.step_id == "pages[0]"] == [1]


def test_an_empty_list_ends_at_once_with_an_empty_output() -> None:
    drive = Drive.begun(flow(step("pages", over="[]"), step("end", "pages")))
    assert drive.finished("pages").output == "[]"
    assert drive.waiting() == ["end"]


def test_a_list_runs_as_many_children_at_once_as_it_may() -> None:
    drive = Drive.begun(flow(step("pages", over="[1,2,3,4]", at_once=2), step("other")))
    assert sorted(drive.waiting()) == ["other", "pages[0]", "pages[1]"]
    drive.succeed("pages[1]")
    assert sorted(drive.waiting()) == ["other", "pages[0]", "pages[2]"]


def test_the_places_of_the_run_bound_the_children_of_all_lists() -> None:
    drive = Drive.begun(flow(step("a", over="[1,2,3]"), step("b", over="[1,2]", at_once=1), max_parallelism=2))
    assert drive.waiting() == ["a[0]", "a[1]"]
    drive.succeed("a[0]")
    assert sorted(drive.waiting()) == ["a[1]", "a[2]"]
    drive.finish()
    assert drive.result().state is State.SUCCEEDED


def test_the_first_failure_interrupts_the_other_children_under_fail_fast() -> None:
    drive = Drive.begun(flow(step("pages", over="[1,2,3]", at_once=2), step("end", "pages")))
    drive.start("pages[0]", "pages[1]")
    drive.fail("pages[0]")
    assert [command.step_id for command in drive.interrupts()] == ["pages[1]"]
    skip = drive.skip("pages[2]")
    assert skip is not None
    assert (skip.cause, skip.step_id) == (SkipCause.FAIL_FAST, "pages[0]")
    drive.end_interrupted("pages[1]")
    failure = drive.finished("pages").failure
    assert failure is not None
    assert failure.cause is FailureCause.NESTED_STEP_FAILED
    assert failure.reason is Reason.ACTION_ERROR
    assert failure.message == 'step "pages[0]" failed: pages[0] broke'
    assert drive.state("end") is State.SKIPPED
    assert drive.result().state is State.FAILED


def test_all_children_run_under_continue_and_the_failures_are_counted() -> None:
    drive = Drive.begun(flow(step("pages", over="[1,2,3]"), go_on=True))
    drive.fail("pages[0]")
    drive.fail("pages[2]")
    assert drive.succeed("pages[1]")[-1] == "run failed"
    failure = drive.finished("pages").failure
    assert failure is not None
    assert failure.message == '2 of 3 items failed; the first: step "pages[0]" failed: pages[0] broke'


def test_an_allowed_failure_of_a_child_leaves_null_in_the_list() -> None:
    drive = Drive.begun(flow(step("pages", over="[1,2]", allow_failure=True)))
    drive.fail("pages[0]")
    drive.succeed("pages[1]", "5")
    assert drive.finished("pages").output == "[null,5]"
    assert drive.result().state is State.SUCCEEDED


def test_a_cancelled_run_skips_the_children_that_have_not_begun() -> None:
    drive = Drive.begun(flow(step("pages", over="[1,2,3]", at_once=1)))
    drive.start("pages[0]")
    drive.cancel()
    assert drive.state("pages[1]") is State.SKIPPED
    drive.end_interrupted("pages[0]")
    assert drive.state("pages") is State.CANCELLED
    assert drive.result().state is State.CANCELLED


def test_a_list_with_too_many_items_for_the_run_fails() -> None:
    drive = Drive(flow(step("pages", over="[1,2,3]")), options=RunOptions(limits=Limits(max_steps=3, max_edges=10)))
    drive.begin()
    failure = drive.finished("pages").failure
    assert failure is not None
    assert failure.reason is Reason.RESOURCE_EXHAUSTED
    assert failure.message == "the run would have 4 steps, and 3 are allowed"


def test_an_output_that_is_too_large_fails_the_list() -> None:
    drive = Drive(flow(step("pages", over="[1,2]")), options=RunOptions(max_payload_bytes=10))
    drive.begin()
    drive.succeed("pages[0]", '"123456"')
    drive.succeed("pages[1]", '"123456"')
    failure = drive.finished("pages").failure
    assert failure is not None
    assert failure.reason is Reason.RESOURCE_EXHAUSTED
    assert failure.message == "its output would have 19 bytes, and 10 are allowed"


def test_a_blob_cannot_be_in_a_list() -> None:
    drive = Drive.begun(flow(step("pages", over="[1]")))
    drive.succeed("pages[0]", Blob("image/png", b"x"))
    failure = drive.finished("pages").failure
    assert failure is not None
    assert failure.message == 'the output of step "pages[0]" is a blob: a list of outputs cannot hold it'


def test_every_child_has_the_fallback_of_the_list() -> None:
    drive = Drive.begun(flow(step("pages", over="[1,2]", fallback='"none"')))
    drive.fail("pages[0]")
    drive.succeed("pages[1]")
    assert drive.finished("pages").output == '["none",1]'


def test_the_total_timeout_of_a_list_bounds_all_its_children() -> None:
    drive = Drive.begun(flow(step("pages", over="[1,2]", at_once=1, total_timeout=5)))
    drive.start("pages[0]")
    assert "pages stopping" in drive.wait(5)
    drive.end_interrupted("pages[0]")
    failure = drive.finished("pages").failure
    assert failure is not None
    assert failure.cause is FailureCause.TOTAL_TIMEOUT
    skip = drive.skip("pages[1]")
    assert skip is not None
    assert skip.cause is SkipCause.TIMEOUT


def test_ten_thousand_children_run() -> None:
    items = ",".join(map(str, range(10_000)))
    drive = Drive.begun(flow(step("pages", over=f"[{items}]", at_once=100)), checked=False)
    drive.finish()
    assert drive.result().state is State.SUCCEEDED
    assert len(drive.of(StepFinished)) == 10_001


@pytest.mark.parametrize("done", [1, 3, 6, 9, 12])
def test_a_list_goes_on_after_a_restart(done: int) -> None:
    drive = Drive.begun(flow(step("pages", over="[1,2,3,4]", at_once=2), step("end", "pages")))
    for _ in range(done):
        if drive.waiting():
            drive.succeed(drive.waiting()[0])
        drive.recover()
    drive.finish()
    assert drive.result().state is State.SUCCEEDED
    assert len(drive.of(StepExpanded)) == 1


def test_the_join_of_a_list_is_not_that_of_its_children() -> None:
    drive = Drive.begun(flow(step("a"), step("pages", "a", over="[1,2]", at_once=1, join=Join.ALL_DONE)))
    drive.succeed("a")
    drive.fail("pages[0]")
    assert drive.state("pages[1]") is State.SKIPPED


def test_the_first_failure_interrupts_the_children_of_a_clean_up_list_too() -> None:
    drive = Drive.begun(flow(step("a"), step("close", "a", over="[1,2]", join=Join.ALL_DONE)))
    drive.succeed("a")
    drive.start("close[1]")
    drive.fail("close[0]")
    assert [command.step_id for command in drive.interrupts()] == ["close[1]"]
