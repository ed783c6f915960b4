"""Where a run's time went, computed by hand: one claim each. Times are in seconds."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from stepwave import InvalidExport, PhaseKind, RunExport, State
from stepwave._transport.blocking import drive as drive_to_end
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.core.messages import Started
from stepwave_server.core.model import SECOND, FallbackAction, Join, Reason
from unit.client.clients.transport import Wire, session
from unit.client.reports.runs import export_of, parts, report_on, seconds
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import NOON, Drive
from unit.server.core.effort import effort


def diamond(*, by_waves: bool = False, max_parallelism: int = 0) -> Drive:
    """Begin a run of `a`; `b` and `c` after it; `d` after these."""
    steps = (step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"))
    return Drive.begun(flow(*steps, by_waves=by_waves, max_parallelism=max_parallelism))


def after(drive: Drive, pause: float) -> Drive:
    drive.now += round(pause * SECOND)
    return drive


def through_the_diamond(drive: Drive) -> Drive:
    """Let `a` take 1, `b` 2, `c` 5 and `d` 1, and nobody wait."""
    drive.start("a")
    after(drive, 1).succeed("a")
    drive.start("b", "c")
    after(drive, 2).succeed("b")
    after(drive, 3).succeed("c")
    drive.start("d")
    after(drive, 1).succeed("d")
    return drive


def test_the_critical_path_is_the_chain_that_the_end_came_from() -> None:
    report = report_on(through_the_diamond(diamond()))
    assert report.path == ("a", "c", "d")
    assert report.makespan == seconds(7)
    assert report.path_parts == parts(work=7)


def test_steps_off_the_path_have_slack_and_those_on_it_none() -> None:
    report = report_on(through_the_diamond(diamond()))
    slack = {step_id: step.slack for step_id, step in report.steps.items()}
    assert slack == {"a": seconds(0), "b": seconds(3), "c": seconds(0), "d": seconds(0)}


def test_the_speed_up_is_the_sum_of_all_steps_over_the_makespan() -> None:
    report = report_on(through_the_diamond(diamond()))
    assert report.sequential == seconds(9)
    assert report.speed_up == pytest.approx(9 / 7)


def test_the_peak_is_how_many_attempts_were_in_flight_at_once() -> None:
    assert report_on(through_the_diamond(diamond())).peak == 2


def test_waiting_for_a_place_is_told_from_work() -> None:
    drive = Drive.begun(flow(step("a")))
    after(drive, 2).start("a")
    after(drive, 3).succeed("a")
    report = report_on(drive)
    assert report.path_parts == parts(work=3, waiting=2)
    assert [phase.kind for phase in report.steps["a"].phases] == [PhaseKind.WAITING, PhaseKind.WORK]


def two_at_a_bound_of_one() -> Drive:
    """Let `a` take 2, and `b`, which waits for its place, 3."""
    drive = Drive.begun(flow(step("a"), step("b"), max_parallelism=1))
    drive.start("a")
    after(drive, 2).succeed("a")
    drive.start("b")
    after(drive, 3).succeed("b")
    return drive


def test_more_parallelism_would_have_saved_what_a_replay_without_waiting_says() -> None:
    report = report_on(two_at_a_bound_of_one())
    assert report.path_parts == parts(work=3, waiting=2)
    assert report.without_waiting == seconds(3)
    assert report.saved_by_more_parallelism == seconds(2)


def test_it_is_said_whether_the_workflow_bounded_itself() -> None:
    report = report_on(two_at_a_bound_of_one())
    assert (report.max_parallelism, report.peak, report.bounded) == (1, 1, True)


def test_an_attempt_that_a_restart_interrupted_counts_as_work_until_it_is_taken_up() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.start("a")
    after(drive, 4).lose("a")
    after(drive, 1).start("a")
    after(drive, 2).succeed("a")
    report = report_on(drive)
    assert report.path_parts == parts(work=6, waiting=1)
    assert report.steps["a"].attempts == 2


def stumbling() -> Drive:
    """Begin a run whose step works 1, fails, and may try again 3 later."""
    drive = Drive.begun(flow(step("a", retry=retry(2, pause=3))))
    drive.start("a")
    after(drive, 1).fail_retryably("a")
    return drive


def tried_again() -> Drive:
    """Let the step wait 2 more for its place, and work 1 again."""
    drive = stumbling()
    drive.wait(3)
    after(drive, 2).start("a")
    after(drive, 1).succeed("a")
    return drive


def test_the_pause_between_attempts_is_backoff_and_what_comes_after_is_waiting() -> None:
    assert report_on(tried_again()).path_parts == parts(work=2, backoff=3, waiting=2)


def test_the_pauses_between_attempts_are_part_of_a_sequential_run() -> None:
    report = report_on(tried_again())
    assert (report.sequential, report.without_waiting) == (seconds(5), seconds(5))


def test_a_pause_lasts_until_the_server_noticed_that_it_is_over() -> None:
    drive = stumbling()
    timer = drive.next_timer()
    assert timer is not None
    after(drive, 4).fire(timer)
    drive.start("a")
    after(drive, 1).succeed("a")
    assert report_on(drive).path_parts == parts(work=2, backoff=4)


def test_a_pause_that_is_cut_short_is_no_longer_than_it_was() -> None:
    drive = stumbling()
    after(drive, 2).cancel()
    assert report_on(drive).path_parts == parts(work=1, backoff=2)


def test_the_pause_of_a_run_under_way_is_backoff_as_far_as_it_has_come() -> None:
    drive = Drive.begun(flow(step("a", retry=retry(2, pause=3)), step("b")))
    drive.start("a")
    after(drive, 1).fail_retryably("a")
    after(drive, 2).start("b")
    assert report_on(drive).steps["a"].parts == parts(work=1, backoff=2)


def test_a_fallback_is_an_attempt_of_its_step() -> None:
    drive = Drive.begun(flow(step("a", fallback=FallbackAction("other"))))
    drive.start("a")
    after(drive, 1).fail("a")
    after(drive, 1).start("a")
    after(drive, 2).succeed("a")
    report = report_on(drive)
    assert report.path_parts == parts(work=3, waiting=1)
    assert report.steps["a"].attempts == 2


def waves() -> Drive:
    """Let `a` take 1 and `b` 4 in the first wave, and `c`, after `a` alone, 2 in the second."""
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


def test_the_loser_of_a_join_any_is_on_the_path_only_if_its_clean_up_is_last() -> None:
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


def test_a_step_that_waited_in_vain_waited() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), max_parallelism=1))
    drive.start("a")
    after(drive, 3).fail("a")
    report = report_on(drive)
    assert report.steps["b"].parts == parts(waiting=3)
    assert report.steps["b"].attempts == 0


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


def test_a_step_that_was_cancelled_before_its_start_may_be_all_there_is() -> None:
    drive = Drive.begun(flow(step("a")))
    after(drive, 2).cancel()
    report = report_on(drive)
    assert (report.path, report.path_parts) == (("a",), parts(waiting=2))


def test_a_step_that_timed_out_worked_until_then() -> None:
    drive = Drive.begun(flow(step("a", timeout=5)))
    drive.start("a")
    drive.wait(5)
    drive.end_interrupted("a")
    assert report_on(drive).path_parts == parts(work=5)


def test_a_step_that_was_taken_over_has_no_time() -> None:
    drive = Drive(flow(step("a"), step("b", "a")))
    drive.send(Started((("a", "1"),), "earlier"))
    drive.start("b")
    after(drive, 2).succeed("b")
    report = report_on(drive)
    assert report.path == ("a", "b")
    assert (report.steps["a"].reused_from, report.steps["a"].parts) == ("earlier", parts())
    assert (report.steps["b"].parts, report.speed_up) == (parts(work=2), 1.0)


def test_a_run_under_way_is_reported_up_to_its_newest_event() -> None:
    drive = diamond()
    drive.start("a")
    after(drive, 1).succeed("a")
    drive.start("b")
    after(drive, 2).start("c")
    report = report_on(drive)
    assert (report.state, report.makespan, report.path) == (State.RUNNING, seconds(3), ("a", "b"))
    assert report.steps["c"].parts == parts(waiting=2)
    assert report.steps["d"].parts == parts()


def test_a_run_under_way_is_reported_up_to_any_later_moment() -> None:
    drive = diamond()
    drive.start("a")
    now = datetime.fromtimestamp(NOON // SECOND + 9, UTC)
    assert export_of(drive).report(now).path_parts == parts(work=9)


def test_a_run_that_has_ended_is_reported_up_to_its_end_whatever_the_moment() -> None:
    now = datetime.fromtimestamp(NOON // SECOND + 9, UTC)
    assert export_of(through_the_diamond(diamond())).report(now).makespan == seconds(7)


def test_a_moment_before_the_newest_event_counts_as_that() -> None:
    drive = diamond()
    after(drive, 4).start("a")
    assert export_of(drive).report(datetime.fromtimestamp(NOON // SECOND, UTC)).makespan == seconds(4)


def test_a_step_of_a_run_under_way_that_has_no_place_yet_waits() -> None:
    drive = two = Drive.begun(flow(step("a"), step("b"), step("c"), max_parallelism=1))
    drive.start("a")
    after(drive, 2).succeed("a")
    drive.start("b")
    after(two, 1).succeed("b")
    report = report_on(drive)
    assert report.steps["c"].parts == parts(waiting=3)
    assert report.path == ("c",)


def test_a_step_of_a_run_under_way_that_a_barrier_holds_is_held() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a"), by_waves=True))
    drive.start("a", "b")
    after(drive, 1).succeed("a")
    after(drive, 2).lose("b")
    assert report_on(drive).steps["c"].parts == parts(barrier=2)


def test_a_run_that_has_not_begun_has_nothing_to_report() -> None:
    report = RunExport(pb.RunDefinition(run_id="r", create_time=Timestamp(seconds=5)), ()).report()
    assert (report.state, report.makespan, report.path, report.speed_up) == (State.PENDING, timedelta(), (), None)


def test_a_run_without_time_has_no_speed_up() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.succeed("a")
    assert report_on(drive).speed_up is None


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


def test_a_step_whose_input_cannot_be_put_together_failed_at_once() -> None:
    drive = Drive.begun(flow(step("a")))
    after(drive, 1).fail("a", Reason.INVALID_INPUT)
    assert report_on(drive).path == ("a",)


def test_times_of_a_microsecond_add_up() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.start("a")
    drive.now += 1_999
    drive.succeed("a")
    drive.now += 1_999
    drive.succeed("b")
    report = report_on(drive)
    assert report.path_parts.total == report.makespan == timedelta(microseconds=3)


def test_events_of_another_workflow_are_refused() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.finish()
    export = RunExport(pb.RunDefinition(run_id="r"), export_of(drive).events)
    with pytest.raises(InvalidExport, match="its events name a step that it does not have: 'a'"):
        export.report()


def test_a_client_reports_what_the_export_of_its_server_says() -> None:
    export = export_of(through_the_diamond(diamond()))
    wire = Wire()
    wire.stream_answers(pb.ExportRunResponse(definition=export.definition), pb.ExportRunResponse(events=export.events))
    assert drive_to_end(session(wire).report("r")) == export.report()


def test_a_client_reports_a_run_under_way_up_to_the_time_of_its_server() -> None:
    drive = diamond()
    drive.start("a")
    export, wire = export_of(drive), Wire()
    wire.stream_answers(pb.ExportRunResponse(definition=export.definition, events=export.events))
    wire.answers("ExplainRun", pb.ExplainRunResponse(time=Timestamp(seconds=NOON // SECOND + 9)))
    assert drive_to_end(session(wire).report("r")).makespan == seconds(9)


def work(rows: int, *, by_waves: bool) -> int:
    """Return the effort of a report on so many rows of five steps, each after all of the row before."""
    ids = [[f"s{row}_{column}" for column in range(5)] for row in range(rows)]
    steps = [step(name, *(ids[row - 1] if row else ())) for row, names in enumerate(ids) for name in names]
    drive = Drive.begun(flow(*steps, by_waves=by_waves), checked=False)
    drive.finish()
    return effort(export_of(drive).report)


@pytest.mark.parametrize("by_waves", [False, True])
def test_a_report_costs_no_more_than_its_steps_and_dependencies(by_waves: bool) -> None:
    few, many = work(10, by_waves=by_waves), work(40, by_waves=by_waves)
    assert many < few * 4.4


@pytest.mark.parametrize("by_waves", [False, True])
def test_a_step_adds_at_most_2000_instructions_to_a_report(by_waves: bool) -> None:
    assert work(40, by_waves=by_waves) < 40 * 5 * 2_000
