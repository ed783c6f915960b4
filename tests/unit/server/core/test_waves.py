"""Waves: the levels of the graph, recorded before anything runs, and barriers under `WAVE`."""

from stepwave_server.core.messages import RunStarted, StepStarted, Wave
from stepwave_server.core.model import Join
from unit.server.core.build import flow, step
from unit.server.core.driver import Drive

DIAMOND = (step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"))


def plan(drive: Drive) -> tuple[Wave, ...]:
    """Return the waves of a plan of one event."""
    (started,) = drive.of(RunStarted)
    return started.waves


def test_a_steps_wave_is_one_above_its_highest_dependency() -> None:
    drive = Drive.begun(flow(step("e", "d", "a"), *DIAMOND, step("f")))
    assert plan(drive) == (Wave(0, ("a", "f")), Wave(1, ("b", "c")), Wave(2, ("d",)), Wave(3, ("e",)))


def test_a_wave_lists_its_steps_in_declaration_order() -> None:
    drive = Drive.begun(flow(step("z", "a"), step("y", "b"), step("b"), step("a")))
    assert plan(drive) == (Wave(0, ("b", "a")), Wave(1, ("z", "y")))


def test_a_diamond_runs_in_three_waves() -> None:
    drive = Drive.begun(flow(*DIAMOND))
    drive.finish()
    assert drive.log() == [
        "run started",
        *("wave 0 started", "a started", "a succeeded", "wave 0 finished"),
        *("wave 1 started", "b started", "b succeeded", "c started", "c succeeded", "wave 1 finished"),
        *("wave 2 started", "d started", "d succeeded", "wave 2 finished"),
        "run succeeded",
    ]


def test_a_step_event_has_its_wave() -> None:
    drive = Drive.begun(flow(*DIAMOND))
    drive.finish()
    assert {event.step_id: event.wave for event in drive.of(StepStarted)} == {"a": 0, "b": 1, "c": 1, "d": 2}
    assert drive.finished("d").wave == 2


def test_a_step_is_ready_the_moment_its_own_dependencies_are_done() -> None:
    drive = Drive.begun(flow(step("a"), step("slow"), step("b", "a")))
    drive.start("slow")
    drive.succeed("a")
    assert drive.succeed("b") == ["b succeeded", "wave 1 finished"]
    assert drive.succeed("slow") == ["slow succeeded", "wave 0 finished", "run succeeded"]


def test_by_waves_a_step_waits_for_the_whole_wave_before() -> None:
    drive = Drive.begun(flow(step("a"), step("slow"), step("b", "a"), by_waves=True))
    drive.start("slow")
    drive.succeed("a")
    assert drive.waiting() == []
    drive.succeed("slow")
    assert drive.waiting() == ["b"]


def test_by_waves_a_step_is_ready_when_the_wave_before_has_ended() -> None:
    drive = Drive.begun(flow(step("a"), step("slow"), step("b", "a"), by_waves=True))
    drive.succeed("a")
    drive.now += 1
    drive.succeed("slow")
    drive.finish()
    assert drive.finished("b").ready_time == drive.finished("slow").time > drive.finished("a").time


def test_by_waves_the_next_one_starts_in_declaration_order() -> None:
    drive = Drive.begun(flow(step("d", "b"), step("c", "a"), step("a"), step("b"), by_waves=True))
    drive.succeed("a")
    drive.succeed("b")
    assert drive.waiting() == ["d", "c"]


def test_by_waves_a_skipped_wave_delays_nothing() -> None:
    steps = (step("a"), step("b"), step("c", "a"), step("d", "c", join=Join.ALL_DONE))
    drive = Drive.begun(flow(*steps, go_on=True, by_waves=True))
    drive.fail("a")
    assert drive.waiting() == ["b"]
    assert drive.succeed("b") == ["b succeeded", "wave 0 finished"]
    assert drive.waiting() == ["d"]


def test_by_waves_a_failure_skips_steps_behind_the_barrier_except_clean_up() -> None:
    steps = (step("a"), step("b"), step("c", "a"), step("d", "a", join=Join.ALL_DONE))
    drive = Drive.begun(flow(*steps, by_waves=True))
    drive.succeed("a")
    assert drive.fail("b") == ["b failed", "c skipped", "wave 0 finished"]
    assert drive.waiting() == ["d"]


def test_a_wave_in_which_nothing_started_has_no_events() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a"), step("c", "b"), go_on=True))
    drive.fail("a")
    assert [brief for brief in drive.log() if brief.startswith("wave")] == ["wave 0 started", "wave 0 finished"]


def test_a_wave_starts_with_its_first_attempt_and_not_when_it_is_ready() -> None:
    drive = Drive.begun(flow(step("a"), step("b")))
    assert drive.log() == ["run started"]
    assert drive.start("b") == ["wave 0 started", "b started"]
    assert drive.start("a") == ["a started"]


def test_waves_that_finish_together_do_so_in_order() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a"), step("x"), step("y", "x")))
    drive.start("a")
    drive.succeed("x")
    drive.succeed("y")
    assert drive.fail("a") == ["a failed", "b skipped", "wave 0 finished", "wave 1 finished", "run failed"]


def test_waves_overlap_where_steps_do() -> None:
    drive = Drive.begun(flow(step("a"), step("slow"), step("b", "a"), step("c", "b")))
    drive.start("slow")
    drive.succeed("a")
    drive.succeed("b")
    assert drive.start("c") == ["wave 2 started", "c started"]
    assert "wave 0 finished" not in drive.log()
