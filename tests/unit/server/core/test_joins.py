"""Joins: when they are met, and the effect on steps and on losers."""

import pytest

from stepwave_server.core.messages import Invoke
from stepwave_server.core.model import Join, Skip, SkipCause, State
from unit.server.core.build import flow, step
from unit.server.core.driver import Drive

ANY, ALL_DONE = Join.ANY, Join.ALL_DONE


@pytest.mark.parametrize("join", Join)
def test_a_step_without_dependencies_waits_for_nothing(join: Join) -> None:
    drive = Drive.begun(flow(step("a", join=join)))
    assert drive.succeed("a")[-1] == "run succeeded"


# ALL.


def test_all_is_met_by_the_last_success() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b")))
    drive.start("a", "b")
    drive.succeed("b")
    assert drive.waiting() == []
    drive.succeed("a")
    assert drive.waiting() == ["c"]


def test_all_counts_an_allowed_failure_as_met() -> None:
    drive = Drive.begun(flow(step("a", allow_failure=True), step("b"), step("c", "a", "b")))
    drive.fail("a")
    drive.succeed("b")
    assert drive.invoked()["c"] == '{"a":null,"b":1}'


def test_all_does_not_count_a_skip_as_met_even_if_failing_was_allowed() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", allow_failure=True), step("c", "b"), go_on=True))
    drive.fail("a")
    assert drive.skip("c") == Skip(SkipCause.DEPENDENCY, "a")


def test_all_is_lost_only_when_every_dependency_has_ended() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b"), go_on=True))
    drive.start("b")
    assert drive.fail("a") == ["a failed"]
    assert drive.succeed("b") == ["b succeeded", "c skipped", "wave 0 finished", "run failed"]


# ANY.


def test_any_is_met_by_the_first_success() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=ANY)))
    drive.start("a", "b")
    drive.succeed("b", '"b"')
    assert drive.waiting() == ["c"]
    assert drive.invoked()["c"] == '{"a":null,"b":"b"}'


def test_any_waits_on_after_a_failure_or_a_skip() -> None:
    steps = (step("a"), step("b", "a", join=ANY), step("c"), step("d", "a", "b", "c", join=ANY))
    drive = Drive.begun(flow(*steps, go_on=True))
    drive.fail("a")
    assert drive.state("b") is State.SKIPPED
    assert drive.state("d") is State.PENDING
    drive.succeed("c")
    assert drive.waiting() == ["d"]


def test_any_does_not_count_an_allowed_failure_as_met() -> None:
    drive = Drive.begun(flow(step("a", allow_failure=True), step("b", "a", join=ANY)))
    drive.fail("a")
    assert drive.state("b") is State.SKIPPED


def test_any_starts_while_a_dependency_that_others_need_still_runs() -> None:
    steps = (step("a"), step("b"), step("c", "a", "b", join=ANY), step("d", "b"))
    drive = Drive.begun(flow(*steps))
    drive.start("a", "b")
    drive.succeed("a")
    assert drive.succeed("c") == ["c succeeded"]
    assert drive.state("b") is State.RUNNING
    assert drive.interrupts() == []


def test_losers_of_any_are_interrupted_withdrawn_or_never_invoked() -> None:
    steps = (step("a"), step("b"), step("c"), step("x"), step("d", "x"))
    drive = Drive.begun(flow(*steps, step("z", "a", "b", "c", "d", join=ANY)))
    drive.start("a", "b", "x")
    assert drive.succeed("a") == ["a succeeded", "c skipped"]
    assert [interrupt.step_id for interrupt in drive.interrupts()] == ["c", "b"]
    assert drive.end_interrupted("b") == ["b cancelled"]
    assert drive.succeed("x") == ["x succeeded", "d skipped", "wave 0 finished"]
    assert drive.skip("c") == drive.skip("d") == Skip(SkipCause.NOT_NEEDED, "a")
    assert drive.succeed("z")[-1] == "run succeeded"


def test_a_step_may_finish_before_a_loser_it_no_longer_waits_for() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=ANY)))
    drive.start("a", "b")
    drive.succeed("a")
    drive.succeed("c")
    assert drive.end_interrupted("b") == ["b cancelled", "wave 0 finished", "run succeeded"]


def test_a_loser_that_another_step_needs_runs_on() -> None:
    steps = (step("a"), step("b"), step("c", "a", "b", join=ANY), step("d", "b", join=ALL_DONE))
    drive = Drive.begun(flow(*steps))
    drive.start("a", "b")
    drive.succeed("a")
    assert drive.interrupts() == []
    assert drive.succeed("b")[0] == "b succeeded"


def test_a_loser_is_cancelled_when_the_last_join_that_needed_it_is_met() -> None:
    steps = (step("a"), step("b"), step("c"), step("d", "a", "b", join=ANY), step("e", "b", "c", join=ANY))
    drive = Drive.begun(flow(*steps))
    drive.start("a", "b", "c")
    drive.succeed("a")
    assert drive.interrupts() == []
    drive.succeed("c")
    assert [interrupt.step_id for interrupt in drive.interrupts()] == ["b"]


def test_a_loser_whose_output_is_an_output_of_the_run_runs_on() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=ANY), outputs=("b", "c")))
    drive.start("a", "b")
    drive.succeed("a")
    assert drive.interrupts() == []
    drive.succeed("b", '"b"')
    drive.succeed("c", '"c"')
    assert drive.result().outputs == (("b", '"b"'), ("c", '"c"'))


def test_the_input_of_an_any_step_is_fixed_when_it_becomes_ready() -> None:
    steps = (step("a"), step("b"), step("c", "a", "b", join=ANY), step("d", "b"))
    drive = Drive.begun(flow(*steps))
    drive.start("b")
    drive.succeed("a")
    drive.succeed("b")
    assert drive.outstanding["invoke", "c"] == Invoke("c", 1, "echo", '{"a":1,"b":null}')


# ALL_DONE.


def test_all_done_is_met_when_every_dependency_has_ended_whatever_its_state() -> None:
    steps = (step("a"), step("b"), step("c", "a"), step("d", "b"), step("e", "a", "b", "c", "d", join=ALL_DONE))
    drive = Drive.begun(flow(*steps, go_on=True))
    drive.fail("a")
    drive.succeed("b")
    assert drive.waiting() == ["d"]
    drive.succeed("d")
    assert drive.waiting() == ["e"]
    assert drive.invoked()["e"] == '{"a":null,"b":1,"c":null,"d":1}'


def test_all_done_is_skipped_for_the_cancel_and_not_for_a_dependency() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=ALL_DONE), step("d", "c"), go_on=True))
    drive.start("b")
    drive.fail("a")
    drive.cancel()
    drive.end_interrupted("b")
    assert drive.skip("c") == drive.skip("d") == Skip(SkipCause.CANCELLED)


def test_a_met_any_that_is_skipped_is_skipped_for_the_cancel_and_not_for_a_dependency() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=ANY), step("d", "c"), go_on=True))
    drive.fail("a")
    drive.succeed("b")
    drive.cancel()
    assert drive.skip("c") == drive.skip("d") == Skip(SkipCause.CANCELLED)


def test_dependents_of_an_interrupted_step_are_skipped_for_the_failure_that_interrupted_it() -> None:
    steps = (step("a", allow_failure=True), step("b"), step("c", "a", "b", join=ANY), step("d", "c"), step("e"))
    drive = Drive.begun(flow(*steps))
    drive.fail("a")
    drive.succeed("b")
    drive.start("c")
    drive.fail("e")
    drive.end_interrupted("c")
    assert drive.skip("d") == Skip(SkipCause.FAIL_FAST, "e")
