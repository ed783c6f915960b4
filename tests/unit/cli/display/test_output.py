"""What is said once a run has ended."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from stepwave import Blob
from stepwave._actions.failure import FailureReason
from stepwave._model.results import Failure, RunResult, State
from stepwave.cli.display.output import print_failures, print_outputs
from unit.cli.script import Script, failure

WHERE = {"file": "/app/tools.py", "line": "14", "function": "fetch", "traceback": "Traceback …\n  File x\nOSError: no"}


def said(result: RunResult, *, verbose: bool = False) -> list[str]:
    """Return the lines about a result's failures."""
    console = Console(file=io.StringIO(), width=80, highlight=False, markup=False)
    print_failures(result, verbose=verbose, console=console)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def result_with(*failures: Failure, count: int | None = None) -> RunResult:
    result = Script(("weather",)).result(State.FAILED)
    return replace(result, failures=failures, failure_count=len(failures) if count is None else count)


def test_a_failure_says_who_what_and_where() -> None:
    assert said(result_with(failure(**WHERE))) == [
        "✗ weather: no route to host",
        "    at /app/tools.py:14 in fetch",
    ]


def test_a_verbose_failure_shows_the_traceback() -> None:
    assert said(result_with(failure(**WHERE)), verbose=True) == [
        "✗ weather: no route to host",
        "    Traceback …",
        "      File x",
        "    OSError: no",
    ]


def test_a_long_message_is_whole() -> None:
    assert said(result_with(failure("word " * 100)))[0].count("word") == 100


def test_many_failures_are_cut_short_and_counted() -> None:
    lines = said(result_with(*[failure()] * 100, count=5_000))
    assert lines[-1] == "and 4,990 more failures"
    assert len(lines) == 11


def test_the_runs_own_failure_is_the_runs() -> None:
    why = Failure(FailureReason.CANCELLED, "enough", False, None, "", 0, {})
    assert said(result_with(why)) == ["■ run: enough"]


def test_a_traceback_cannot_steer_the_terminal() -> None:
    lines = said(result_with(failure(traceback="a\x1b[2Jb\n  c")), verbose=True)
    assert lines[1:] == ["    a [2Jb", "      c"]


def test_outputs_are_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    result = replace(Script(("a",)).result(State.SUCCEEDED), outputs={"a": {"é": 1}, "b": Blob(b"x", "image/png")})
    print_outputs(result)
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": {"é": 1}, "b": {"content_type": "image/png", "data": "eA=="}}
    assert "é" in out


def test_outputs_that_were_left_out_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    print_outputs(replace(Script(("a",)).result(State.SUCCEEDED), omitted_output_count=2))
    captured = capsys.readouterr()
    assert captured.out == "{}\n"
    assert captured.err == "2 outputs left out: too large to send together\n"
