"""Answers of tools, of the results that no run of a test has."""

from dataclasses import replace

from mcp_types import CallToolResult, TextContent

from stepwave import Failure, FailureReason, State
from stepwave._mcp.answers import answer_of
from unit.cli.script import Script


def texts(answer: CallToolResult) -> list[str]:
    return [content.text for content in answer.content if isinstance(content, TextContent)]


def test_outputs_that_are_left_out_are_counted() -> None:
    result = replace(Script(("a", "b")).result(State.SUCCEEDED), outputs={"a": 1}, omitted_output_count=2)
    answer = answer_of(result, only_output="")
    assert texts(answer) == ['{"a":1}', "2 outputs left out: too large to send together"]


def test_a_run_without_outputs_answers_an_empty_object() -> None:
    answer = answer_of(replace(Script(("a",)).result(State.SUCCEEDED), outputs={}), only_output="a")
    assert (texts(answer), answer.structured_content, answer.is_error) == (["{}"], {}, False)


def test_a_run_that_somebody_cancelled_is_an_error() -> None:
    answer = answer_of(replace(Script(("a",)).result(State.CANCELLED), failures=(), failure_count=0), only_output="a")
    assert answer.is_error
    assert texts(answer)[0].endswith("was cancelled")


def test_the_first_ten_failures_are_listed_and_the_others_counted() -> None:
    failures = tuple(
        Failure(FailureReason.TIMEOUT, "too late", True, None, f"s{number}", 1, {}, None) for number in range(12)
    )
    result = replace(Script(("a",)).result(State.FAILED), failures=failures, failure_count=30)
    *first, more = texts(answer_of(result, only_output=""))[0].splitlines()
    assert first == [f"step s{number} failed: timeout: too late" for number in range(10)]
    assert more == "and 20 more"
