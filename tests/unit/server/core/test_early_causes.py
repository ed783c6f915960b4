"""The messages of version 1 of the core are known for ever."""

from dataclasses import replace

import pytest

from stepwave_server.core.early_causes import with_causes
from stepwave_server.core.messages import RunFinished, RunStopping, StepFinished, StepRetrying
from stepwave_server.core.model import Failure, FailureCause, Reason, State

MESSAGES = (
    (Reason.TIMEOUT, "the attempt took longer than the step's timeout of 60 s", FailureCause.ATTEMPT_TIMEOUT),
    (
        Reason.TIMEOUT,
        "the attempt took longer than the server's default timeout of 600 s",
        FailureCause.ATTEMPT_TIMEOUT,
    ),
    (Reason.TIMEOUT, "the fallback took longer than the step's timeout of 0.25 s", FailureCause.ATTEMPT_TIMEOUT),
    (
        Reason.TIMEOUT,
        "the fallback took longer than the server's default timeout of 1e+06 s",
        FailureCause.ATTEMPT_TIMEOUT,
    ),
    (Reason.TIMEOUT, "the step took longer than its total timeout of 1.5 s", FailureCause.TOTAL_TIMEOUT),
    (Reason.TIMEOUT, "the run took longer than its timeout of 0.05 s", FailureCause.RUN_TIMEOUT),
    (Reason.CANCELLED, "the run took longer than its timeout of 0.05 s", FailureCause.RUN_TIMEOUT),
    (Reason.TIMEOUT, "clean-up took longer than 30 s", FailureCause.CLEANUP_TIMEOUT),
    (Reason.CANCELLED, "clean-up took longer than 30 s", FailureCause.CLEANUP_TIMEOUT),
    (Reason.CANCELLED, "cancelled", FailureCause.CANCEL_REQUESTED),
    (Reason.CANCELLED, "cancelled: odd\nlines", FailureCause.CANCEL_REQUESTED),
    (Reason.CANCELLED, 'step "fetch-all" failed', FailureCause.STEP_FAILED),
    (Reason.CANCELLED, 'no longer needed: step "fetch-all" answered', FailureCause.NOT_NEEDED),
    (Reason.INTERRUPTED, "the server stopped while the attempt ran", FailureCause.ATTEMPT_LOST),
    (
        Reason.INTERRUPTED,
        "the server stopped while the attempt ran, as it had 3 times before",
        FailureCause.ATTEMPT_LOST,
    ),
)


def finished(failure: Failure, original: Failure | None = None) -> StepFinished:
    return StepFinished(0, "a", "echo", State.FAILED, 0, 1, failure=failure, original=original)


@pytest.mark.parametrize(("reason", "message", "cause"), MESSAGES)
def test_every_message_of_version_1_has_its_cause(reason: Reason, message: str, cause: FailureCause) -> None:
    failure = Failure(reason, message, step_id="a", attempt=1)
    caused = replace(failure, cause=cause)
    assert with_causes(finished(failure, failure)) == finished(caused, caused)
    assert with_causes(StepRetrying(0, "a", 1, failure, 0)) == StepRetrying(0, "a", 1, caused, 0)


@pytest.mark.parametrize("reason", [Reason.INVALID_INPUT, Reason.RESOURCE_EXHAUSTED])
def test_a_step_without_an_attempt_had_no_input(reason: Reason) -> None:
    failure = Failure(reason, "anything", step_id="a")
    assert with_causes(finished(failure)) == finished(replace(failure, cause=FailureCause.INPUT))
    of_an_action = finished(replace(failure, attempt=1))
    assert with_causes(of_an_action) == of_an_action


@pytest.mark.parametrize("reason", ["", "enough", "cancelled: twice", ": odd\nlines"])
def test_the_reason_of_a_cancel_request_follows_the_colon(reason: str) -> None:
    failure = Failure(Reason.CANCELLED, f"cancelled: {reason}" if reason else "cancelled")
    caused = replace(failure, cause=FailureCause.CANCEL_REQUESTED)
    assert with_causes(RunStopping(0, failure)) == RunStopping(0, caused, reason)
    assert with_causes(RunStopping(0, caused, "recorded")) == RunStopping(0, caused, "recorded")


def test_the_failures_of_a_result_have_their_causes() -> None:
    failures = tuple(Failure(reason, message) for reason, message, _ in MESSAGES)
    result = RunFinished(0, State.FAILED, 0, (), (), 0, failures, len(failures), ())
    given = with_causes(result)
    assert isinstance(given, RunFinished)
    assert [failure.cause for failure in given.failures] == [cause for _, _, cause in MESSAGES]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (Reason.ACTION_ERROR, "cancelled"),
        (Reason.CANCELLED, "cancelled by hand"),
        (Reason.TIMEOUT, "upstream: the run took longer than its timeout of 3 s"),
        (Reason.INTERRUPTED, "the server stopped while the run was under way"),
    ],
)
def test_other_messages_have_no_cause(reason: Reason, message: str) -> None:
    event = finished(Failure(reason, message, step_id="a", attempt=1))
    assert with_causes(event) == event
