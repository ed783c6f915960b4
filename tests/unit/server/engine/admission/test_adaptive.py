"""The adaptive bound: it falls at once, climbs back slowly, waits beneath its ceiling, and finds one that grew."""

import pytest

from benchmarks.capacity import PHASES, Phase, simulate
from stepwave_server.engine.admission.adaptive import HOLD, AdaptiveBound
from stepwave_server.engine.admission.limits import Adaptive, Bound

ADAPTIVE = Bound(adaptive=Adaptive())


def _bound(initial: int = 8, least: int = 1, most: int = 64) -> AdaptiveBound:
    return AdaptiveBound(Adaptive(initial=initial, least=least, most=most))


def _round(bound: AdaptiveBound, successes: int = 0) -> int:
    """Let as many succeed as it allows at once, all of it used; return what it allows then."""
    for _ in range(successes or bound.limit):
        bound.succeed(bound.start(bound.limit), bound.limit)
    return bound.limit


def _refuse(bound: AdaptiveBound) -> int:
    bound.refuse(bound.start(bound.limit), bound.limit)
    return bound.limit


def test_a_refusal_cuts_a_fifth_and_one_after_the_other_a_half() -> None:
    bound = _bound(initial=40)
    assert [_refuse(bound), _refuse(bound), _refuse(bound)] == [32, 16, 8]
    _round(bound, 1)
    assert _refuse(bound) == 6


def test_refusals_of_one_round_cut_once() -> None:
    bound = _bound(initial=10)
    marks = [bound.start(number) for number in range(1, 11)]
    for mark in marks:
        bound.refuse(mark, 10)
    assert (bound.limit, bound.refused) == (8, 10)


def test_a_refusal_while_few_are_in_flight_cuts_to_fewer_than_those() -> None:
    bound = _bound(initial=64)
    bound.refuse(bound.start(5), 5)
    assert bound.limit == 4


def test_it_stays_within_its_bounds() -> None:
    bound = _bound(initial=4, least=2, most=6)
    for _ in range(5):
        _refuse(bound)
    assert bound.limit == 2
    for _ in range(100):
        _round(bound)
    assert bound.limit == 6


def test_it_climbs_by_one_a_round_below_its_ceiling_and_waits_beneath_it() -> None:
    bound = _bound(initial=20)
    _refuse(bound)
    assert [_round(bound), _round(bound), _round(bound)] == [17, 18, 19]
    assert _round(bound) == 19
    assert _round(bound, HOLD - 19) == 20


def test_it_climbs_faster_when_its_ceiling_has_gone() -> None:
    bound = _bound(initial=20)
    _refuse(bound)
    assert [_round(bound) for _ in range(3)] == [17, 18, 19]
    assert _round(bound, HOLD) == 20
    assert [_round(bound) for _ in range(6)] == [21, 23, 27, 33, 41, 51]


def test_it_does_not_climb_while_its_places_are_not_used() -> None:
    bound = _bound(initial=8)
    for _ in range(1_000):
        bound.succeed(bound.start(2), 2)
    assert bound.limit == 8


def test_successes_of_before_a_cut_say_nothing() -> None:
    bound = _bound(initial=10)
    early = [bound.start(10) for _ in range(10)]
    _refuse(bound)
    for mark in early:
        bound.succeed(mark, 8)
    assert bound.limit == 8


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shift", [-100, 0, 55])
def test_a_service_that_grows_and_shrinks_is_used_and_seldom_refuses(seed: int, shift: int) -> None:
    phases = (Phase(600 + shift, 8), Phase(800, 32), Phase(600 - shift, 4))
    figures = simulate(ADAPTIVE, phases=phases, seed=seed)
    assert figures.answered == 2_000
    assert figures.used >= 0.8
    assert figures.refused_share < 0.05


def test_no_fixed_limit_does_both() -> None:
    for most in (4, 8, 16, 32):
        figures = simulate(Bound(concurrency=most), phases=PHASES)
        assert figures.used < 0.8 or figures.refused_share >= 0.05
