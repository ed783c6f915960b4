"""The report of the benchmarks: spreads, shares of each round, and goals."""

from benchmarks.loads import Load, wide
from benchmarks.report import Report, Spread, markdown
from benchmarks.rounds import Measurement, Sample

WIDE = Load("wide", "100 steps wide", wide(100))
SMALL = Load("small", "one sleep", ((),), (0.1,))


def measured(load: Load, contender: str, *seconds: float) -> list[Measurement]:
    return [Measurement(load, contender, number, Sample(each, (each,))) for number, each in enumerate(seconds)]


def rows(measurements: list[Measurement]) -> list[tuple[str, ...]]:
    report = Report(measurements, baseline="bare", goals={"ours": {"wide": 0.22}})
    return report.rows(["bare", "ours", "late"], ["wide", "small"])


def test_a_spread_is_the_median_and_the_range() -> None:
    assert Spread.of([3, 1, 2]).text(".0f") == "2 [1..3]"


def test_shares_are_taken_round_by_round() -> None:
    table = rows(measured(WIDE, "bare", 1.0, 2.0) + measured(WIDE, "ours", 4.0, 4.0))
    assert table[-1] == ("100 steps wide", "ours", "25 [25..25] steps/s", "0.38 [0.25..0.50]", "≥ 0.22: met")


def test_a_missed_goal_is_reported() -> None:
    assert rows(measured(WIDE, "bare", 1.0) + measured(WIDE, "ours", 10.0))[-1][-1] == "≥ 0.22: missed"


def test_a_measurement_without_a_goal_has_a_share_alone() -> None:
    table = rows(measured(WIDE, "bare", 1.0, 2.0) + measured(WIDE, "late", 4.0, 4.0))
    assert table[-1][-2:] == ("0.38 [0.25..0.50]", "")


def test_a_sleeping_load_is_compared_with_its_critical_path() -> None:
    assert rows(measured(SMALL, "ours", 0.103))[0][2:] == ("3.0 [3.0..3.0] ms over", "", "≤ 6: met")


def test_markdown_has_a_rule_under_its_header() -> None:
    assert markdown([("a",) * 5]).splitlines()[1:] == [
        "| --- | --- | --- | --- | --- |",
        "| a | a | a | a | a |",
    ]
