"""The parts of steps' times, the figures of a run, and the cost of a report. Times are in seconds."""

from datetime import timedelta

import pytest

from stepwave import InvalidExport, PhaseKind, RunExport
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.core.model import FallbackAction
from unit.client.reports.runs import after, diamond, export_of, parts, report_on, seconds, through_the_diamond
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import Drive
from unit.server.core.effort import effort


def test_the_speed_up_is_the_sum_of_all_steps_over_the_makespan() -> None:
    report = report_on(through_the_diamond(diamond()))
    assert report.sequential == seconds(9)
    assert report.speed_up == pytest.approx(9 / 7)


def test_the_peak_is_how_many_attempts_were_in_flight_at_once() -> None:
    assert report_on(through_the_diamond(diamond())).peak == 2


def test_waiting_is_separate_from_work() -> None:
    drive = Drive.begun(flow(step("a")))
    after(drive, 2).start("a")
    after(drive, 3).succeed("a")
    report = report_on(drive)
    assert report.path_parts == parts(work=3, waiting=2)
    assert [phase.kind for phase in report.steps["a"].phases] == [PhaseKind.WAITING, PhaseKind.WORK]


def two_with_parallelism_one() -> Drive:
    """Run `a` for 2, and then `b`, which waited for it, for 3."""
    drive = Drive.begun(flow(step("a"), step("b"), max_parallelism=1))
    drive.start("a")
    after(drive, 2).succeed("a")
    drive.start("b")
    after(drive, 3).succeed("b")
    return drive


def test_more_parallelism_would_have_saved_the_waiting_time() -> None:
    report = report_on(two_with_parallelism_one())
    assert report.path_parts == parts(work=3, waiting=2)
    assert report.without_waiting == seconds(3)
    assert report.saved_by_more_parallelism == seconds(2)


def test_a_report_tells_whether_max_parallelism_was_reached() -> None:
    report = report_on(two_with_parallelism_one())
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


def pausing() -> Drive:
    """Begin a run whose step works 1, fails, and pauses 3."""
    drive = Drive.begun(flow(step("a", retry=retry(2, pause=3))))
    drive.start("a")
    after(drive, 1).fail_retryably("a")
    return drive


def retried() -> Drive:
    """Let the step wait 2 after its pause, and report_effort 1 again."""
    drive = pausing()
    drive.wait(3)
    after(drive, 2).start("a")
    after(drive, 1).succeed("a")
    return drive


def test_the_pause_between_attempts_is_backoff_and_what_comes_after_is_waiting() -> None:
    assert report_on(retried()).path_parts == parts(work=2, backoff=3, waiting=2)


def test_the_pauses_between_attempts_are_part_of_a_sequential_run() -> None:
    report = report_on(retried())
    assert (report.sequential, report.without_waiting) == (seconds(5), seconds(5))


def test_a_pause_lasts_until_its_event() -> None:
    drive = pausing()
    timer = drive.next_timer()
    assert timer is not None
    after(drive, 4).fire(timer)
    drive.start("a")
    after(drive, 1).succeed("a")
    assert report_on(drive).path_parts == parts(work=2, backoff=4)


def test_a_pause_that_is_cut_short_counts_only_its_actual_length() -> None:
    drive = pausing()
    after(drive, 2).cancel()
    assert report_on(drive).path_parts == parts(work=1, backoff=2)


def test_a_fallback_is_an_attempt_of_its_step() -> None:
    drive = Drive.begun(flow(step("a", fallback=FallbackAction("other"))))
    drive.start("a")
    after(drive, 1).fail("a")
    after(drive, 1).start("a")
    after(drive, 2).succeed("a")
    report = report_on(drive)
    assert report.path_parts == parts(work=3, waiting=1)
    assert report.steps["a"].attempts == 2


def test_a_step_that_never_started_has_waiting_time() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), max_parallelism=1))
    drive.start("a")
    after(drive, 3).fail("a")
    report = report_on(drive)
    assert report.steps["b"].parts == parts(waiting=3)
    assert report.steps["b"].attempts == 0


def test_a_step_that_timed_out_has_work_until_then() -> None:
    drive = Drive.begun(flow(step("a", timeout=5)))
    drive.start("a")
    drive.wait(5)
    drive.end_interrupted("a")
    assert report_on(drive).path_parts == parts(work=5)


def test_a_run_without_time_has_no_speed_up() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.succeed("a")
    assert report_on(drive).speed_up is None


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


def report_effort(rows: int, *, by_waves: bool) -> int:
    """Return the instructions of a report on rows of five steps, each of which depends on the whole row before."""
    ids = [[f"s{row}_{column}" for column in range(5)] for row in range(rows)]
    steps = [step(name, *(ids[row - 1] if row else ())) for row, names in enumerate(ids) for name in names]
    drive = Drive.begun(flow(*steps, by_waves=by_waves), checked=False)
    drive.finish()
    return effort(export_of(drive).report)


@pytest.mark.parametrize("by_waves", [False, True])
def test_a_report_costs_no_more_than_its_steps_and_dependencies(by_waves: bool) -> None:
    few, many = report_effort(10, by_waves=by_waves), report_effort(40, by_waves=by_waves)
    assert many < few * 4.4


@pytest.mark.parametrize("by_waves", [False, True])
def test_a_step_adds_at_most_2000_instructions_to_a_report(by_waves: bool) -> None:
    assert report_effort(40, by_waves=by_waves) < 40 * 5 * 2_000
