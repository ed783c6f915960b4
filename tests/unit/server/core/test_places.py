"""`max_parallelism`: how many attempts of a run may be in flight, and which step is next."""

from stepwave_server.core.model import Join
from unit.server.core.build import NOWHERE, flow, step
from unit.server.core.driver import Drive


def test_as_many_steps_are_invoked_as_there_are_places() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c"), max_parallelism=2))
    assert drive.waiting() == ["a", "b"]
    drive.start("a", "b")
    assert drive.waiting() == []


def test_without_a_bound_everything_ready_is_invoked() -> None:
    drive = Drive.begun(flow(*(step(f"s{n}") for n in range(50))))
    assert len(drive.waiting()) == 50


def test_the_end_of_a_step_frees_a_place_for_the_next() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c"), max_parallelism=1))
    drive.succeed("a")
    assert drive.waiting() == ["b"]
    drive.fail("b")
    assert drive.waiting() == []


def test_a_skip_of_a_step_in_admission_frees_a_place_for_the_next() -> None:
    steps = (step("a"), step("b"), step("c", "a", "b", join=Join.ANY), step("d"))
    drive = Drive.begun(flow(*steps, max_parallelism=2))
    assert drive.waiting() == ["a", "b"]
    assert drive.succeed("a") == ["a succeeded", "b skipped"]
    assert drive.waiting() == ["c", "d"]


def test_an_interrupted_attempt_keeps_its_place_until_it_has_ended() -> None:
    steps = (step("a"), step("b"), step("c", "a", join=Join.ALL_DONE), step("d", "a", join=Join.ALL_DONE))
    drive = Drive.begun(flow(*steps, max_parallelism=2))
    drive.start("a", "b")
    drive.fail("b")
    assert drive.waiting() == []
    drive.end_interrupted("a")
    assert drive.waiting() == ["c", "d"]


def test_steps_are_invoked_in_the_order_in_which_they_became_ready() -> None:
    drive = Drive.begun(flow(step("late", "b"), step("a"), step("b"), step("c"), step("d"), max_parallelism=1))
    drive.succeed("a")
    drive.succeed("b")
    drive.succeed("c")
    assert drive.waiting() == ["d"]
    drive.succeed("d")
    assert drive.waiting() == ["late"]


def test_a_step_that_fails_for_its_input_frees_its_place() -> None:
    drive = Drive.begun(flow(step("a", bindings=(NOWHERE,)), step("b"), max_parallelism=1, go_on=True))
    assert drive.waiting() == ["b"]
    assert drive.succeed("b")[-1] == "run failed"
