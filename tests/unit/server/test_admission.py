"""Admission: a bound on attempts in flight, and turns among the runs that wait."""

from dataclasses import dataclass

from stepwave_server.engine.admission import Admission


@dataclass(eq=False)
class Waits:
    run_key: str
    name: int
    withdrawn: bool = False


def _admission(limit: int, **waiting: int) -> Admission[Waits]:
    """Return an admission at which so many attempts of each run wait."""
    admission: Admission[Waits] = Admission(limit)
    for run_key, count in waiting.items():
        for name in range(count):
            admission.submit(Waits(run_key, name))
    return admission


def _admitted(admission: Admission[Waits]) -> list[str]:
    found = []
    while (ticket := admission.admit()) is not None:
        found.append(f"{ticket.run_key}{ticket.name}")
    return found


def test_as_many_are_admitted_as_there_are_places() -> None:
    admission = _admission(3, a=5)
    assert _admitted(admission) == ["a0", "a1", "a2"]
    assert admission.in_flight == 3


def test_a_place_that_is_given_back_admits_the_next() -> None:
    admission = _admission(1, a=2)
    assert _admitted(admission) == ["a0"]
    admission.release()
    assert _admitted(admission) == ["a1"]


def test_runs_take_turns_whatever_their_width() -> None:
    admission = _admission(100, a=5, b=2, c=1)
    assert _admitted(admission) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]


def test_a_run_that_comes_later_takes_the_next_turn_but_one() -> None:
    admission = _admission(1, a=1_000)
    assert _admitted(admission) == ["a0"]
    admission.submit(Waits("b", 0))
    admission.release()
    assert _admitted(admission) == ["a1"]
    admission.release()
    assert _admitted(admission) == ["b0"]


def test_an_attempt_that_is_withdrawn_takes_no_place() -> None:
    admission: Admission[Waits] = Admission(1)
    admission.submit(Waits("a", 0, withdrawn=True))
    admission.submit(Waits("a", 1))
    assert _admitted(admission) == ["a1"]
    assert admission.in_flight == 1


def test_a_run_of_which_nothing_waits_any_more_is_forgotten() -> None:
    admission = _admission(10, a=2)
    _admitted(admission)
    assert admission._queues == {}
    assert not admission._turns


def test_nothing_waits_nothing_is_admitted() -> None:
    assert Admission[Waits](5).admit() is None
