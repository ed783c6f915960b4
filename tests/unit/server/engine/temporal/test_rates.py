"""Limits on Temporal: the rate of one action carries over, and everything else is refused by name."""

import pytest

from stepwave_server.engine.temporal.rates import UnsupportedLimits, rates_of
from stepwave_server.files.limits import parse_limits


def _rates(*limits: str) -> dict[str, float]:
    text = "limits:\n" + "".join(f"- {{{limit}}}\n" for limit in limits)
    return dict(rates_of(parse_limits(text, "limits.yaml")))


def test_the_rate_of_an_action_becomes_starts_in_a_second() -> None:
    assert _rates("actions: a, rate: 20/s", "actions: b, rate: 3/m", "actions: c, rate: {count: 5, per: 500ms}") == {
        "a": 20.0,
        "b": 0.05,
        "c": 10.0,
    }


def test_a_burst_of_one_is_none() -> None:
    assert _rates("actions: a, rate: {count: 5, burst: 1}") == {"a": 5.0}


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        ("actions: a, concurrency: 2", "concurrency: Temporal does not count over all hosts: use --slots"),
        ("actions: a, adaptive: true", "adaptive: Temporal does not adapt to refusals: set a rate, or use --slots"),
        ("actions: a, per_key: {rate: 1/s}", "per_key: Temporal does not count by key"),
        ("actions: a, rate: {count: 5, burst: 10}", "rate: Temporal takes no burst: leave it out"),
    ],
)
def test_what_needs_the_memory_of_one_server_is_refused(limit: str, problem: str) -> None:
    with pytest.raises(UnsupportedLimits) as caught:
        _rates(limit)
    assert str(caught.value).startswith(f'the limit "a": {problem}')


def test_a_pattern_is_refused() -> None:
    with pytest.raises(UnsupportedLimits, match=r'^the limit "a\.\*": Temporal limits each action alone'):
        _rates("actions: a.*, rate: 1/s")


def test_all_problems_of_all_limits_are_named() -> None:
    with pytest.raises(UnsupportedLimits) as caught:
        _rates("actions: a, concurrency: 2, adaptive: true", "actions: b, rate: 1/s", "actions: c*, concurrency: 1")
    named = [line.split(": ")[0] for line in str(caught.value).splitlines()]
    assert named == ['the limit "a"', 'the limit "a"', 'the limit "c*"', 'the limit "c*"']
