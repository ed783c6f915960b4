"""Outputs that a run reuses from an earlier run."""

from stepwave_server.core.messages import Invoke, Started, StepFinished, StepStarted, WaveStarted
from stepwave_server.core.model import Join, State, Workflow
from stepwave_server.core.result import reusable
from unit.server.core.build import flow, step
from unit.server.core.driver import Drive

CHAIN = flow(step("a"), step("b", "a"), step("c", "b"))


def reusing_run(workflow: Workflow, **outputs: str) -> Drive:
    """Return a started run that reuses these outputs."""
    drive = Drive(workflow)
    drive.send(Started(tuple(outputs.items()), "earlier"))
    return drive


def ended(drive: Drive) -> list[StepFinished]:
    return drive.of(StepFinished)


def test_a_reused_step_ends_at_once_with_its_output_and_no_attempt() -> None:
    drive = reusing_run(CHAIN, a='"old"')
    event = drive.finished("a")
    assert (event.state, event.output, event.attempts, event.reused_from) == (State.SUCCEEDED, '"old"', 0, "earlier")
    assert event.start_time is None


def test_dependents_of_a_reused_step_get_its_output() -> None:
    assert reusing_run(CHAIN, a='"old"').requests[-1] == Invoke("b", 1, "echo", '{"a":"old"}')


def test_a_reused_wave_has_no_events() -> None:
    drive = reusing_run(CHAIN, a="1", b="2")
    drive.finish()
    assert [event.wave for event in drive.of(WaveStarted)] == [2]


def test_all_steps_of_a_run_may_be_reused() -> None:
    drive = reusing_run(CHAIN, a="1", b="2", c="3")
    assert drive.of(StepStarted) == []
    assert dict(drive.result().outputs) == {"c": "3"}


def test_steps_that_wait_for_a_place_may_be_reused() -> None:
    drive = reusing_run(flow(step("a"), step("b"), step("c"), max_parallelism=1), b="2")
    drive.finish()
    assert [event.step_id for event in drive.of(StepStarted)] == ["a", "c"]


def test_steps_that_wait_for_their_wave_may_be_reused() -> None:
    drive = reusing_run(flow(step("a"), step("b"), step("c", "a"), by_waves=True), a="1", c="3")
    assert drive.waiting() == ["b"]
    drive.finish()
    assert drive.result().state is State.SUCCEEDED
    assert [event.step_id for event in drive.of(StepStarted)] == ["b"]


def test_a_dependency_that_is_not_needed_any_more_is_not_reused() -> None:
    drive = reusing_run(flow(step("a"), step("b"), step("c", "a", "b", join=Join.ANY)), a="1", b="2")
    assert drive.state("b") is State.SKIPPED
    drive.finish()
    assert drive.result().state is State.SUCCEEDED


def test_a_step_can_be_reused_if_all_its_ancestors_can() -> None:
    workflow = flow(step("a"), step("b"), step("c", "a"), step("d", "b", join=Join.ALL_DONE), go_on=True)
    drive = Drive.begun(workflow)
    drive.succeed("a", "1")
    drive.fail("b")
    drive.succeed("c", "3")
    drive.succeed("d", "4")
    assert dict(reusable(workflow, ended(drive))) == {"a": "1", "c": "3"}


def test_reused_outputs_can_be_reused_again() -> None:
    drive = reusing_run(CHAIN, a="1")
    drive.fail("b")
    assert dict(reusable(CHAIN, ended(drive))) == {"a": "1"}


def test_outputs_come_after_those_they_depend_on() -> None:
    workflow = flow(step("b", "a"), step("a"))
    drive = Drive.begun(workflow)
    drive.finish()
    assert [step_id for step_id, _ in reusable(workflow, ended(drive))] == ["a", "b"]


# Steps that became several.

LIST = flow(step("a"), step("pages", "a", over="[1,2,3]"), step("end", "pages"), go_on=True)


def test_finished_children_of_a_list_that_failed_are_reused() -> None:
    drive = Drive.begun(LIST)
    drive.succeed("a")
    drive.succeed("pages[0]", "10")
    drive.fail("pages[1]")
    drive.succeed("pages[2]", "30")
    outputs = reusable(LIST, ended(drive))
    assert dict(outputs) == {"a": "1", "pages[0]": "10", "pages[2]": "30"}
    again = Drive(LIST)
    again.send(Started(outputs, "earlier"))
    assert again.waiting() == ["pages[1]"]
    again.succeed("pages[1]", "20")
    assert again.finished("pages").output == "[10,20,30]"
    assert [event.reused_from for event in ended(again)] == ["earlier", "earlier", "earlier", "", ""]


def test_children_that_are_reused_take_no_places() -> None:
    one_by_one = flow(step("pages", over="[1,2,3]", at_once=1))
    again = reusing_run(one_by_one, **{"pages[0]": "10", "pages[1]": "20"})
    assert again.waiting() == ["pages[2]"]


def test_a_list_that_succeeded_is_reused_as_a_whole() -> None:
    drive = Drive.begun(LIST)
    drive.succeed("a")
    for item in range(3):
        drive.succeed(f"pages[{item}]")
    drive.fail("end")
    assert dict(reusable(LIST, ended(drive))) == {"a": "1", "pages": "[1,1,1]"}


def test_finished_steps_of_nested_workflows_are_reused_in_whatever_order_they_are_declared() -> None:
    body = flow(step("last", "b"), step("b", "a"), step("a"))
    workflow = flow(step("pages", over="[1,2]", body=body))
    drive = Drive.begun(workflow)
    drive.succeed("pages[0]/a", "1")
    drive.succeed("pages[1]/a", "2")
    drive.succeed("pages[1]/b", "3")
    drive.fail("pages[1]/last")
    outputs = reusable(workflow, ended(drive))
    assert dict(outputs) == {"pages[0]/a": "1", "pages[1]/a": "2", "pages[1]/b": "3"}
    again = Drive(workflow)
    again.send(Started(outputs, "earlier"))
    assert again.waiting() == ["pages[0]/b", "pages[1]/last"]
    again.finish()
    assert again.result().state is State.SUCCEEDED


def test_children_are_reused_only_if_what_their_list_depends_on_is() -> None:
    drive = Drive.begun(flow(step("a"), step("pages", "a", over="[1]", join=Join.ALL_DONE), go_on=True))
    drive.fail("a")
    drive.succeed("pages[0]")
    assert reusable(drive.workflow, ended(drive)) == ()


def test_a_workflow_that_an_action_chose_runs_again_as_a_whole() -> None:
    workflow = flow(step("sub", action="core.workflow"), step("list", over="[1,2]", action="core.workflow"), go_on=True)
    drive = Drive.begun(workflow)
    drive.expand("sub", flow(step("x"), step("y", "x")))
    drive.succeed("sub/x")
    drive.fail("sub/y")
    drive.expand("list[0]", flow(step("x")))
    drive.succeed("list[0]/x", "5")
    drive.fail("list[1]")
    assert dict(reusable(workflow, ended(drive))) == {"list[0]": '{"x":5}'}


def test_a_run_that_reuses_children_goes_on_after_a_restart() -> None:
    again = Drive(LIST)
    again.send(Started((("a", "1"), ("pages[0]", "10")), "earlier"))
    again.recover()
    again.succeed("pages[1]")
    again.recover()
    again.succeed("pages[2]")
    again.finish()
    assert again.finished("pages").output == "[10,1,1]"
