"""Recovery: the events of a run determine its whole state."""

from stepwave_server.core.evolve import evolve, fold
from stepwave_server.core.messages import (
    AttemptTimedOut,
    Finish,
    Interrupt,
    Invoke,
    RunStarted,
    StartTimer,
    StepStarted,
    Timer,
)
from stepwave_server.core.model import SECOND, Failure, FailureCause, FallbackAction, Join, Reason, Step, Workflow
from stepwave_server.core.resume import resume
from stepwave_server.core.state import CLEANUP_GRACE, Agenda
from unit.server.core.build import NOWHERE, flow, retry, step
from unit.server.core.driver import EVALUATOR, NOON, Drive
from unit.server.core.snapshot import snapshot


def run_with_many_events() -> Drive:
    """Return a run with nearly all kinds of events."""
    steps = (step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c", join=Join.ANY), step("e", "d"))
    more = (step("f", allow_failure=True), step("g", "e", bindings=(NOWHERE,)), step("h", "g", join=Join.ALL_DONE))
    drive = Drive.begun(flow(*steps, *more, max_parallelism=2, timeout=3600))
    for step_id in "ab":
        drive.succeed(step_id)
    drive.fail("f")
    drive.succeed("d")
    drive.start("e")
    return drive


def run_with_failures() -> Drive:
    """Return a run with backoffs, retries, timeouts and fallbacks."""
    steps = (
        step("a", retry=retry(3, pause=60)),
        step("b", retry=retry(3), total_timeout=90),
        step("c", fallback=FallbackAction("other"), total_timeout=5),
        step("d", fallback='"kept"', retry=retry(2, pause=0)),
        step("e", "a", "b", "c", "d"),
    )
    drive = Drive.begun(flow(*steps, max_parallelism=3))
    drive.fail_retryably("a")
    drive.start("b")
    drive.lose("b")
    drive.fail_retryably("d")
    drive.fail_retryably("d")
    drive.wait(5)
    drive.fail_retryably("b")
    drive.wait(1)
    return drive


def finish(drive: Drive) -> None:
    drive.succeed("e")
    drive.succeed("h")


def test_a_fold_of_each_prefix_of_the_events_gives_the_state_at_that_time() -> None:
    drive = run_with_many_events()
    finish(drive)
    running = drive.new_run()
    for place, event in enumerate(drive.events, start=1):
        evolve(running, event, Agenda())
        assert snapshot(fold(drive.new_run(), drive.events[:place])) == snapshot(running)
    assert snapshot(running) == snapshot(drive.run)


def test_a_fold_gives_the_state_at_that_time_after_failures_too() -> None:
    drive = run_with_failures()
    running = drive.new_run()
    for place, event in enumerate(drive.events, start=1):
        evolve(running, event, Agenda())
        assert snapshot(fold(drive.new_run(), drive.events[:place])) == snapshot(running)
    assert snapshot(running) == snapshot(drive.run)


def test_commands_outstanding_after_failures_are_given_again() -> None:
    drive = run_with_failures()
    assert drive.recover() == [
        StartTimer(Timer("backoff", "a", 1), NOON + 60 * SECOND),
        StartTimer(Timer("total", "b"), NOON + 90 * SECOND),
        Invoke("c", 1, "other", "null", fallback=True),
        Invoke("b", 3, "echo", "null"),
    ]


def test_a_recovered_run_handles_failures_as_the_lost_one_would_have() -> None:
    lost, kept = run_with_failures(), run_with_failures()
    lost.recover()
    for drive in (lost, kept):
        drive.succeed("b")
        drive.wait(60)
        drive.succeed("a")
        drive.fail("c")
    assert lost.events == kept.events


def test_a_recovered_run_makes_the_decisions_that_the_lost_one_would_have() -> None:
    lost, kept = run_with_many_events(), run_with_many_events()
    lost.recover()
    finish(lost)
    finish(kept)
    assert lost.events == kept.events


def test_a_request_that_may_be_lost_is_given_again() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.succeed("a", '"kept"')
    assert drive.recover() == [Invoke("b", 1, "echo", '{"a":"kept"}')]


def test_requests_are_given_again_in_their_order() -> None:
    drive = Drive.begun(flow(step("b"), step("a"), step("c"), max_parallelism=2))
    assert [command.step_id for command in drive.recover() if isinstance(command, Invoke)] == ["b", "a"]


def test_the_input_of_an_any_step_is_not_changed_by_a_recovery() -> None:
    steps = (step("a"), step("b"), step("c", "a", "b", join=Join.ANY), step("d", "b"))
    drive = Drive.begun(flow(*steps))
    drive.start("b")
    drive.succeed("a")
    drive.succeed("b")
    assert Invoke("c", 1, "echo", '{"a":1,"b":null}') in drive.recover()


def test_deadlines_count_the_time_that_was_lost() -> None:
    drive = Drive.begun(flow(step("a", timeout=5), timeout=60))
    drive.start("a")
    drive.now += 3600 * SECOND
    assert drive.recover() == [StartTimer(Timer("run"), NOON + 60 * SECOND)]
    assert drive.run.running["a"].deadline == NOON + 5 * SECOND


def test_a_running_attempt_that_is_to_end_is_interrupted_again() -> None:
    drive = Drive.begun(flow(step("a"), step("b", join=Join.ALL_DONE), step("c")))
    drive.start("a", "b")
    drive.fail("c")
    failure = Failure(Reason.CANCELLED, 'step "c" failed', step_id="a", attempt=1, cause=FailureCause.STEP_FAILED)
    assert [command for command in drive.recover() if isinstance(command, Interrupt)] == [Interrupt("a", 1, failure)]


def test_an_attempt_that_timed_out_is_interrupted_again_by_its_deadline() -> None:
    drive = Drive.begun(flow(step("a", timeout=5)))
    drive.start("a")
    drive.wait(5)
    (interrupt,) = drive.interrupts()
    assert drive.recover() == []
    assert drive.feed(AttemptTimedOut("a", 1)).commands == [interrupt]


def test_the_bound_of_clean_up_counts_from_the_failure() -> None:
    drive = Drive.begun(flow(step("a"), step("b", join=Join.ALL_DONE)))
    drive.fail("a")
    drive.now += SECOND
    drive.start("b")
    assert StartTimer(Timer("cleanup"), NOON + CLEANUP_GRACE) in drive.recover()


def test_a_run_that_stops_needs_no_more_timers_of_its_own() -> None:
    drive = Drive.begun(flow(step("a"), timeout=60))
    drive.start("a")
    drive.cancel()
    assert [command for command in drive.recover() if isinstance(command, StartTimer)] == []


def test_a_run_that_has_not_begun_has_nothing_outstanding() -> None:
    assert Drive(flow(step("a"), timeout=60)).recover() == []


def test_a_run_that_has_ended_has_only_finish_outstanding() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.finish()
    assert drive.recover() == [Finish()]


def test_resuming_changes_nothing() -> None:
    drive = run_with_many_events()
    before = snapshot(drive.run)
    assert resume(drive.run, EVALUATOR) == resume(drive.run, EVALUATOR)
    assert snapshot(drive.run) == before


# A long plan.


def long_plan() -> Workflow:
    """Return a workflow whose step ids take about 2.5 MB."""
    ids = [f"{n:05}".rjust(120, "s") for n in range(20_000)]
    return flow(*(Step(step_id, "echo", () if place < 15_000 else (ids[0],)) for place, step_id in enumerate(ids)))


def test_a_long_plan_is_split_into_several_events_of_bounded_size() -> None:
    workflow = long_plan()
    drive = Drive.begun(workflow, checked=False)
    parts = drive.of(RunStarted)
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert max(sum(len(step_id) for wave in part.waves for step_id in wave.step_ids) for part in parts) <= 1 << 20
    assert {part.step_count for part in parts} == {20_000}
    planned = [(wave.index, step_id) for part in parts for wave in part.waves for step_id in wave.step_ids]
    assert planned == [(0, step.id) for step in workflow.steps[:15_000]] + [
        (1, step.id) for step in workflow.steps[15_000:]
    ]


def test_a_wave_that_is_split_goes_on_in_the_next_event() -> None:
    parts = Drive.begun(long_plan(), checked=False).of(RunStarted)
    assert [wave.index for wave in parts[0].waves] == [0]
    assert [wave.index for wave in parts[1].waves] == [0, 1]


def test_no_step_is_ready_before_the_whole_plan_is_recorded() -> None:
    drive = Drive.begun(long_plan(), checked=False)
    planned = fold(drive.new_run(), drive.of(RunStarted)[:-1])
    assert (planned.started, len(planned.dispatched)) == (False, 0)
    evolve(planned, drive.of(RunStarted)[-1], Agenda())
    assert (planned.started, len(planned.dispatched)) == (True, 15_000)


def test_a_short_plan_is_one_event() -> None:
    drive = Drive.begun(flow(step("a")))
    assert [part.more for part in drive.of(RunStarted)] == [False]
    assert drive.of(StepStarted) == []
