"""Reports on runs under way, from an export and from a server. Times are in seconds."""

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from stepwave import RunExport, State
from stepwave._transport.blocking import drive as drive_to_end
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.core.model import SECOND
from unit.client.clients.transport import ScriptedTransport, session
from unit.client.reports.runs import after, diamond, export_of, parts, report_on, seconds, through_the_diamond
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import NOON, Drive


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


def test_a_step_without_a_permit_in_a_run_under_way_has_waiting_time() -> None:
    drive = two = Drive.begun(flow(step("a"), step("b"), step("c"), max_parallelism=1))
    drive.start("a")
    after(drive, 2).succeed("a")
    drive.start("b")
    after(two, 1).succeed("b")
    report = report_on(drive)
    assert report.steps["c"].parts == parts(waiting=3)
    assert report.path == ("c",)


def test_a_step_that_a_barrier_delays_in_a_run_under_way_has_barrier_time() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a"), by_waves=True))
    drive.start("a", "b")
    after(drive, 1).succeed("a")
    after(drive, 2).lose("b")
    assert report_on(drive).steps["c"].parts == parts(barrier=2)


def test_the_pause_of_a_run_under_way_is_backoff_as_far_as_it_has_come() -> None:
    drive = Drive.begun(flow(step("a", retry=retry(2, pause=3)), step("b")))
    drive.start("a")
    after(drive, 1).fail_retryably("a")
    after(drive, 2).start("b")
    assert report_on(drive).steps["a"].parts == parts(work=1, backoff=2)


def test_a_run_that_has_not_begun_has_nothing_to_report() -> None:
    report = RunExport(pb.RunDefinition(run_id="r", create_time=Timestamp(seconds=5)), ()).report()
    assert (report.state, report.makespan, report.path, report.speed_up) == (State.PENDING, timedelta(), (), None)


def test_a_client_returns_the_report_of_the_export() -> None:
    export = export_of(through_the_diamond(diamond()))
    transport = ScriptedTransport()
    transport.stream_answers(
        pb.ExportRunResponse(definition=export.definition), pb.ExportRunResponse(events=export.events)
    )
    assert drive_to_end(session(transport).report("r")) == export.report()


def test_a_client_reports_a_run_under_way_up_to_the_time_of_its_server() -> None:
    drive = diamond()
    drive.start("a")
    export, transport = export_of(drive), ScriptedTransport()
    transport.stream_answers(pb.ExportRunResponse(definition=export.definition, events=export.events))
    transport.answers("ExplainRun", pb.ExplainRunResponse(time=Timestamp(seconds=NOON // SECOND + 9)))
    assert drive_to_end(session(transport).report("r")).makespan == seconds(9)
