"""The outputs of steps by `result[step]`."""

import datetime
from typing import Any

import pytest

from stepwave import (
    Failure,
    FailureReason,
    SkipCause,
    SkipReason,
    State,
    StepResult,
    Workflow,
    action,
)
from unit.client.convert.result_maker import result


def step_result(step_id: str, state: State, output: object = None, **given: Any) -> StepResult:
    return StepResult(
        step_id=step_id,
        action="a",
        state=state,
        wave=0,
        attempts=1,
        output=output,
        failure=given.get("failure"),
        skip_reason=given.get("skip_reason"),
        ready_time=None,
        start_time=None,
        end_time=None,
        abandoned=False,
    )


BROKEN = Failure(
    reason=FailureReason.TIMEOUT,
    message="no answer in 5 s",
    retryable=True,
    retry_after=None,
    step_id="broken",
    attempt=1,
    details={},
)
STEPS = {
    "day": step_result("day", State.SUCCEEDED, "2026-01-02"),
    "nothing": step_result("nothing", State.SUCCEEDED),
    "broken": step_result("broken", State.FAILED, failure=BROKEN),
    "left": step_result("left", State.SKIPPED, skip_reason=SkipReason(SkipCause.DEPENDENCY, "broken")),
    "going": step_result("going", State.RUNNING),
}
RESULT = result(steps=STEPS, outputs={"early": 1}, omitted_output_count=1)


@action
def day() -> datetime.date:
    return datetime.date(2026, 1, 2)


def test_a_step_by_its_handle_has_its_output_as_the_declared_type() -> None:
    assert RESULT[Workflow("w").step("day", day)] == datetime.date(2026, 1, 2)


def test_a_step_by_its_id_has_its_output_as_json() -> None:
    assert RESULT["day"] == "2026-01-02"
    assert RESULT["nothing"] is None


def test_an_output_that_the_result_alone_has_is_found() -> None:
    assert RESULT["early"] == 1


@pytest.mark.parametrize(
    ("step_id", "message"),
    [
        ("broken", "step 'broken' has no output: its state is failed: no answer in 5 s"),
        ("left", "step 'left' has no output: its state is skipped (dependency: broken)"),
        ("going", "step 'going' has no output: its state is running"),
        ("brokn", "the result has no step 'brokn'; did you mean 'broken'?"),
        ("zzz", "the result has no step 'zzz'"),
    ],
)
def test_a_step_without_output_is_an_error_that_says_why(step_id: str, message: str) -> None:
    for step in (step_id, Workflow("w").step(step_id, "core.echo")):
        with pytest.raises(KeyError) as raised:
            RESULT[step]
        assert raised.value.args == (message,)


def test_a_result_is_not_iterable() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        list(RESULT)  # type: ignore[call-overload]  # what is tested
