"""Tests of the adaptive bound: cuts, climbs, the wait below the ceiling, and a ceiling that has gone."""

import pytest

from benchmarks.capacity import PHASES, Phase, simulate
from stepwave_server.engine.admission.adaptive import HOLD, AdaptiveBound
from stepwave_server.engine.admission.limits import Adaptive, Bound

ADAPTIVE = Bound(adaptive=Adaptive())


def _bound(initial: int = 8, least: int = 1, most: int = 64) -> AdaptiveBound:
    return AdaptiveBound(Adaptive(initial=initial, least=least, most=most))


def _round(bound: AdaptiveBound, successes: int = 0) -> int:
    """Count a round of successes with all places in use. Return the bound after it."""
    for _ in range(successes or bound.limit):
        bound.succeed(bound.start(bound.limit), bound.limit)
    return bound.limit


def _refuse(bound: AdaptiveBound) -> int:
    bound.refuse(bound.start(bound.limit), bound.limit)
    return bound.limit


def test_a_refusal_cuts_a_fifth_and_a_further_one_without_success_a_half() -> None:
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


def test_a_refusal_cuts_below_the_number_of_attempts_in_flight() -> None:
    bound = _bound(initial=64)
    bound.refuse(bound.start(5), 5)
    assert bound.limit == 4


def test_it_stays_between_its_lowest_and_highest_bound() -> None:
    bound = _bound(initial=4, least=2, most=6)
    for _ in range(5):
        _refuse(bound)
    assert bound.limit == 2
    for _ in range(100):
        _round(bound)
    assert bound.limit == 6


def test_it_climbs_by_one_a_round_and_waits_just_below_its_ceiling() -> None:
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


def test_successes_of_attempts_from_before_a_cut_do_not_count() -> None:
    bound = _bound(initial=10)
    early = [bound.start(10) for _ in range(10)]
    _refuse(bound)
    for mark in early:
        bound.succeed(mark, 8)
    assert bound.limit == 8


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shift", [-100, 0, 55])
def test_it_follows_a_service_that_grows_and_shrinks_with_few_refusals(seed: int, shift: int) -> None:
    phases = (Phase(600 + shift, 8), Phase(800, 32), Phase(600 - shift, 4))
    figures = simulate(ADAPTIVE, phases=phases, seed=seed)
    assert figures.answered == 2_000
    assert figures.used >= 0.8
    assert figures.refused_share < 0.05


def test_no_fixed_limit_uses_the_service_as_well_with_as_few_refusals() -> None:
    for most in (4, 8, 16, 32):
        figures = simulate(Bound(concurrency=most), phases=PHASES)
        assert figures.used < 0.8 or figures.refused_share >= 0.05
