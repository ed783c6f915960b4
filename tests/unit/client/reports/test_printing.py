"""A report printed for people, and its exact repr."""

import pytest

from unit.client.reports.runs import diamond, report_on, through_the_diamond


def test_a_report_prints_as_its_chart_table_and_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert str(report_on(through_the_diamond(diamond()))).splitlines() == [
        "report-1  flow  succeeded  7.00 s",
        "",
        "  STEP  0                         7.00 s     TIME  SLACK",
        "● a     █████                              1.00 s",
        "  b          █████████                     2.00 s  3.00 s",
        "● c          ██████████████████████        5.00 s",
        "● d                                █████   1.00 s",
        "  ● critical path  █ work",
        "",
        "PATH     TIME    WORK",
        "a      1.00 s  1.00 s",
        "c      5.00 s  5.00 s",
        "d      1.00 s  1.00 s",
        "total  7.00 s  7.00 s",
        "",
        "makespan: 7.00 s = 7.00 s work",
        "speed-up: 1.29 over one step at a time (9.00 s); at most 2",
        "  attempts at once",
        "without waiting: no shorter",
    ]


def test_without_a_terminal_a_printed_report_is_100_characters_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_on(through_the_diamond(diamond()))
    printed = {}
    for columns in ("80", "100"):
        monkeypatch.setenv("COLUMNS", columns)
        printed[columns] = str(report)
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr("sys.__stdout__", None)
    assert str(report) == printed["100"] != printed["80"]


def test_a_printed_report_has_no_escape_sequences() -> None:
    assert "\x1b" not in str(report_on(diamond()))


def test_the_repr_of_a_report_is_exact() -> None:
    report = report_on(through_the_diamond(diamond()))
    assert repr(report).startswith("RunReport(run_id='report-1', workflow_name='flow', state=<State.SUCCEEDED:")
    assert repr(report).endswith(f"steps={report.steps!r})")
