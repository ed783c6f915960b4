"""The last progress of an attempt, which its outcome carries."""

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError

from stepwave_server.core.messages import AttemptFailed
from stepwave_server.core.model import Failure, Reason
from stepwave_server.engine.temporal.codec import (
    decode_value,
    encode_value,
    error_of_failure,
    lost,
    outcome_of_error,
    stopped,
)
from stepwave_server.engine.temporal.driver_messages import AttemptStopped
from stepwave_server.engine.temporal.progress import (
    Progress,
    answer_with,
    error_with,
    progress_of_answer,
    progress_of_error,
)

FAILED = Failure(Reason.UNAVAILABLE, "no", True, 5_000, "s", 1, details=(("exception", "E"),))
STOPPED = AttemptStopped("s", 1, timed_out=True, abandoned=True, did="it went on")


@pytest.mark.parametrize("progress", [Progress(0.5, "half"), Progress(None, "é"), None])
def test_an_answer_carries_the_last_progress(progress: Progress | None) -> None:
    answer = answer_with(encode_value("[1]"), progress).payload
    assert decode_value(answer) == "[1]"
    assert progress_of_answer(answer) == progress


@pytest.mark.parametrize("error", [error_of_failure(FAILED), stopped(STOPPED), lost("gone")], ids=str)
@pytest.mark.parametrize("progress", [Progress(0.5, "half"), Progress(None, "é"), None])
def test_an_error_carries_the_last_progress(error: ApplicationError, progress: Progress | None) -> None:
    carrying = error_with(error, progress)
    assert progress_of_error(carrying) == progress
    assert outcome_of_error("s", 1, carrying) == outcome_of_error("s", 1, error)


def test_a_failure_with_progress_keeps_its_facts() -> None:
    carrying = error_with(error_of_failure(FAILED), Progress(1.0, ""))
    assert outcome_of_error("s", 1, carrying) == AttemptFailed("s", 1, FAILED)


@pytest.mark.parametrize("data", [b"no JSON", b"{}", b'[2, "too much"]', b"[NaN, null]", b"[]", b"\xff"])
def test_an_answer_with_something_else_carries_none(data: bytes) -> None:
    assert progress_of_answer(Payload(metadata={"stepwave-progress": data})) is None


@pytest.mark.parametrize("error", [ValueError("no"), ApplicationError("no"), ApplicationError("no", 1, [2])])
def test_an_error_of_something_else_carries_none(error: Exception) -> None:
    assert progress_of_error(error) is None
