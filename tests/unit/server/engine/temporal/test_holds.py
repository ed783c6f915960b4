"""The holds of a run: when its window begins and ends, and when it is cancelled."""

import pytest

from stepwave_server.engine.temporal.holds import HoldChange, HoldKind, Holds


def change(holds: Holds, kind: HoldKind, holder: str = "") -> str:
    return holds.change(HoldChange(kind, holder))


def test_a_detached_run_is_held_by_nobody() -> None:
    holds = Holds(None, "a")
    assert not holds.holders
    assert change(holds, "attach", "b") == ""
    assert not holds.holders


def test_the_window_begins_when_the_last_server_releases_the_run() -> None:
    holds = Holds(5.0, "a")
    change(holds, "attach", "b")
    change(holds, "release", "a")
    assert not holds.begins()
    change(holds, "release", "b")
    assert holds.begins()
    assert not holds.begins(), "once"


def test_a_server_that_attaches_ends_the_window() -> None:
    holds = Holds(5.0, "a")
    change(holds, "release", "a")
    holds.begins()
    timer = holds.timer
    change(holds, "attach", "b")
    assert holds.ends()
    assert holds.passed(timer) == ""


def test_the_timer_of_an_earlier_window_cancels_nothing() -> None:
    holds = Holds(5.0, "a")
    change(holds, "release", "a")
    holds.begins()
    earlier = holds.timer
    change(holds, "attach", "a")
    holds.ends()
    change(holds, "release", "a")
    holds.begins()
    assert holds.passed(earlier) == ""
    assert holds.passed(holds.timer) == "the caller did not come back"


def test_a_window_that_has_passed_does_not_begin_again() -> None:
    holds = Holds(5.0, "a")
    change(holds, "release", "a")
    holds.begins()
    holds.passed(holds.timer)
    change(holds, "release", "a")
    assert not holds.begins()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("release", "the caller went away"), ("lose", "the caller did not come back"), ("leave", "")],
)
def test_without_a_window_the_run_is_cancelled_unless_the_server_stopped_in_order(kind: HoldKind, reason: str) -> None:
    assert change(Holds(0.0, "a"), kind, "a") == reason


def test_a_server_that_does_not_hold_the_run_releases_nothing() -> None:
    holds = Holds(0.0, "a")
    assert change(holds, "lose", "b") == ""
    assert holds.holders == {"a"}


def test_a_detached_run_ends_its_window() -> None:
    holds = Holds(5.0, "a")
    change(holds, "release", "a")
    holds.begins()
    change(holds, "detach")
    assert holds.ends()
    assert not holds.begins()
