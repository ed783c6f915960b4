"""Tests of conditions: when they are evaluated, and what follows from them."""

from stepwave_server.core.model import Join, SkipCause, State
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import Drive


def test_a_step_whose_condition_is_false_is_skipped_and_so_are_those_that_need_it() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", when="false"), step("c", "b")))
    drive.succeed("a")
    skips = [drive.skip("b"), drive.skip("c")]
    assert [(skip.cause, skip.step_id) for skip in skips if skip] == [
        (SkipCause.CONDITION, ""),
        (SkipCause.DEPENDENCY, "b"),
    ]
    assert drive.result().state is State.SUCCEEDED


def test_a_step_whose_condition_is_true_runs() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", when="true")))
    drive.succeed("a")
    assert drive.waiting() == ["b"]


def test_a_skipped_branch_does_not_keep_an_any_join_from_the_other() -> None:
    drive = Drive.begun(
        flow(
            step("a"),
            step("yes", "a", when="true"),
            step("no", "a", when="false"),
            step("end", "yes", "no", join=Join.ANY),
        )
    )
    drive.finish()
    assert drive.state("end") is State.SUCCEEDED


def test_a_condition_is_evaluated_once_not_before_every_attempt() -> None:
    drive = Drive.begun(flow(step("a", when="true", retry=retry(3))))
    drive.fail_retryably("a")
    drive.wait(1)
    drive.succeed("a")
    assert drive.finished("a").attempts == 2


def test_a_list_whose_condition_is_false_has_no_children() -> None:
    drive = Drive.begun(flow(step("pages", over="[1]", when="false")))
    skip = drive.skip("pages")
    assert skip is not None
    assert skip.cause is SkipCause.CONDITION
    assert list(drive.run.steps) == ["pages"]
