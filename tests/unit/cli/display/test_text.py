"""Texts for people: short, on one line, and without control characters."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from stepwave import ActionLimit, AdaptiveLimit, Blob, RateLimit
from stepwave._model.events import StepWaiting, WaitCause
from stepwave._model.results import Counts, SkipCause, SkipReason
from stepwave.cli.display.text import (
    counts_text,
    duration_text,
    failure_line,
    failure_place,
    limit_text,
    one_line,
    plural,
    skip_line,
    value_text,
    waiting_text,
)
from unit.cli.script import RUN_ID, START, failure


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0004, "0 ms"),
        (0.42, "420 ms"),
        (0.9996, "1.00 s"),
        (1.234, "1.23 s"),
        (9.996, "10.0 s"),
        (59.96, "1m 00s"),
        (125, "2m 05s"),
        (3599.6, "1h 00m"),
        (3 * 3600 + 7 * 60, "3h 07m"),
        (5 * 86400, "5d 00h"),
        (-1, "0 ms"),
    ],
)
def test_a_duration_has_the_unit_that_fits_its_length(seconds: float, text: str) -> None:
    assert duration_text(timedelta(seconds=seconds)) == text


@given(st.timedeltas(max_value=timedelta(days=999)))
def test_no_duration_is_wider_than_its_column(duration: timedelta) -> None:
    assert len(duration_text(duration)) <= 8


def test_no_duration_is_an_empty_text() -> None:
    assert duration_text(None) == ""


@given(st.text())
def test_one_line_has_no_control_characters(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert "  " not in line


def test_one_line_truncates_a_long_text() -> None:
    assert len(one_line("x" * 1_000_000)) < 3_000


@pytest.mark.parametrize(("count", "text"), [(0, "0 steps"), (1, "1 step"), (1234, "1,234 steps")])
def test_a_count_has_the_plural_of_its_noun(count: int, text: str) -> None:
    assert plural(count, "step") == text


def test_states_without_steps_are_left_out() -> None:
    assert counts_text(Counts(0, 0, 3, 1, 0, 0)) == "3 succeeded, 1 failed"
    assert counts_text(Counts(0, 0, 0, 0, 0, 0)) == "no steps"


def test_a_failures_message_comes_before_its_place_in_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    error = failure("no such\nfile", file=str(tmp_path / "tools.py"), line="14")
    assert failure_line(error) == "no such file (tools.py:14)"


def test_code_outside_the_working_directory_has_its_whole_path() -> None:
    assert failure_place(failure(file="/elsewhere/tools.py", line="3")) == "/elsewhere/tools.py:3"


def test_a_failure_shows_what_its_action_did_when_interrupted() -> None:
    error = failure("took too long", when_interrupted="it answered all the same, too late")
    assert failure_line(error) == "took too long; it answered all the same, too late"


def test_a_failure_without_a_message_shows_its_reason() -> None:
    assert failure_line(failure("")) == "action_error"


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (SkipCause.DEPENDENCY, "skipped: needs search"),
        (SkipCause.FAIL_FAST, "skipped: search failed first"),
        (SkipCause.CANCELLED, "skipped: the run was cancelled"),
        (SkipCause.UNKNOWN, "skipped: unknown"),
    ],
)
def test_a_skip_names_the_step_that_caused_it(cause: SkipCause, text: str) -> None:
    assert skip_line(SkipReason(cause, "search")) == text


def test_values_are_shown_on_one_line() -> None:
    assert value_text("two\nlines") == "two lines"
    assert value_text({"é": [1, None]}) == '{"é": [1, null]}'
    assert value_text(Blob(b"12345", "image/png")) == "5 bytes of image/png"


def test_wide_characters_take_two_cells() -> None:
    assert cell_len(one_line("日本")) == 4


def test_a_limit_shows_its_current_use() -> None:
    rate = RateLimit(20, timedelta(seconds=1), 1)
    until = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    adaptive = AdaptiveLimit(5, 1, 64, 7, until)
    assert limit_text(ActionLimit("a.*", False, 8, rate, None, 3)) == "a.*: 3 of 8 at once, 20 every 1 s"
    assert limit_text(ActionLimit("a", True, None, rate, None, 3)) == "a (each key): 20 every 1 s"
    paused = limit_text(ActionLimit("a", False, None, None, adaptive, 2))
    assert paused.startswith("a: 2 of 5 at once, adaptive, paused until ")


@pytest.mark.parametrize(
    ("cause", "message", "limit", "text"),
    [
        (WaitCause.CONCURRENCY, "all 3 places are taken", "search.*", "limit search.*"),
        (WaitCause.RATE, "5 start every 1 s", "search", "limit search"),
        (WaitCause.CONCURRENCY, "the server's max_attempts is 64", "", "a place (the server's max_attempts is 64)"),
        (WaitCause.RATE, "", "", "a rate limit"),
        (WaitCause.UNKNOWN, "", "", "unknown"),
    ],
)
def test_a_waiting_step_names_its_limit(cause: WaitCause, message: str, limit: str, text: str) -> None:
    assert waiting_text(StepWaiting(RUN_ID, 0, START, "a", cause, message, limit), "") == f"waiting: {text}"
