"""Admission: a bound on attempts in flight, and turns among the runs that wait; the same with limits and without."""

import pytest

from unit.server.engine.admission.script import Applicants


@pytest.fixture(params=["plain", "gated"])
def kind(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "plain")


def _desk(plain: bool, places: int, **waiting: int) -> Applicants:
    """Return a applicants at which so many attempts of each run wait."""
    applicants = Applicants(places=places, plain=plain)
    for run_key, count in waiting.items():
        applicants.ask(run_key, count)
    return applicants


def test_as_many_are_admitted_as_there_are_places(kind: bool) -> None:
    applicants = _desk(kind, 3, a=5)
    assert applicants.enter() == ["a0", "a1", "a2"]
    assert applicants.admission.in_flight == 3


def test_a_place_that_is_given_back_admits_the_next(kind: bool) -> None:
    applicants = _desk(kind, 1, a=2)
    assert applicants.enter() == ["a0"]
    applicants.end("a0")
    assert applicants.enter() == ["a1"]


def test_runs_take_turns_whatever_their_width(kind: bool) -> None:
    assert _desk(kind, 100, a=5, b=2, c=1).enter() == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]


def test_a_run_that_comes_later_takes_the_next_turn_but_one(kind: bool) -> None:
    applicants = _desk(kind, 1, a=1_000)
    assert applicants.enter() == ["a0"]
    applicants.ask("b")
    applicants.end("a0")
    assert applicants.enter() == ["a1"]
    applicants.end("a1")
    assert applicants.enter() == ["b0"]


def test_an_attempt_that_is_withdrawn_takes_no_place(kind: bool) -> None:
    applicants = _desk(kind, 1, a=2)
    applicants.leave("a0")
    assert applicants.enter() == ["a1"]
    assert applicants.admission.in_flight == 1


def test_what_waits_for_the_server_says_so(kind: bool) -> None:
    applicants = _desk(kind, 1, a=4)
    applicants.enter()
    applicants.leave("a2")
    assert applicants.why("a1") == ("concurrency", "the server's max_attempts is 1")
    groups = [(group.size, [str(it) for it in group.tickets]) for group in applicants.admission.waiting("a", 0)]
    assert groups == [(2, ["a1", "a3"])]
    assert list(applicants.admission.waiting("b", 0)) == []


def test_nothing_waits_nothing_is_admitted(kind: bool) -> None:
    assert _desk(kind, 5).enter() == []
