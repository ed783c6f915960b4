"""Tests of workflows within a workflow: static ones, those of list items, and those that an action chose."""

from stepwave_server.core.messages import StepExpanded, StepStarted
from stepwave_server.core.model import FailureCause, FallbackAction, Join, Reason, SkipCause, State, Workflow
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import Drive

BODY = flow(step("fetch"), step("parse", "fetch"))


def test_a_nested_workflow_runs_its_steps_under_its_id_and_answers_their_outputs() -> None:
    drive = Drive.begun(flow(step("sub", body=BODY, payload='{"x":1}'), step("end", "sub")))
    assert drive.waiting() == ["sub/fetch"]
    assert drive.invoked()["sub/fetch"] == '{"x":1}'
    drive.succeed("sub/fetch", "2")
    assert drive.invoked()["sub/parse"] == '{"fetch":2}'
    drive.succeed("sub/parse", "3")
    assert drive.finished("sub").output == '{"parse":3}'
    assert drive.finished("sub").action == "core.workflow"
    assert drive.finished("sub").attempts == 0
    drive.finish()
    assert drive.result().state is State.SUCCEEDED


def test_nested_steps_have_the_wave_of_the_step_around_them() -> None:
    drive = Drive.begun(flow(step("a"), step("sub", "a", body=BODY)))
    drive.finish()
    assert {event.wave for event in drive.of(StepStarted) if event.step_id.startswith("sub/")} == {1}


def test_named_outputs_of_a_nested_workflow_are_its_answer() -> None:
    body = flow(step("fetch"), step("parse", "fetch"), outputs=("fetch",))
    drive = Drive.begun(flow(step("sub", body=body)))
    drive.succeed("sub/fetch", "2")
    drive.succeed("sub/parse", "3")
    assert drive.finished("sub").output == '{"fetch":2}'


def test_every_item_goes_through_its_workflow_without_waiting_for_the_others() -> None:
    drive = Drive.begun(flow(step("pages", over="[7,8]", body=BODY)))
    assert drive.waiting() == ["pages[0]/fetch", "pages[1]/fetch"]
    assert drive.invoked()["pages[1]/fetch"] == "8"
    drive.succeed("pages[1]/fetch")
    drive.succeed("pages[1]/parse", "5")
    assert drive.finished("pages[1]").output == '{"parse":5}'
    assert drive.state("pages[0]/fetch") is State.PENDING
    drive.finish()
    assert drive.finished("pages").output == '[{"parse":1},{"parse":5}]'


def test_max_parallelism_of_a_list_counts_items_not_attempts() -> None:
    body = flow(step("a"), step("b"), step("end", "a", "b"))
    drive = Drive.begun(flow(step("pages", over="[1,2]", at_once=1, body=body)))
    assert drive.waiting() == ["pages[0]/a", "pages[0]/b"]
    drive.succeed("pages[0]/a")
    drive.succeed("pages[0]/b")
    assert drive.waiting() == ["pages[0]/end"]
    drive.succeed("pages[0]/end")
    assert drive.waiting() == ["pages[1]/a", "pages[1]/b"]


def test_an_item_that_has_begun_goes_on_before_later_items_begin() -> None:
    drive = Drive.begun(flow(step("pages", over="[1,2,3]", body=BODY), max_parallelism=1))
    order = []
    while drive.waiting():
        order.append(drive.waiting()[0])
        drive.succeed(order[-1])
    assert order == [f"pages[{item}]/{name}" for item in range(3) for name in ("fetch", "parse")]


def test_max_parallelism_of_a_nested_workflow_bounds_its_own_attempts() -> None:
    body = flow(step("a"), step("b"), step("c"), max_parallelism=2)
    drive = Drive.begun(flow(step("sub", body=body), step("other")))
    assert sorted(drive.waiting()) == ["other", "sub/a", "sub/b"]


def test_a_failure_inside_fails_the_step_by_the_nested_policy_alone() -> None:
    body = flow(step("a"), step("b"), go_on=True)
    drive = Drive.begun(flow(step("sub", body=body), step("other")))
    drive.fail("sub/a")
    assert drive.state("other") is State.PENDING
    assert drive.state("sub/b") is State.PENDING
    drive.succeed("sub/b")
    failure = drive.finished("sub").failure
    assert failure is not None
    assert failure.cause is FailureCause.NESTED_STEP_FAILED
    assert failure.message == 'step "sub/a" failed: sub/a broke'
    assert drive.state("other") is State.SKIPPED


def test_an_allowed_failure_of_a_nested_workflow_does_not_fail_the_run() -> None:
    drive = Drive.begun(flow(step("sub", body=BODY, allow_failure=True), step("end", "sub")))
    drive.fail("sub/fetch")
    assert drive.state("sub/parse") is State.SKIPPED
    drive.finish()
    assert drive.result().state is State.SUCCEEDED
    assert drive.invoked()["end"] == '{"sub":null}'


def test_clean_up_inside_runs_after_a_failure_inside() -> None:
    body = flow(step("a"), step("b", "a"), step("close", "a", join=Join.ALL_DONE))
    drive = Drive.begun(flow(step("sub", body=body)))
    drive.fail("sub/a")
    assert drive.waiting() == ["sub/close"]
    drive.succeed("sub/close")
    assert drive.state("sub") is State.FAILED


def test_clean_up_inside_that_takes_too_long_is_stopped() -> None:
    body = flow(step("a"), step("b", "a"), step("close", "a", join=Join.ALL_DONE))
    drive = Drive.begun(flow(step("sub", body=body)))
    drive.fail("sub/a")
    drive.start("sub/close")
    assert drive.wait(30) == ["sub stopping"]
    drive.end_interrupted("sub/close")
    failure = drive.finished("sub").failure
    assert failure is not None
    assert failure.cause is FailureCause.CLEANUP_TIMEOUT


def test_a_failure_outside_interrupts_what_is_inside() -> None:
    drive = Drive.begun(flow(step("sub", body=BODY), step("other")))
    drive.start("sub/fetch")
    drive.fail("other")
    assert [command.step_id for command in drive.interrupts()] == ["sub/fetch"]
    drive.end_interrupted("sub/fetch")
    skip = drive.skip("sub/parse")
    assert skip is not None
    assert (skip.cause, skip.step_id) == (SkipCause.FAIL_FAST, "other")
    assert drive.state("sub") is State.CANCELLED


def test_a_nested_workflow_that_lost_the_race_of_a_join_is_stopped() -> None:
    drive = Drive.begun(flow(step("quick"), step("sub", body=BODY), step("end", "quick", "sub", join=Join.ANY)))
    drive.start("sub/fetch")
    drive.succeed("quick")
    drive.end_interrupted("sub/fetch")
    skip = drive.skip("sub/parse")
    assert skip is not None
    assert (skip.cause, skip.step_id) == (SkipCause.NOT_NEEDED, "quick")
    assert drive.state("sub") is State.CANCELLED
    drive.finish()
    assert drive.result().state is State.SUCCEEDED


def test_the_timeout_of_the_step_bounds_the_nested_workflow() -> None:
    drive = Drive.begun(flow(step("sub", body=BODY, timeout=5)))
    drive.start("sub/fetch")
    assert drive.wait(5) == ["sub stopping"]
    drive.end_interrupted("sub/fetch")
    failure = drive.finished("sub").failure
    assert failure is not None
    assert failure.reason is Reason.TIMEOUT
    assert failure.message == "the nested workflow took longer than its timeout of 5 s"


def test_the_timeout_of_the_nested_workflow_bounds_it_too() -> None:
    drive = Drive.begun(flow(step("sub", body=flow(step("a"), timeout=3), timeout=5)))
    drive.start("sub/a")
    assert drive.wait(3) == ["sub stopping"]


def test_a_nested_workflow_that_failed_has_the_fallback_of_its_step() -> None:
    drive = Drive.begun(flow(step("sub", body=BODY, payload="5", fallback=FallbackAction("echo"))))
    drive.fail("sub/fetch")
    assert drive.waiting() == ["sub"]
    assert drive.invoked()["sub"] == "5"
    drive.succeed("sub", "6")
    assert drive.finished("sub").output == "6"
    assert drive.result().state is State.SUCCEEDED


def test_nested_steps_have_the_default_retry_policy_of_their_own_workflow() -> None:
    drive = Drive.begun(flow(step("sub", body=flow(step("a"), retry=retry(2))), retry=retry(5)))
    drive.fail_retryably("sub/a")
    drive.wait(1)
    drive.fail_retryably("sub/a")
    assert drive.finished("sub/a").attempts == 2


def test_a_nested_workflow_by_waves_waits_for_its_own_waves() -> None:
    body = flow(step("a"), step("b"), step("c", "a"), by_waves=True)
    drive = Drive.begun(flow(step("sub", body=body), step("other")))
    drive.succeed("sub/a")
    assert "sub/c" not in drive.waiting()
    drive.succeed("sub/b")
    assert "sub/c" in drive.waiting()


def test_an_action_chooses_the_workflow_and_its_input() -> None:
    drive = Drive.begun(flow(step("sub", action="core.workflow"), step("end", "sub"), max_parallelism=1))
    chosen = flow(step("x"), step("y", "x"))
    assert drive.expand("sub", chosen, '{"q":1}') == ["sub expanded"]
    assert drive.of(StepExpanded)[0].workflow == chosen
    assert drive.invoked()["sub/x"] == '{"q":1}'
    drive.finish()
    assert drive.finished("sub").output == '{"y":1}'
    assert drive.finished("sub").attempts == 1
    assert drive.result().state is State.SUCCEEDED


def test_workflows_that_actions_choose_are_nested_within_bounds() -> None:
    drive = Drive.begun(flow(step("w", action="core.workflow")))
    inner = flow(step("w", action="core.workflow"))
    path = "w"
    for _ in range(8):
        assert drive.expand(path, inner) == [f"{path} expanded"]
        path += "/w"
    drive.expand(path, inner)
    failure = drive.finished(path).failure
    assert failure is not None
    assert failure.message == "more than 8 workflows would be nested"
    assert drive.result().state is State.FAILED


def test_workflows_are_nested_in_workflows() -> None:
    deep: Workflow = flow(step("leaf"))
    for _ in range(7):
        deep = flow(step("w", body=deep))
    drive = Drive.begun(deep)
    assert drive.waiting() == ["w/w/w/w/w/w/w/leaf"]
    drive.finish()
    assert drive.result().state is State.SUCCEEDED


def test_the_places_of_an_action_that_chose_a_workflow_go_to_its_own_steps_first() -> None:
    drive = Drive.begun(flow(step("sub", action="core.workflow"), step("other"), max_parallelism=1))
    drive.expand("sub", flow(step("x"), max_parallelism=1))
    assert drive.waiting() == ["sub/x"]


def test_a_step_is_cancelled_if_its_nested_workflow_ran_and_its_fallback_did_not_begin() -> None:
    drive = Drive.begun(flow(step("sub", body=BODY, fallback=FallbackAction("other"))))
    drive.fail("sub/fetch")
    drive.cancel()
    assert drive.state("sub") is State.CANCELLED
    assert drive.finished("sub").start_time is not None
