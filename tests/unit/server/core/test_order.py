"""Events of one input: the finished step, skips in declaration order, finished waves, then started steps."""

from stepwave_server.core.messages import Invoke
from stepwave_server.core.model import Join
from unit.server.core.build import NOWHERE, flow, step
from unit.server.core.driver import Drive


def test_events_of_one_input_come_in_their_order() -> None:
    steps = (step("x"), step("d", "a"), step("c", "a"), step("a"), step("b", "c", join=Join.ALL_DONE))
    drive = Drive.begun(flow(*steps, go_on=True))
    drive.succeed("x")
    assert drive.fail("a") == ["a failed", "d skipped", "c skipped", "wave 0 finished"]
    assert drive.start("b") == ["wave 2 started", "b started"]


def test_a_skip_comes_after_those_of_its_dependencies_though_it_was_declared_first() -> None:
    drive = Drive.begun(flow(step("d", "c"), step("c", "b"), step("b", "a"), step("e", "a"), step("a"), go_on=True))
    assert drive.fail("a")[:5] == ["a failed", "b skipped", "c skipped", "d skipped", "e skipped"]


def test_a_failure_skips_dependents_in_declaration_order() -> None:
    steps = (step("d"), step("b"), step("c"), step("a"))
    drive = Drive.begun(flow(*steps, max_parallelism=2))
    assert drive.fail("b") == ["b failed", "d skipped", "c skipped", "a skipped", "wave 0 finished", "run failed"]


def test_steps_that_become_ready_together_are_invoked_in_declaration_order() -> None:
    steps = (step("z", "d", join=Join.ALL_DONE), step("d", "a"), step("y", "a", join=Join.ALL_DONE), step("a"))
    drive = Drive.begun(flow(*steps, go_on=True))
    drive.fail("a")
    assert drive.waiting() == ["z", "y"]


def test_an_input_that_cannot_be_put_together_fails_after_the_skips() -> None:
    steps = (step("bad", "a", bindings=(NOWHERE,), join=Join.ALL_DONE), step("b", "a"), step("a"), step("c", "bad"))
    drive = Drive.begun(flow(*steps, go_on=True))
    expected = ["a failed", "b skipped", "bad failed", "c skipped", "wave 0 finished", "run failed"]
    assert drive.fail("a") == expected


def test_a_request_that_its_own_decision_makes_void_is_withdrawn_after_it() -> None:
    drive = Drive(flow(step("a"), step("bad", bindings=(NOWHERE,)), step("c")))
    assert drive.begin() == ["run started", "bad failed", "a skipped", "c skipped", "run failed"]
    assert drive.requests[0].step_id == "a"
    assert drive.interrupts()[0].step_id == "a"
    assert "c" not in drive.invoked()


def test_attempts_start_in_the_order_of_admission() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c")))
    assert drive.start("c", "a", "b") == ["wave 0 started", "c started", "a started", "b started"]


def test_invocations_follow_the_events_that_allow_them() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a"), step("c", "a")))
    drive.start("a")
    before = len(drive.requests)
    drive.succeed("a")
    assert drive.requests[before:] == [Invoke("b", 1, "echo", '{"a":1}'), Invoke("c", 1, "echo", '{"a":1}')]
