"""Critical paths, slack and barriers, computed by hand. Times are in seconds."""

from stepwave import State
from stepwave_server.core.messages import Started
from stepwave_server.core.model import Join, Reason
from unit.client.reports.runs import after, diamond, parts, report_on, seconds, through_the_diamond
from unit.server.core.build import flow, step
from unit.server.core.driver import Drive


def test_the_critical_path_is_the_chain_that_the_end_came_from() -> None:
    report = report_on(through_the_diamond(diamond()))
    assert report.path == ("a", "c", "d")
    assert report.makespan == seconds(7)
    assert report.path_parts == parts(work=7)


def test_steps_off_the_path_have_slack_and_those_on_it_none() -> None:
    report = report_on(through_the_diamond(diamond()))
    slack = {step_id: step.slack for step_id, step in report.steps.items()}
    assert slack == {"a": seconds(0), "b": seconds(3), "c": seconds(0), "d": seconds(0)}


def waves() -> Drive:
    """Run two waves: `a` for 1 and `b` for 4, then `c`, which depends on `a` alone, for 2."""
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a"), by_waves=True))
    drive.start("a", "b")
    after(drive, 1).succeed("a")
    after(drive, 3).succeed("b")
    drive.start("c")
    after(drive, 2).succeed("c")
    return drive


def test_under_wave_scheduling_the_barrier_has_its_own_part() -> None:
    report = report_on(waves())
    assert report.path == ("a", "c")
    assert report.path_parts == parts(work=3, barrier=3)


def test_without_barriers_a_run_in_waves_would_have_been_shorter() -> None:
    report = report_on(waves())
    assert (report.makespan, report.without_waiting, report.without_barriers) == (seconds(6), seconds(6), seconds(4))


def test_under_wave_scheduling_slack_is_what_the_barrier_leaves() -> None:
    slack = {step_id: step.slack for step_id, step in report_on(waves()).steps.items()}
    assert slack == {"a": seconds(3), "b": seconds(0), "c": seconds(0)}


def test_a_join_any_waits_for_the_first_that_succeeds() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=Join.ANY), outputs=("a", "b", "c")))
    drive.start("a", "b")
    after(drive, 1).succeed("a")
    drive.start("c")
    after(drive, 5).succeed("c")
    drive.succeed("b")
    assert report_on(drive).path == ("b",)
    assert report_on(drive).steps["c"].begin == seconds(1)


def test_an_interrupted_dependency_of_a_join_any_is_on_the_path_only_if_its_clean_up_is_last() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=Join.ANY)))
    drive.start("a", "b")
    after(drive, 1).succeed("a")
    drive.end_interrupted("b")
    drive.start("c")
    after(drive, 2).succeed("c")
    report = report_on(drive)
    assert report.path == ("a", "c")
    assert report.steps["b"].slack == seconds(2)


def test_a_join_all_done_waits_for_the_last_whatever_its_state() -> None:
    drive = Drive.begun(flow(step("a"), step("b", allow_failure=True), step("c", "a", "b", join=Join.ALL_DONE)))
    drive.start("a", "b")
    after(drive, 1).succeed("a")
    after(drive, 1).fail("b")
    drive.start("c")
    after(drive, 1).succeed("c")
    assert report_on(drive).path == ("b", "c")


def test_a_skipped_step_has_no_time() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.start("a")
    after(drive, 2).fail("a")
    report = report_on(drive)
    assert report.steps["b"].state is State.SKIPPED
    assert report.steps["b"].parts == parts()
    assert report.path == ("a",)


def test_a_skipped_step_is_a_link_where_clean_up_waited_for_it() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a"), step("c", "b", join=Join.ALL_DONE)))
    drive.start("a")
    after(drive, 2).fail("a")
    drive.start("c")
    after(drive, 1).succeed("c")
    assert report_on(drive).path == ("a", "b", "c")


def test_a_run_that_fails_fast_ended_with_the_last_clean_up() -> None:
    drive = Drive.begun(flow(step("a"), step("b")))
    drive.start("a", "b")
    after(drive, 2).fail("b")
    after(drive, 1).end_interrupted("a")
    report = report_on(drive)
    assert (report.state, report.path, report.path_parts) == (State.FAILED, ("a",), parts(work=3))


def test_a_cancelled_run_ended_with_the_last_clean_up_too() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.start("a")
    after(drive, 2).cancel()
    after(drive, 1).end_interrupted("a")
    report = report_on(drive)
    assert (report.state, report.path, report.makespan) == (State.CANCELLED, ("a",), seconds(3))


def test_a_step_that_was_cancelled_before_its_start_may_be_the_whole_path() -> None:
    drive = Drive.begun(flow(step("a")))
    after(drive, 2).cancel()
    report = report_on(drive)
    assert (report.path, report.path_parts) == (("a",), parts(waiting=2))


def test_a_step_with_a_reused_output_has_no_time() -> None:
    drive = Drive(flow(step("a"), step("b", "a")))
    drive.send(Started((("a", "1"),), "earlier"))
    drive.start("b")
    after(drive, 2).succeed("b")
    report = report_on(drive)
    assert report.path == ("a", "b")
    assert (report.steps["a"].reused_from, report.steps["a"].parts) == ("earlier", parts())
    assert (report.steps["b"].parts, report.speed_up) == (parts(work=2), 1.0)


def test_a_step_whose_input_cannot_be_assembled_fails_at_once() -> None:
    drive = Drive.begun(flow(step("a")))
    after(drive, 1).fail("a", Reason.INVALID_INPUT)
    assert report_on(drive).path == ("a",)


def test_an_open_run_plans_until_a_step_is_added() -> None:
    drive = Drive.begun(flow(), is_open=True)
    after(drive, 2).add(step("a"), seal=True)
    drive.start("a")
    after(drive, 3).succeed("a")
    report = report_on(drive)
    assert (report.path, report.path_parts) == (("a",), parts(work=3, planning=2))
    assert report.without_waiting == seconds(5)


def test_an_open_run_plans_until_it_is_sealed() -> None:
    drive = Drive.begun(flow(), is_open=True)
    drive.add(step("a"))
    drive.start("a")
    after(drive, 3).succeed("a")
    after(drive, 4).add(seal=True)
    report = report_on(drive)
    assert (report.path, report.path_parts) == (("a",), parts(work=3, planning=4))
    assert report.steps["a"].slack == seconds(4)
