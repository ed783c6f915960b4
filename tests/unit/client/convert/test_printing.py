"""A result printed for people, and its exact repr."""

from dataclasses import replace
from datetime import timedelta

import pytest

from stepwave import Blob, Failure, FailureCause, FailureReason, RunFailed, State
from unit.client.convert.result_maker import NOON, result


def failed(step_id: str, message: str) -> Failure:
    return Failure(
        reason=FailureReason.TIMEOUT,
        message=message,
        retryable=True,
        retry_after=None,
        step_id=step_id,
        attempt=1,
        details={},
    )


def test_a_result_prints_as_its_state_time_and_outputs() -> None:
    outputs = {"text": "two\n lines", "json": {"a": [1, None], "b": "é"}, "blob": Blob(b"x" * 1_024, "image/png")}
    assert str(result(outputs=outputs)).splitlines() == [
        "r (w): succeeded in 2.00 s",
        "  text: two lines",
        '  json: {"a": [1, null], "b": "é"}',
        "  blob: <1,024 bytes of image/png>",
    ]


def test_a_result_prints_its_failures_with_step_and_reason() -> None:
    failures = (failed("a", "no answer in 5 s"), failed("", "the run took longer than 9 s"))
    shown = str(result(State.FAILED, failures=failures, failure_count=5))
    assert shown.splitlines() == [
        "r (w): failed in 2.00 s",
        "  failure of step a: timeout: no answer in 5 s",
        "  failure of the run: timeout: the run took longer than 9 s",
        "  … 3 more failures",
    ]


def test_the_failures_of_steps_around_a_failed_one_are_not_printed_again() -> None:
    around = [replace(failed(step_id, "…"), cause=FailureCause.NESTED_STEP_FAILED) for step_id in ("pages[2]", "pages")]
    failures = (failed("pages[2]/fetch", "no answer in 5 s"), *around)
    whole = result(State.FAILED, failures=failures, failure_count=3)
    assert str(whole).splitlines()[1:] == ["  failure of step pages[2]/fetch: timeout: no answer in 5 s"]
    assert str(RunFailed(whole)) == "step 'pages[2]/fetch' failed: no answer in 5 s"


def test_a_large_result_prints_as_short_lines() -> None:
    outputs = {"s" * 128: "x" * 1_000_000, "spaces": " " * 1_000 + "end", **{f"p{index}": index for index in range(50)}}
    failures = (failed("a", "y " * 10_000),)
    lines = str(result(outputs=outputs, failures=failures, failure_count=1, omitted_output_count=2)).splitlines()
    assert lines[1] == f"  {'s' * 128}: {'x' * 19}…"
    assert lines[2] == "  spaces: …"
    assert lines[21] == "  … 34 more outputs"
    assert len(lines) == 23
    assert max(map(len, lines[2:])) <= 100


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0004, "0 ms"), (0.25, "250 ms"), (59.9, "59.9 s"), (3_723.4, "1h 02m")]
)
def test_a_result_prints_its_duration(seconds: float, text: str) -> None:
    assert str(result(end_time=NOON + timedelta(seconds=seconds))) == f"r (w): succeeded in {text}"


def test_a_run_that_never_began_prints_no_duration() -> None:
    assert str(result(State.CANCELLED, start_time=None)) == "r (w): cancelled"


def test_a_single_failure_that_is_not_listed_is_one_failure() -> None:
    assert str(result(State.FAILED, failure_count=1)).splitlines()[1:] == ["  … 1 more failure"]


def test_the_repr_of_a_result_is_exact() -> None:
    whole = result(outputs={"a": "x" * 1_000})
    assert repr(whole).startswith("RunResult(run_id='r', workflow_name='w', state=<State.SUCCEEDED: 'succeeded'>")
    assert "x" * 1_000 in repr(whole)
