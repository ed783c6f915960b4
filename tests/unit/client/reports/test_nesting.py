"""Reports on runs with lists, nested workflows and steps that wait for someone. Times are in seconds."""

import time
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from stepwave import PhaseKind, RunReport, State
from stepwave_server.core.model import FallbackAction, Step, Workflow
from unit.client.reports.runs import after, export_of, parts, report_on, seconds
from unit.client.reports.test_random import feed_random_inputs
from unit.server.core.build import flow, step
from unit.server.core.driver import Drive
from unit.server.core.strategies import soak

ZERO = timedelta()


def listed() -> Drive:
    """Run a list of three items, two at once, of 1, 5 and 2 seconds, between `first` and `last` of 1 second."""
    drive = Drive.begun(flow(step("first"), step("pages", "first", over="[1,2,3]", at_once=2), step("last", "pages")))
    drive.start("first")
    after(drive, 1).succeed("first")
    drive.start("pages[0]", "pages[1]")
    after(drive, 1).succeed("pages[0]")
    after(drive, 2).start("pages[2]")
    after(drive, 2).succeed("pages[1]")
    after(drive, 2).succeed("pages[2]")
    drive.start("last")
    after(drive, 1).succeed("last")
    return drive


def test_the_path_leads_through_the_child_of_a_list_that_ended_last() -> None:
    report = report_on(listed())
    assert report.path == ("first", "pages", "pages[2]", "last")
    assert report.makespan == seconds(9)


def test_a_child_that_waited_for_a_place_says_so() -> None:
    report = report_on(listed())
    assert report.steps["pages[2]"].parts == parts(work=4, waiting=3)
    assert report.path_parts == parts(work=6, waiting=3)
    assert report.steps["pages"].parts.nested == seconds(7)
    assert (report.steps["pages"].item_count, report.steps["pages"].max_parallelism) == (3, 2)


def test_the_time_of_a_list_is_not_counted_twice() -> None:
    report = report_on(listed())
    assert report.totals == parts(work=1 + 1 + 5 + 4 + 1, waiting=3)
    assert report.sequential == seconds(12)


def test_children_that_ended_earlier_have_slack() -> None:
    steps = report_on(listed()).steps
    assert [steps[f"pages[{index}]"].slack for index in range(3)] == [seconds(6), seconds(2), ZERO]


def test_without_waiting_all_children_would_have_begun_with_their_list() -> None:
    assert report_on(listed()).without_waiting == seconds(1 + 5 + 1)


def nested() -> Drive:
    """Run `sub` of `a` for 1, then `b` for 2 beside `c` for 3, and `last` after it for 1 second."""
    body = flow(step("c", "a"), step("a"), step("b", "a"))
    drive = Drive.begun(flow(step("sub", body=body), step("last", "sub")))
    drive.start("sub/a")
    after(drive, 1).succeed("sub/a")
    drive.start("sub/b", "sub/c")
    after(drive, 2).succeed("sub/b")
    after(drive, 1).succeed("sub/c")
    drive.start("last")
    after(drive, 1).succeed("last")
    return drive


def test_the_path_leads_through_a_nested_workflow() -> None:
    report = report_on(nested())
    assert report.path == ("sub", "sub/a", "sub/c", "last")
    assert report.path_parts == parts(work=5)
    assert report.steps["sub/b"].slack == seconds(1)


def test_the_steps_within_a_step_come_after_it_in_declaration_order() -> None:
    assert list(report_on(nested()).steps) == ["sub", "sub/c", "sub/a", "sub/b", "last"]


def test_a_workflow_that_an_action_chose_begins_after_the_actions_work() -> None:
    drive = Drive.begun(flow(step("sub", action="core.workflow")))
    drive.start("sub")
    after(drive, 2).expand("sub", flow(step("a")))
    after(drive, 1).start("sub/a")
    after(drive, 3).succeed("sub/a")
    report = report_on(drive)
    assert report.path == ("sub", "sub/a")
    assert report.steps["sub"].parts.own == seconds(2)
    assert report.path_parts == parts(work=5, waiting=1)
    assert report.peak == 1


def test_a_barrier_within_a_nested_workflow_is_its_own() -> None:
    drive = Drive.begun(flow(step("sub", body=flow(step("a"), step("b"), step("c", "a"), by_waves=True))))
    drive.start("sub/a", "sub/b")
    after(drive, 1).succeed("sub/a")
    after(drive, 3).succeed("sub/b")
    drive.start("sub/c")
    after(drive, 1).succeed("sub/c")
    report = report_on(drive)
    assert report.steps["sub/c"].parts.barrier == seconds(3)
    assert (report.without_waiting, report.without_barriers) == (seconds(5), seconds(4))


def test_waiting_for_someone_is_neither_work_nor_waiting_for_a_place() -> None:
    drive = Drive.begun(flow(step("ask", action="core.wait"), step("go", "ask")))
    after(drive, 60).complete("ask")
    drive.start("go")
    after(drive, 2).succeed("go")
    report = report_on(drive)
    assert report.path_parts == parts(work=2, external=60)
    assert report.without_waiting == report.makespan
    assert report.peak == 1
    assert "= 2.00 s work + 1m 00s waiting for someone" in str(report)


def test_a_step_whose_condition_was_false_has_no_time() -> None:
    drive = Drive.begun(flow(step("a"), step("rare", "a", when="false"), step("b", "a")))
    for step_id in ("a", "b"):
        drive.start(step_id)
        after(drive, 1).succeed(step_id)
    report = report_on(drive)
    assert report.path == ("a", "b")
    assert (report.steps["rare"].state, report.steps["rare"].parts) == (State.SKIPPED, parts())


def test_a_run_under_way_is_reported_up_to_the_child_that_is_under_way_longest() -> None:
    drive = Drive.begun(flow(step("pages", over="[1,2,3]", at_once=2)))
    drive.start("pages[0]")
    after(drive, 1).start("pages[1]")
    after(drive, 4).succeed("pages[0]")
    report = report_on(drive)
    assert report.path == ("pages", "pages[1]")
    assert report.steps["pages[2]"].phases[-1].kind is PhaseKind.WAITING


def test_a_list_that_fails_leads_to_the_child_that_failed() -> None:
    drive = Drive.begun(flow(step("pages", over="[1,2,3]", at_once=1), step("end", "pages")))
    drive.start("pages[0]")
    after(drive, 2).fail("pages[0]")
    assert report_on(drive).path == ("pages", "pages[0]")


def test_the_fallback_of_a_list_has_the_time_after_its_children() -> None:
    fallback = FallbackAction("other")
    drive = Drive.begun(flow(step("pages", over="[1,2]", fallback=fallback), go_on=True))
    drive.start("pages[0]", "pages[1]")
    after(drive, 2).succeed("pages[0]")
    after(drive, 1).fail("pages[1]")
    drive.fail("pages[1]")  # its own fallback
    after(drive, 1).start("pages")
    after(drive, 4).succeed("pages")
    report = report_on(drive)
    assert report.path == ("pages", "pages[1]")
    assert report.path_parts == parts(work=7, waiting=1)
    assert report.steps["pages"].parts.nested == seconds(3)
    assert report.steps["pages[0]"].slack == seconds(1)
    assert report.peak == 2


def test_the_text_shows_a_list_on_one_line_and_its_child_on_the_path() -> None:
    lines = str(report_on(listed())).splitlines()
    chart = [line for line in lines if line.startswith("● pages")]
    assert [line.split()[1] for line in chart] == ["pages", "pages[2]"]
    assert "pages ×3" in chart[0]
    assert "  2 steps within lists left out" in lines
    assert lines[-1].endswith("pages runs 2 of its 3 items at once")
    assert "steps: 6 succeeded; 3 within pages" in lines


def test_a_list_of_ten_thousand_items_is_reported_at_once_and_on_a_few_lines() -> None:
    drive = Drive.begun(flow(step("pages", over=f"[{','.join(['1'] * 10_000)}]")), checked=False)
    for index in range(10_000):
        drive.succeed(f"pages[{index}]")
    export = export_of(drive)
    start = time.perf_counter()
    text = str(export.report())
    assert time.perf_counter() - start < 5  # a second, on a machine that does nothing else
    assert len(text.splitlines()) < 30


@st.composite
def nested_workflows(draw: st.DrawFn, depth: int = 2) -> Workflow:
    """Draw a workflow whose steps may be lists and workflows."""
    steps: list[Step] = []
    for place in range(draw(st.integers(1, 4))):
        deps = draw(st.lists(st.sampled_from([one.id for one in steps]), max_size=2, unique=True)) if steps else []
        kind = draw(st.sampled_from(["plain", "plain", "list", "body", "list of bodies"]))
        over = f"[{','.join('123'[: draw(st.integers(0, 3))])}]" if "list" in kind else None
        body = draw(nested_workflows(depth - 1)) if "bod" in kind and depth else None
        at_once = draw(st.integers(0, 2)) if over else 0
        allowed = draw(st.booleans())
        steps.append(step("abcd"[place], *deps, over=over, at_once=at_once, body=body, allow_failure=allowed))
    parallel = draw(st.sampled_from([0, 1, 2]))
    return flow(*steps, by_waves=draw(st.booleans()), go_on=draw(st.booleans()), max_parallelism=parallel)


@soak(150)
@given(nested_workflows(), st.data())
def test_the_parts_of_any_run_with_lists_and_workflows_add_up(workflow: Workflow, data: st.DataObject) -> None:
    drive = Drive(workflow, checked=False)
    feed_random_inputs(drive, data)
    report = report_on(drive)
    _check_sums(report)
    assert report.makespan == ZERO or report.path
    assert list(report.steps) == list(dict.fromkeys(report.steps))


def _check_sums(report: RunReport) -> None:
    assert report.path_parts.total == report.makespan
    assert report.totals.nested == ZERO
    for one in report.steps.values():
        assert one.slack >= ZERO
        assert one.parts.total == one.end - one.begin == sum((it.end - it.start for it in one.phases), ZERO)
        assert one.on_path == (one.step_id in report.path)
    assert report.totals.work == sum((one.parts.work for one in report.steps.values()), ZERO)
    assert ZERO <= report.without_barriers <= report.without_waiting <= report.makespan
