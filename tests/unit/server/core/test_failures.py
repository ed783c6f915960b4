"""Which failures are handled, and the effect of an unhandled one under either policy."""

import pytest

from stepwave_server.core.messages import StartTimer, Timer
from stepwave_server.core.model import Join, Reason, Skip, SkipCause, State
from stepwave_server.core.state import CLEANUP_GRACE
from unit.server.core.build import NOWHERE, flow, step
from unit.server.core.driver import NOON, Drive

ANY, ALL_DONE = Join.ANY, Join.ALL_DONE
SECONDS = CLEANUP_GRACE // 1_000_000_000


# Handled, or not.


def test_a_failure_fails_the_run() -> None:
    drive = Drive.begun(flow(step("a")))
    assert drive.fail("a") == ["a failed", "wave 0 finished", "run failed"]


def test_an_allowed_failure_fails_neither_the_run_nor_its_dependents() -> None:
    drive = Drive.begun(flow(step("a", allow_failure=True), step("b", "a")))
    drive.fail("a")
    drive.succeed("b")
    assert drive.log()[-1] == "run succeeded"
    assert drive.finished("b").state is State.SUCCEEDED


def test_an_allowed_failure_of_a_step_that_nothing_depends_on_is_handled() -> None:
    drive = Drive.begun(flow(step("a", allow_failure=True)))
    assert drive.fail("a")[-1] == "run succeeded"


def test_a_failure_that_only_clean_up_depends_on_is_handled() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", join=ALL_DONE)))
    drive.fail("a")
    assert drive.succeed("b")[-1] == "run succeeded"


def test_a_failure_is_handled_while_another_step_can_answer_the_join() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=ANY)))
    assert drive.fail("a") == ["a failed"]
    drive.succeed("b")
    assert drive.succeed("c")[-1] == "run succeeded"


def test_a_failure_after_another_step_answered_the_join_is_handled() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=ANY), outputs=("a", "c")))
    drive.start("a")
    drive.succeed("b")
    assert drive.fail("a") == ["a failed", "wave 0 finished"]
    assert drive.succeed("c")[-1] == "run succeeded"


def test_the_failure_of_the_last_step_that_could_meet_a_join_is_not_handled() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=ANY)))
    drive.fail("a")
    assert drive.fail("b") == ["b failed", "c skipped", "wave 0 finished", "run failed"]


@pytest.mark.parametrize("order", ["abc", "acb", "bac", "bca", "cab", "cba"])
def test_a_join_that_nobody_answered_fails_the_run_in_any_order(order: str) -> None:
    allowed = (step("a", allow_failure=True), step("b"), step("c", allow_failure=True))
    drive = Drive.begun(flow(*allowed, step("d", *"abc", join=ANY)))
    for step_id in order:
        drive.fail(step_id)
    assert drive.skip("d") == Skip(SkipCause.DEPENDENCY, "b")
    assert drive.log()[-1] == "run failed"


def test_a_join_that_only_allowed_failures_left_unanswered_does_not_fail_the_run() -> None:
    drive = Drive.begun(flow(step("a", allow_failure=True), step("b", "a", join=ANY), step("c", "b")))
    assert drive.fail("a")[-1] == "run succeeded"
    assert drive.skip("c") == Skip(SkipCause.DEPENDENCY, "a")


def test_a_failure_becomes_unhandled_when_the_last_step_that_could_meet_the_join_is_skipped_for_it() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", join=ANY), step("c", "a", "b", join=ANY), step("d")))
    drive.start("d")
    drive.fail("a")
    assert drive.skip("c") == Skip(SkipCause.DEPENDENCY, "a")
    assert [interrupt.step_id for interrupt in drive.interrupts()] == ["d"]


def test_a_failure_that_one_dependent_cannot_do_without_is_not_handled() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", join=ALL_DONE), step("c", "a"), go_on=True))
    drive.fail("a")
    assert drive.succeed("b")[-1] == "run failed"


def test_a_failure_that_only_steps_no_longer_needed_depend_on_is_handled() -> None:
    steps = (step("a"), step("b", "a"), step("c"), step("d", "b", "c", join=ANY))
    drive = Drive.begun(flow(*steps))
    drive.start("a")
    drive.succeed("c")
    drive.fail("a")
    assert drive.skip("b") == Skip(SkipCause.NOT_NEEDED, "c")
    assert drive.succeed("d")[-1] == "run succeeded"


def test_an_input_that_cannot_be_put_together_is_a_failure_like_any_other() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", bindings=(NOWHERE,)), step("c", "b"), step("d")))
    drive.start("d")
    assert drive.succeed("a")[:3] == ["a succeeded", "b failed", "c skipped"]
    assert [interrupt.step_id for interrupt in drive.interrupts()] == ["d"]


# Fail fast.


def test_fail_fast_interrupts_running_steps_and_skips_the_others() -> None:
    steps = (step("a"), step("b"), step("c"), step("d", "b"), step("e", "a"))
    drive = Drive.begun(flow(*steps))
    drive.start("a", "b")
    assert drive.fail("a") == ["a failed", "c skipped", "e skipped"]
    assert [(one.step_id, one.attempt) for one in drive.interrupts()] == [("c", 1), ("b", 1)]
    assert drive.end_interrupted("b") == ["b cancelled", "d skipped", "wave 0 finished", "run failed"]
    assert drive.skip("c") == drive.skip("d") == Skip(SkipCause.FAIL_FAST, "a")
    assert drive.skip("e") == Skip(SkipCause.DEPENDENCY, "a")


def test_fail_fast_keeps_outputs() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a")))
    drive.succeed("a", '"kept"')
    drive.fail("b")
    assert drive.finished("a").output == '"kept"'
    assert drive.states() == {"a": State.SUCCEEDED, "b": State.FAILED, "c": State.SKIPPED}


def test_fail_fast_still_runs_clean_up() -> None:
    steps = (step("a"), step("b"), step("c", "a", "b", join=ALL_DONE), step("d", "c"))
    drive = Drive.begun(flow(*steps, step("e", "a")))
    drive.start("a", "b")
    drive.fail("a")
    assert drive.end_interrupted("b") == ["b cancelled", "wave 0 finished"]
    assert drive.waiting() == ["c"]
    assert drive.succeed("c") == ["c succeeded", "d skipped", "wave 1 finished", "run failed"]
    assert drive.skip("d") == Skip(SkipCause.FAIL_FAST, "a")


def test_fail_fast_leaves_running_clean_up_alone() -> None:
    drive = Drive.begun(flow(step("a", join=ALL_DONE), step("b")))
    drive.start("a")
    drive.fail("b")
    assert drive.interrupts() == []
    assert drive.succeed("a")[-1] == "run failed"


def test_clean_up_of_a_failed_run_has_thirty_seconds() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", join=ALL_DONE), step("d", "c", join=ALL_DONE)))
    drive.start("a", "b")
    drive.wait(5)
    drive.fail("b")
    drive.end_interrupted("a")
    drive.start("c")
    assert drive.outstanding["cleanup", ""] == StartTimer(Timer("cleanup"), NOON + 5_000_000_000 + CLEANUP_GRACE)
    assert drive.wait(SECONDS - 1) == []
    assert drive.wait(1) == ["run stopping"]
    assert drive.end_interrupted("c") == ["c cancelled", "d skipped", "wave 1 finished", "run failed"]
    assert drive.skip("d") == Skip(SkipCause.TIMEOUT)
    own = [failure for failure in drive.result().failures if not failure.step_id]
    assert [(failure.reason, failure.message) for failure in own] == [
        (Reason.TIMEOUT, "clean-up took longer than 30 s"),
    ]


def test_a_failed_run_without_clean_up_waits_for_interrupted_attempts_only() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", join=ALL_DONE)))
    drive.succeed("a")
    drive.succeed("c")
    drive.fail("b")
    assert Timer("cleanup") not in [command.timer for command in drive.commands if isinstance(command, StartTimer)]
    assert drive.log()[-1] == "run failed"


def test_a_second_failure_changes_nothing_more() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c")))
    drive.start("a", "b", "c")
    drive.fail("a")
    before = len(drive.commands)
    assert drive.fail("b") == ["b failed"]
    assert drive.commands[before:] == []
    drive.end_interrupted("c")
    assert [failure.step_id for failure in drive.result().failures] == ["a", "b"]


def test_the_failure_of_clean_up_is_reported_too() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", join=ALL_DONE), step("c", "a")))
    drive.fail("a")
    drive.fail("b")
    assert [failure.step_id for failure in drive.result().failures] == ["a", "b"]


# Continue.


def test_continue_skips_only_steps_whose_join_cannot_be_met() -> None:
    steps = (step("a"), step("b"), step("c", "a"), step("d", "b"), step("e", "c", "d"))
    drive = Drive.begun(flow(*steps, go_on=True))
    assert drive.fail("a") == ["a failed", "c skipped"]
    drive.succeed("b")
    assert drive.succeed("d") == ["d succeeded", "e skipped", "wave 1 finished", "run failed"]


def test_continue_names_the_root_culprit_all_the_way_down() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a"), step("c", "b"), step("d", "c"), go_on=True))
    drive.fail("a")
    assert [drive.skip(step_id) for step_id in "bcd"] == [Skip(SkipCause.DEPENDENCY, "a")] * 3


def test_of_several_culprits_the_first_to_fail_is_named() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b"), go_on=True))
    drive.fail("b")
    drive.fail("a")
    assert drive.skip("c") == Skip(SkipCause.DEPENDENCY, "b")


def test_a_failed_dependency_is_named_before_an_interrupted_one() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b"), step("x")))
    drive.start("a", "b")
    drive.fail("x")
    drive.end_interrupted("a")
    drive.fail("b")
    assert drive.skip("c") == Skip(SkipCause.DEPENDENCY, "b")


def test_continue_interrupts_nothing_and_reports_every_failure() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c"), go_on=True))
    drive.start("a", "b", "c")
    drive.fail("b")
    drive.fail("a")
    drive.succeed("c")
    assert drive.interrupts() == []
    assert [failure.step_id for failure in drive.result().failures] == ["b", "a"]
    assert drive.log()[-1] == "run failed"


def test_continue_does_not_limit_the_time_of_clean_up() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", join=ALL_DONE), step("c", "a"), go_on=True))
    drive.fail("a")
    drive.start("b")
    assert drive.wait(SECONDS * 2) == []
