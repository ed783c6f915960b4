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
