"""Errors to statuses that fit into gRPC's metadata."""

from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from stepwave_server.core.info import RunKey
from stepwave_server.core.validate import Violation
from stepwave_server.engine.errors import (
    EngineError,
    InvalidRun,
    JournalUnavailable,
    NotAccepting,
    RunBroken,
    RunExists,
    RunNotEnded,
    RunNotFound,
    SequenceOutOfRange,
    TooManyRuns,
)
from stepwave_server.journal import JournalError
from stepwave_server.journal.sqlite.storage_errors import JournalCorrupt
from stepwave_server.rpc.statuses import (
    InvalidCall,
    MessageTooLarge,
    NotServed,
    Refusal,
    TooManyCalls,
    WorkflowNotFound,
    status_of,
)

KEY = RunKey("default", "run")
SOFT_LIMIT = 8_192
"""Bytes of metadata above which callers may reject a status, by gRPC's defaults."""


def _details(error: Refusal) -> status_pb2.Status:
    status = status_of(error)
    (value,) = [value for key, value in status.trailing_metadata or () if key == "grpc-status-details-bin"]
    assert isinstance(value, bytes)
    return status_pb2.Status.FromString(value)


def _size(error: Refusal) -> int:
    """Return the bytes of metadata of a status: its message percent-encoded, its details in base64."""
    status = status_of(error)
    message = sum(
        1 if " " <= letter <= "~" and letter != "%" else 3 * len(letter.encode()) for letter in status.details
    )
    details: int = _details(error).ByteSize()
    return message + (details + 2) // 3 * 4 + len("grpc-messagegrpc-status-details-bin") + 2 * 32


def _violations(error: Refusal) -> list[tuple[str, str]]:
    bad_request = error_details_pb2.BadRequest()
    for detail in _details(error).details:
        detail.Unpack(bad_request)
    return [(violation.field, violation.description) for violation in bad_request.field_violations]


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (InvalidCall([Violation("a", "b")]), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        (InvalidRun([Violation("a", "b")]), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_WORKFLOW"),
        (NotServed([Violation("a", "b")]), grpc.StatusCode.UNIMPLEMENTED, "NOT_SUPPORTED"),
        (WorkflowNotFound("no"), grpc.StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND"),
        (MessageTooLarge("no"), grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
        (TooManyCalls("no"), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS"),
        (JournalUnavailable("no"), grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE"),
        (JournalError("no"), grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE"),
        (JournalCorrupt(Path("journal.db")), grpc.StatusCode.DATA_LOSS, "JOURNAL_DAMAGED"),
        (NotAccepting(), grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING"),
        (RunBroken(KEY), grpc.StatusCode.INTERNAL, "RUN_BROKEN"),
        (RunExists(KEY), grpc.StatusCode.ALREADY_EXISTS, "RUN_EXISTS"),
        (RunNotEnded(KEY), grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_ENDED"),
        (RunNotFound(KEY), grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"),
        (SequenceOutOfRange(9, 5), grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE"),
        (TooManyRuns(5), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_RUNS"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_error_has_a_code_and_a_stable_reason(error: Refusal, code: grpc.StatusCode, reason: str) -> None:
    assert status_of(error).code is code
    info = error_details_pb2.ErrorInfo()
    assert _details(error).details[0].Unpack(info)
    assert (info.domain, info.reason) == ("stepwave", reason)


def test_every_engine_error_has_a_code() -> None:
    about_runs = {RunBroken, RunExists, RunNotEnded, RunNotFound, SequenceOutOfRange, TooManyRuns, InvalidRun}
    known = about_runs | {NotAccepting, JournalUnavailable}
    assert set(EngineError.__subclasses__()) == known


def test_invalid_fields_are_listed_in_order_and_in_full() -> None:
    violations = [Violation(f"steps[{i}].id", f"problem {i}") for i in range(30)]
    assert _violations(InvalidCall(violations)) == [(each.field, each.description) for each in violations]


def test_the_message_names_the_first_problems_and_counts_the_others() -> None:
    violations = [Violation(f"f{i}", f"problem {i}") for i in range(5)]
    assert status_of(InvalidCall(violations)).details == "f0: problem 0; f1: problem 1; f2: problem 2; and 2 more"


@pytest.mark.parametrize("count", [1, 2, 3, 50, 1_000])
@pytest.mark.parametrize("letter", ["x", "é", "→", "🙂", "%"])
@pytest.mark.parametrize("length", [10, 100, 10_000])
def test_a_status_stays_below_the_limit_for_any_problems(count: int, letter: str, length: int) -> None:
    error = InvalidCall([Violation(letter * length, letter * length) for _ in range(count)])
    assert _size(error) < SOFT_LIMIT
    listed = _violations(error)
    assert listed
    if len(listed) < count:
        assert listed[-1] == ("", f"and {count - len(listed) + 1:,} more problems")


def test_a_long_message_stays_below_the_limit() -> None:
    assert _size(WorkflowNotFound("→" * 10_000)) < SOFT_LIMIT
