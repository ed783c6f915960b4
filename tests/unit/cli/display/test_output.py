"""The failures and outputs that are printed after a run."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text

from stepwave import Blob
from stepwave._actions.failure import FailureReason
from stepwave._model.results import Failure, RunResult, State
from stepwave.cli.display.output import fitting_widths, print_failures, print_outputs, wrapped
from unit.cli.script import Script, failure

DETAILS = {
    "file": "/app/tools.py",
    "line": "14",
    "function": "fetch",
    "traceback": "Traceback …\n  File x\nOSError: no",
}


def printed_failures(result: RunResult, *, verbose: bool = False, kept: bool = False) -> list[str]:
    """Return the lines that are printed for a result's failures."""
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False)
    print_failures(result, verbose=verbose, kept=kept, console=console)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def result_with(*failures: Failure, count: int | None = None) -> RunResult:
    result = Script(("weather",)).result(State.FAILED)
    return replace(result, failures=failures, failure_count=len(failures) if count is None else count)


def test_a_failure_shows_its_step_message_and_place() -> None:
    assert printed_failures(result_with(failure(**DETAILS))) == [
        "✗ weather: no route to host",
        "    at /app/tools.py:14 in fetch",
    ]


def test_a_verbose_failure_shows_the_traceback() -> None:
    assert printed_failures(result_with(failure(**DETAILS)), verbose=True) == [
        "✗ weather: no route to host",
        "    Traceback …",
        "      File x",
        "    OSError: no",
    ]


def test_a_long_message_is_not_truncated() -> None:
    assert printed_failures(result_with(failure("word " * 100)))[0].count("word") == 100


def test_only_the_first_failures_are_printed_and_the_others_counted() -> None:
    lines = printed_failures(result_with(*[failure(f"no {number}") for number in range(100)], count=5_000))
    assert lines[-1] == "and 4,990 more failures"
    assert len(lines) == 11


def test_equal_failures_are_one_with_the_command_that_lists_them_all() -> None:
    failures = [failure("took too long", step_id) for step_id in ("a", "b", "c")]
    result = result_with(failures[0], failure("no route", "d"), *failures[1:])
    assert printed_failures(result, kept=True) == [
        "✗ 3 steps failed: took too long",
        "    a, b, c",
        "✗ d: no route",
        "all failures: stepwave result briefing-7k3f9q2m",
    ]


def test_of_many_equal_failures_the_first_steps_are_named() -> None:
    result = result_with(*[failure("took too long", f"s{number}") for number in range(100)], count=5_000)
    assert printed_failures(result) == [
        "✗ 100 steps failed: took too long",
        "    s0, s1, s2, s3, s4, 95 more",
        "and 4,900 more failures",
    ]


def test_verbose_failures_are_all_listed() -> None:
    result = result_with(failure("took too long", "a"), failure("took too long", "b"))
    assert printed_failures(result, verbose=True, kept=True) == ["✗ a: took too long", "✗ b: took too long"]


def test_no_command_is_named_if_all_failures_are_listed() -> None:
    result = result_with(failure("took too long", "a"), failure("no route", "b"))
    assert printed_failures(result, kept=True) == ["✗ a: took too long", "✗ b: no route"]


def test_a_failure_without_a_step_is_printed_for_the_run() -> None:
    error = Failure(FailureReason.CANCELLED, "enough", False, None, "", 0, {})
    assert printed_failures(result_with(error)) == ["■ run: enough"]


def test_control_characters_in_a_traceback_are_removed() -> None:
    lines = printed_failures(result_with(failure(traceback="a\x1b[2Jb\n  c")), verbose=True)
    assert lines[1:] == ["    a [2Jb", "      c"]


def test_outputs_are_printed_as_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    result = replace(Script(("a",)).result(State.SUCCEEDED), outputs={"a": {"é": 1}, "b": Blob(b"x", "image/png")})
    print_outputs(result)
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": {"é": 1}, "b": {"content_type": "image/png", "data": "eA=="}}
    assert "é" in out


def test_omitted_outputs_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    print_outputs(replace(Script(("a",)).result(State.SUCCEEDED), omitted_output_count=2))
    captured = capsys.readouterr()
    assert captured.out == "{}\n"
    assert captured.err == "2 outputs left out: too large to send together\n"


def test_the_widest_columns_of_a_table_are_truncated_until_it_fits() -> None:
    assert fitting_widths([18, 10, 9, 40, 30], 80) == [18, 10, 9, 17, 18]
    assert fitting_widths([18, 10, 9], 80) == [18, 10, 9]


def test_the_first_column_of_a_table_is_never_truncated() -> None:
    assert fitting_widths([60, 20, 20], 40) == [60, 6, 6]
    assert fitting_widths([60], 40) == [60]


def test_a_long_line_is_wrapped_between_words_with_an_indent() -> None:
    line = Text("search  waits 1.4 s for a place: the only place of the limit is taken")
    lines = [part.plain for part in wrapped(line, Console(width=30), 8)]
    assert lines == [
        "search  waits 1.4 s for a",
        "        place: the only place",
        "        of the limit is taken",
    ]
