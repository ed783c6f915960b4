"""Limits files: what they can express, and that every problem is reported with its line."""

from pathlib import Path

import pytest

from stepwave_server.core.model import SECOND
from stepwave_server.engine.admission.limits import Adaptive, Bound, Limit, Rate
from stepwave_server.files.limits import LimitsError, load_limits, parse_limits, unmatched_limits


def _read(text: str) -> tuple[Limit, ...]:
    return parse_limits(text, "limits.yaml")


def _problems(text: str) -> list[str]:
    with pytest.raises(LimitsError) as caught:
        _read(text)
    return str(caught.value).splitlines()


def _one(text: str) -> Limit:
    (limit,) = _read(f"limits:\n- {{actions: act, {text}}}\n")
    return limit


def _rejected(text: str) -> str:
    (problem,) = _problems(f"limits:\n- {{actions: act, {text}}}\n")
    return problem.partition(": ")[2]


def test_a_file_lists_limits_of_actions() -> None:
    text = """\
limits:
  - actions: "search.*"
    concurrency: 8
    rate: 20/s
    per_key: {concurrency: 2, rate: {count: 5, per: 1m, burst: 10}}
  - actions: "*"
    adaptive: {initial: 4, min: 2, max: 32}
"""
    assert _read(text) == (
        Limit(
            actions="search.*",
            total=Bound(concurrency=8, rate=Rate(count=20, per=SECOND)),
            per_key=Bound(concurrency=2, rate=Rate(count=5, per=60 * SECOND, burst=10)),
        ),
        Limit(actions="*", total=Bound(adaptive=Adaptive(initial=4, least=2, most=32))),
    )


def test_json_is_read_like_yaml() -> None:
    text = '{"limits": [{"actions": "act", "rate": {"count": 3}}]}'
    assert parse_limits(text, "limits.json")[0].total == Bound(rate=Rate(count=3, per=SECOND))


@pytest.mark.parametrize(
    ("text", "count", "per"),
    [("20/s", 20, 1), ("100/10s", 100, 10), ("5/m", 5, 60), ("1/h", 1, 3600), ("3/250ms", 3, 0.25), ("7/1.5s", 7, 1.5)],
)
def test_a_rate_is_a_count_in_a_time(text: str, count: int, per: float) -> None:
    assert _one(f"rate: {text}").total == Bound(rate=Rate(count=count, per=round(per * SECOND)))


def test_an_adaptive_limit_has_defaults() -> None:
    assert _one("adaptive: true").total == Bound(adaptive=Adaptive())
    assert _one("adaptive: {max: 4}").total == Bound(adaptive=Adaptive(initial=4, least=1, most=4))
    assert _one("adaptive: true, concurrency: 5").total == Bound(
        concurrency=5, adaptive=Adaptive(initial=5, least=1, most=5)
    )
    assert _one("adaptive: false, concurrency: 5").total == Bound(concurrency=5)


def test_an_empty_list_has_no_limits() -> None:
    assert _read("limits: []") == ()


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "true", "1000001", "[1]"])
def test_an_invalid_concurrency_is_reported(value: str) -> None:
    assert _rejected(f"concurrency: {value}").startswith(
        "limits[0].concurrency: expected a whole number from 1 to 1,000,000, got "
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("0/s", "limits[0].rate: expected a whole number from 1 to 1,000,000, got the number 0"),
        ("fast", "limits[0].rate: expected a rate such as 20/s, 100/10s"),
        ("20", "limits[0].rate: expected a rate such as 20/s, 100/10s"),
        ("-3/s", "limits[0].rate: expected a rate such as"),
        ("3/0s", "limits[0].rate: expected a duration of more than 0 s and at most 24 h"),
        ("3/48h", "limits[0].rate: expected a duration of more than 0 s and at most 24 h"),
        ("{count: 0}", "limits[0].rate.count: expected a whole number"),
        ("{per: 1s}", "limits[0].rate: needs `count`"),
        ("{count: 1, burst: 0}", "limits[0].rate.burst: expected a whole number"),
        ("{count: 1, burst: -2}", "limits[0].rate.burst: expected a whole number"),
        ("{count: 1, per: soon}", 'limits[0].rate.per: "soon" is not a duration'),
        ("{count: 1, brust: 2}", 'limits[0].rate: unknown key "brust"; did you mean "burst"?'),
    ],
)
def test_an_invalid_rate_is_reported(value: str, problem: str) -> None:
    assert _rejected(f"rate: {value}").startswith(problem)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("{min: 0}", "limits[0].adaptive.min: expected a whole number"),
        ("{min: 9, max: 3}", "limits[0].adaptive: want min ≤ initial ≤ max, got 9, 3 and 3"),
        ("{initial: 99}", "limits[0].adaptive: want min ≤ initial ≤ max, got 1, 99 and 64"),
        ("fast", 'limits[0].adaptive: expected a mapping, got the string "fast"'),
        ("{maximum: 3}", 'limits[0].adaptive: unknown key "maximum"; did you mean "max"?'),
    ],
)
def test_an_invalid_adaptive_limit_is_reported(value: str, problem: str) -> None:
    assert _rejected(f"adaptive: {value}").startswith(problem)


@pytest.mark.parametrize("value", ['""', "a*b", "'**'", ".a", "a b", "3", "[a]"])
def test_an_invalid_action_pattern_is_reported(value: str) -> None:
    (problem,) = _problems(f"limits:\n- actions: {value}\n  concurrency: 1\n")
    assert problem.startswith("limits.yaml:2:12: limits[0].actions: expected the name of an action")


def test_all_problems_are_reported_together_in_order() -> None:
    text = """\
limits:
  - actions: search
    concurency: 8
    rate: 0/s
  - concurrency: 0
  - actions: search
  - {actions: x, per_key: {}}
  - nonsense
limit: []
"""
    assert _problems(text) == [
        'limits.yaml:3:5: limits[0]: unknown key "concurency"; did you mean "concurrency"?',
        "limits.yaml:4:11: limits[0].rate: expected a whole number from 1 to 1,000,000, got the number 0",
        "limits.yaml:5:5: limits[1]: needs `actions`: a name, or the beginning of names and *",
        "limits.yaml:5:18: limits[1].concurrency: expected a whole number from 1 to 1,000,000, got the number 0",
        "limits.yaml:6:5: limits[2]: allows everything: set concurrency, rate, adaptive or per_key",
        'limits.yaml:6:14: limits[2].actions: "search" is already covered by limits[0]',
        "limits.yaml:7:18: limits[3].per_key: allows everything: set concurrency, rate or adaptive",
        'limits.yaml:8:5: limits[4]: expected a mapping, got the string "nonsense"',
        'limits.yaml:9:1: unknown key "limit"; did you mean "limits"?',
    ]


@pytest.mark.parametrize(
    "text", ["", "# nothing", "limits: 3", "limits: {a: 1}", "other: []", "- a", "limits: [", "a: b: c"]
)
def test_another_file_is_rejected(text: str) -> None:
    assert _problems(text)


def test_an_unreadable_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(LimitsError, match="cannot be read"):
        load_limits(tmp_path / "none.yaml")
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xff")
    with pytest.raises(LimitsError, match="cannot be read"):
        load_limits(tmp_path / "odd.yaml")


def test_a_limit_that_matches_no_action_is_reported() -> None:
    limits = _read("limits: [{actions: serach, concurrency: 1}, {actions: 'search*', concurrency: 1}]")
    assert unmatched_limits(limits, ["search", "weather"]) == [
        'the limit "serach" covers no action of this server; did you mean "search"?'
    ]


def test_a_limit_whose_only_bound_is_off_is_rejected() -> None:
    text = """limits:
  - {actions: search, adaptive: false}
  - {actions: chat, per_key: {adaptive: false}}
"""
    problems = _problems(text)
    assert [problem.partition(": ")[2] for problem in problems] == [
        "limits[0]: allows everything: set concurrency, rate, adaptive or per_key",
        "limits[1].per_key: allows everything: set concurrency, rate or adaptive",
    ]
