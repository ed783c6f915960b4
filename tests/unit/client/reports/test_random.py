"""Properties of reports on random runs: the parts add up, and the critical path is a chain."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stepwave import PhaseKind, RunReport, State
from stepwave._convert.paths import outer
from stepwave_server.core.messages import AddSteps, Input
from stepwave_server.core.model import SECOND, Scheduling, Step, Workflow
from stepwave_server.core.state import RunOptions
from unit.client.reports.runs import report_on
from unit.server.core.build import flow, step
from unit.server.core.driver import Drive
from unit.server.core.strategies import batches, lost_attempts, next_inputs, soak, step_lists, workflows

ZERO = timedelta()
PAUSES = [0, 1, 700, SECOND, 3 * SECOND, 123_456_789]


def feed_random_inputs(drive: Drive, data: st.DataObject, additions: Sequence[AddSteps] = ()) -> None:
    """Feed a run random inputs, to its end or up to a random moment."""
    to_add = list(additions)
    moments = data.draw(st.none() | st.integers(0, 25), label="moments")
    cancel_after = data.draw(st.none() | st.integers(0, 12), label="cancel after")
    drive.begin()
    while drive.run.finished is None and len(drive.inputs) != moments:
        drive.now += data.draw(st.sampled_from(PAUSES))
        if cancel_after == len(drive.inputs):
            drive.cancel("why not")
            continue
        choices: list[Input | None] = list(next_inputs(drive))
        choices += lost_attempts(drive) if data.draw(st.integers(0, 3), label="restart") == 3 else []
        choices += to_add[:1] if drive.run.open else []
        timer = drive.next_timer()
        choice = data.draw(st.sampled_from(choices or [None]))
        if choice is not None:
            drive.feed(choice)
            to_add = to_add[1:] if choice in to_add[:1] else to_add
        elif timer is not None:
            drive.fire(timer)


def check(drive: Drive) -> RunReport:
    """Check the properties of every report, and return it."""
    report = report_on(drive)
    path = [report.steps[step_id] for step_id in report.path]
    steps = list(report.steps.values())
    assert report.path_parts.total == report.makespan
    assert sum((step.parts.own for step in path), ZERO) <= report.makespan
    for earlier, later in pairwise(path):
        if outer(later.step_id) != earlier.step_id:
            deps = drive.run.steps[later.step_id].deps
            assert any(f"{earlier.step_id}/".startswith((f"{dep}/", f"{dep}[")) for dep in deps)
            assert earlier.end <= later.begin
    for reported in steps:
        assert reported.slack >= ZERO
        assert (
            reported.parts.total
            == reported.end - reported.begin
            == sum((one.end - one.start for one in reported.phases), ZERO)
        )
        assert reported.on_path == (reported.step_id in report.path)
        assert reported.state is State.RUNNING or not reported.parts.work or reported.attempts
    assert report.totals.work == sum((step.parts.work for step in steps), ZERO)
    assert report.path_parts.work + report.path_parts.backoff <= report.sequential
    in_flight = report.sequential - report.totals.external
    assert in_flight <= report.peak * report.makespan + report.totals.backoff
    assert ZERO <= report.without_barriers <= report.without_waiting <= report.makespan
    if not report.path_parts.waiting and not report.totals.waiting:
        assert report.without_waiting == report.makespan
    if report.makespan:
        assert report.speed_up is not None
        owned = report.path_parts.work + report.path_parts.backoff
        assert report.speed_up >= owned / report.makespan
    return report


def check_against_core(drive: Drive, report: RunReport) -> None:
    """Check a report of a run under way against the state of the core."""
    for step_id, state in drive.run.steps.items():
        waits = state.join_met and state.ready_time is not None and not state.ended and not state.attempt
        waits = waits and state.inner is None
        last = [phase.kind for phase in report.steps[step_id].phases][-1:]
        assert (
            not waits or last in ([PhaseKind.WAITING], []) or report.steps[step_id].end == report.steps[step_id].begin
        )
        active: tuple[list[PhaseKind], ...] = ([PhaseKind.WORK], [PhaseKind.EXTERNAL], [PhaseKind.WAITING], [])
        assert step_id not in drive.run.running or last in active


@soak(250)
@given(workflows(), st.data())
def test_the_parts_of_any_run_add_up_along_a_chain_of_dependencies(workflow: Workflow, data: st.DataObject) -> None:
    drive = Drive(workflow, checked=False)
    feed_random_inputs(drive, data)
    report = check(drive)
    assert report.path_parts.planning == ZERO or not drive.run.finished
    if workflow.scheduling is Scheduling.EAGER:
        assert report.totals.barrier == ZERO
        assert all(report.steps[step_id].slack == ZERO for step_id in report.path)


@soak(150)
@given(step_lists(), st.data())
def test_the_parts_of_a_run_that_grows_add_up_too(steps: list[Step], data: st.DataObject) -> None:
    parts = data.draw(batches(steps))
    additions = [*(AddSteps(part) for part in parts), AddSteps((), seal=True)]
    drive = Drive(
        flow(max_parallelism=data.draw(st.sampled_from([0, 1, 2]))), options=RunOptions(open=True), checked=False
    )
    feed_random_inputs(drive, data, additions)
    check(drive)


@soak(150)
@given(workflows(), st.data())
def test_a_step_that_waits_in_a_run_under_way_has_waiting_time(workflow: Workflow, data: st.DataObject) -> None:
    drive = Drive(workflow, checked=False)
    feed_random_inputs(drive, data)
    check_against_core(drive, report_on(drive))


@soak(100)
@given(workflows(depth=0), st.data())
def test_a_run_without_waiting_takes_as_long_as_its_forward_pass(workflow: Workflow, data: st.DataObject) -> None:
    drive = Drive.begun(workflow, checked=False)
    while drive.run.finished is None:
        drive.start(*drive.waiting())
        if drive.run.running:
            drive.now += data.draw(st.sampled_from(PAUSES))
            drive.succeed(data.draw(st.sampled_from(list(drive.run.running))))
    report = check(drive)
    if not workflow.max_parallelism:
        assert report.totals.waiting == ZERO
        assert report.speed_up is None or report.path_parts.barrier or report.speed_up >= 1
        assert report.without_waiting == report.makespan


@st.composite
def timed_workflows(draw: st.DrawFn) -> tuple[Workflow, dict[str, int]]:
    """Draw a workflow whose steps wait for all dependencies, and the duration of each step in nanoseconds."""
    ids = [chr(ord("a") + place) for place in range(draw(st.integers(1, 8)))]
    chosen = [
        draw(st.lists(st.sampled_from(ids[:place]), max_size=3, unique=True)) if place else []
        for place in range(len(ids))
    ]
    steps = [step(step_id, *deps) for step_id, deps in zip(ids, chosen, strict=True)]
    most = draw(st.sampled_from([0, 1, 2]))
    lengths = {step_id: draw(st.integers(0, 5)) * SECOND for step_id in ids}
    return flow(*steps, by_waves=draw(st.booleans()), max_parallelism=most), lengths


def play(workflow: Workflow, lengths: Mapping[str, int]) -> Drive:
    """Run a workflow: each step starts as soon as the limit allows, and takes its duration."""
    drive = Drive.begun(workflow, checked=False)
    ends: dict[str, int] = {}
    while drive.run.finished is None:
        for step_id in drive.waiting():
            drive.start(step_id)
            ends[step_id] = drive.now + lengths[step_id]
        first = min(ends, key=lambda step_id: ends[step_id])
        drive.now = ends.pop(first)
        drive.succeed(first)
    return drive


def makespan_without_waiting(workflow: Workflow, lengths: Mapping[str, int], *, by_waves: bool) -> timedelta:
    """Return the makespan of a run without waiting."""
    waves: dict[str, int] = {}
    ends: dict[str, int] = {}
    for one in workflow.steps:
        waves[one.id] = max((waves[dep] + 1 for dep in one.depends_on), default=0)
    for one in sorted(workflow.steps, key=lambda one: waves[one.id]):
        before = one.depends_on if not by_waves else [other for other in ends if waves[other] < waves[one.id]]
        ends[one.id] = max((ends[other] for other in before), default=0) + lengths[one.id]
    return timedelta(microseconds=max(ends.values()) // 1_000)


@soak(200)
@given(timed_workflows())
def test_a_replay_without_waiting_takes_as_long_as_the_longest_chain(drawn: tuple[Workflow, dict[str, int]]) -> None:
    workflow, lengths = drawn
    by_waves = workflow.scheduling is Scheduling.WAVE
    report = check(play(workflow, lengths))
    assert report.without_waiting == makespan_without_waiting(workflow, lengths, by_waves=by_waves)
    assert report.without_barriers == makespan_without_waiting(workflow, lengths, by_waves=False)
    if not workflow.max_parallelism:
        assert report.makespan == report.without_waiting


@soak(200)
@given(timed_workflows())
def test_a_step_may_take_longer_by_its_slack_and_by_no_more(drawn: tuple[Workflow, dict[str, int]]) -> None:
    workflow, lengths = replace(drawn[0], max_parallelism=0), drawn[1]
    by_waves = workflow.scheduling is Scheduling.WAVE
    report = check(play(workflow, lengths))
    for step_id, reported in report.steps.items():
        slack = reported.slack // timedelta(microseconds=1) * 1_000
        later = {**lengths, step_id: lengths[step_id] + slack}
        too_late = {**lengths, step_id: lengths[step_id] + slack + SECOND}
        assert makespan_without_waiting(workflow, later, by_waves=by_waves) == report.makespan
        assert makespan_without_waiting(workflow, too_late, by_waves=by_waves) > report.makespan


@soak(150)
@given(workflows(), st.data())
def test_the_parts_of_every_step_of_nested_graphs_add_up(workflow: Workflow, data: st.DataObject) -> None:
    drive = Drive(workflow, checked=False)
    feed_random_inputs(drive, data)
    report = report_on(drive)
    assert report.path_parts.total == report.makespan
    for reported in report.steps.values():
        assert reported.slack >= ZERO
        spans = sum((one.end - one.start for one in reported.phases), ZERO)
        assert reported.parts.total == reported.end - reported.begin == spans
        assert reported.on_path == (reported.step_id in report.path)
    assert ZERO <= report.without_waiting <= report.makespan
