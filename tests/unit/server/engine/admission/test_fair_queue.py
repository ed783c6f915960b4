"""Tests of the bound on attempts in flight and of the turns of runs, without limits and with limited admission."""

import pytest

from unit.server.engine.admission.harness import AdmissionHarness


@pytest.fixture(params=["fair", "limited"])
def plain(request: pytest.FixtureRequest) -> bool:
    """Return whether to use the fair queue rather than limited admission."""
    return bool(request.param == "fair")


def _waiting(plain: bool, places: int, **waiting: int) -> AdmissionHarness:
    """Return a harness with some waiting attempts of each run."""
    harness = AdmissionHarness(places=places, plain=plain)
    for run_key, count in waiting.items():
        harness.submit(run_key, count)
    return harness


def test_as_many_attempts_are_admitted_as_there_are_places(plain: bool) -> None:
    harness = _waiting(plain, 3, a=5)
    assert harness.admit() == ["a0", "a1", "a2"]
    assert harness.admission.in_flight == 3


def test_a_released_place_admits_the_next_attempt(plain: bool) -> None:
    harness = _waiting(plain, 1, a=2)
    assert harness.admit() == ["a0"]
    harness.release("a0")
    assert harness.admit() == ["a1"]


def test_runs_take_turns_whatever_their_width(plain: bool) -> None:
    assert _waiting(plain, 100, a=5, b=2, c=1).admit() == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]


def test_a_later_run_takes_the_turn_after_the_next(plain: bool) -> None:
    harness = _waiting(plain, 1, a=1_000)
    assert harness.admit() == ["a0"]
    harness.submit("b")
    harness.release("a0")
    assert harness.admit() == ["a1"]
    harness.release("a1")
    assert harness.admit() == ["b0"]


def test_a_withdrawn_attempt_takes_no_place(plain: bool) -> None:
    harness = _waiting(plain, 1, a=2)
    harness.withdraw("a0")
    assert harness.admit() == ["a1"]
    assert harness.admission.in_flight == 1


def test_the_obstacle_of_waiting_attempts_is_the_servers_bound(plain: bool) -> None:
    harness = _waiting(plain, 1, a=4)
    harness.admit()
    harness.withdraw("a2")
    assert harness.obstacle_of("a1") == ("concurrency", "the server's max_attempts is 1")
    groups = [(group.size, [str(it) for it in group.tickets]) for group in harness.admission.waiting("a", 0)]
    assert groups == [(2, ["a1", "a3"])]
    assert list(harness.admission.waiting("b", 0)) == []


def test_nothing_is_admitted_when_nothing_waits(plain: bool) -> None:
    assert _waiting(plain, 5).admit() == []
