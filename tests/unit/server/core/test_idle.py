"""The idle limit of open runs, in virtual time."""

from stepwave_server.core.messages import RunStopping, Timer, TimerFired
from stepwave_server.core.model import SECOND, FailureCause, Reason, State, Step
from stepwave_server.core.state import RunOptions
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import Drive
from unit.server.core.replays import assert_replays


def begun(*steps: Step, idle: int | None = 600) -> Drive:
    """Return an open run that has been started; `idle` is its limit in seconds."""
    drive = Drive(flow(*steps), options=RunOptions(open=True, idle_timeout=None if idle is None else idle * SECOND))
    drive.begin()
    return drive


def test_a_plan_that_never_adds_a_step_ends_at_the_limit() -> None:
    drive = begun()
    assert drive.wait(599) == []
    assert drive.wait(1) == ["run stopping", "run failed"]
    (stopping,) = drive.of(RunStopping)
    assert (stopping.failure.reason, stopping.failure.cause) == (Reason.TIMEOUT, FailureCause.PLAN_IDLE)
    assert stopping.failure.message == "no steps were added for 600 s, and the run was never sealed"


def test_a_run_that_works_is_not_idle() -> None:
    drive = begun(step("a"))
    drive.wait(100)
    assert drive.next_timer() is None  # it waits for a place
    drive.start("a")
    drive.wait(500)
    assert drive.state("a") is State.RUNNING
    drive.succeed("a")
    assert drive.wait(599) == []
    assert drive.wait(1)[-1] == "run failed"


def test_a_run_that_backs_off_is_not_idle() -> None:
    drive = begun(step("a", retry=retry(2, pause=50)), idle=10)
    drive.fail_retryably("a")
    drive.wait(49)
    assert drive.run.finished is None
    drive.wait(1)
    assert drive.waiting() == ["a"]


def test_added_steps_begin_the_limit_anew_even_if_nothing_can_run() -> None:
    drive = begun()
    drive.wait(400)
    drive.add(step("b", "later"))
    assert drive.wait(599) == []
    assert drive.wait(1) == ["run stopping", "b skipped", "run failed"]


def test_a_repeat_of_steps_does_not_begin_the_limit_anew() -> None:
    drive = begun()
    drive.add(step("b", "later"))
    drive.wait(400)
    drive.add(step("b", "later"))
    assert drive.wait(200)[-1] == "run failed"


def test_a_sealed_run_is_not_idle() -> None:
    drive = begun()
    drive.add(step("a"), seal=True)
    drive.wait(10_000)
    assert drive.waiting() == ["a"]


def test_a_run_without_a_limit_waits_for_ever() -> None:
    drive = begun(idle=None)
    assert drive.next_timer() is None


def test_a_timer_has_no_effect_after_a_later_event() -> None:
    drive = begun()
    earlier = TimerFired(Timer("idle", attempt=drive.run.sequence))
    drive.add(step("a"))
    assert drive.send(earlier) == []
    drive.succeed("a")
    assert drive.send(earlier) == []


def test_the_limit_goes_on_over_a_restart() -> None:
    drive = begun(step("a"))
    drive.succeed("a")
    drive.wait(300)
    drive.recover()
    timer = drive.next_timer()
    assert timer is not None
    assert timer.due == drive.run.time + 600 * SECOND
    assert drive.wait(300)[-1] == "run failed"


def test_an_idle_end_replays() -> None:
    drive = begun(step("a"))
    drive.succeed("a")
    drive.wait(600)
    assert_replays(drive)
