"""Errors to statuses that fit into gRPC's metadata."""

import re
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from stepwave.v1.error_pb2 import ErrorReason
from stepwave_server.core.info import RunKey
from stepwave_server.core.validate import Violation
from stepwave_server.engine.errors import (
    DefinitionTooLarge,
    EngineError,
    JournalUnavailable,
    NoFreeSlot,
    NotAccepting,
    RunBroken,
    RunExists,
    RunNotEnded,
    RunNotFound,
    RunNotOpen,
    SequenceOutOfRange,
    StepCompletedBefore,
    StepError,
    StepNotFound,
    StepNotWaiting,
    StepsRefused,
    TooManyKeptBytes,
    TooManyRuns,
)
from stepwave_server.journal import JournalError
from stepwave_server.journal.sqlite.storage_errors import JournalCorrupt
from stepwave_server.rpc.statuses import (
    CallRefused,
    InvalidCall,
    MessageTooLarge,
    NotServed,
    PermissionDenied,
    Refusal,
    TooManyCalls,
    TooManyStarts,
    Unauthenticated,
    WorkflowNotFound,
    status_of,
)

KEY = RunKey("default", "run")
Detail = TypeVar("Detail", bound=Message)
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


ERRORS: list[Refusal] = [
    InvalidCall([Violation("a", "b")]),
    NotServed([Violation("a", "b")]),
    WorkflowNotFound("no", "no workflow"),
    MessageTooLarge(9, 5),
    TooManyCalls(5, "calls"),
    JournalUnavailable("no"),
    JournalError("no"),
    JournalCorrupt(Path("journal.db")),
    NotAccepting(),
    RunBroken(KEY),
    RunExists(KEY),
    RunNotEnded(KEY),
    RunNotFound(KEY),
    RunNotOpen(KEY, "it is sealed"),
    SequenceOutOfRange(9, 5),
    StepsRefused([Violation("a", "b")]),
    StepCompletedBefore(KEY, "a"),
    StepNotFound(KEY, "a"),
    StepNotWaiting(KEY, "a", "does not wait"),
    TooManyKeptBytes("default", 12, 10),
    TooManyRuns(5),
    CallRefused("a defect"),
    TooManyStarts("default", 0.5),
    Unauthenticated("the token is unknown"),
    PermissionDenied("token:ci", "default", "DeleteRun", "admin"),
]


class Documented(NamedTuple):
    """What the contract's comment on a reason says: its code, the keys of its metadata, and whether to try again."""

    code: str
    metadata: frozenset[str]
    retry: bool


def _documented() -> dict[str, Documented]:
    """Read the comments on the values of `ErrorReason`."""
    text = (Path(__file__).parents[4] / "proto/stepwave/v1/error.proto").read_text()
    values = re.findall(r"((?:  // .*\n)+)  ERROR_REASON_(\w+) = ", text)
    found = {}
    for comment, name in values[1:]:
        line = " ".join(part.strip().removeprefix("// ") for part in comment.splitlines())
        metadata = re.search(r"Metadata: ((?:`\w+`,? ?)+)", line)
        code, retry = re.match(r"`(\w+)`\.", line), re.search(r"Retry: (yes|no)", line)
        assert code, name
        assert retry, name
        found[name] = Documented(
            code[1], frozenset(re.findall(r"\w+", metadata[1]) if metadata else ()), retry[1] == "yes"
        )
    return found


DOCUMENTED = _documented()


def _detail(error: Refusal, kind: type[Detail]) -> Detail | None:
    detail = kind()
    return next((detail for packed in _details(error).details if packed.Unpack(detail)), None)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_each_error_is_as_the_contract_says(error: Refusal) -> None:
    info = _detail(error, error_details_pb2.ErrorInfo)
    assert info is not None
    retry = _detail(error, error_details_pb2.RetryInfo)
    code = status_of(error).code.name
    assert info.domain == "stepwave"
    assert DOCUMENTED[info.reason] == (code, frozenset(info.metadata), retry is not None)


def test_the_contract_lists_every_reason_and_no_other() -> None:
    infos = [_detail(error, error_details_pb2.ErrorInfo) for error in ERRORS]
    assert {info.reason for info in infos if info} == set(DOCUMENTED)
    names = {name.removeprefix("ERROR_REASON_") for name, _ in ErrorReason.items()}
    assert names == {*DOCUMENTED, "UNSPECIFIED"}


def test_the_facts_of_an_error_are_in_its_metadata() -> None:
    info = _detail(SequenceOutOfRange(9, 5), error_details_pb2.ErrorInfo)
    assert info is not None
    assert dict(info.metadata) == {"last_sequence": "5"}


def test_an_error_about_an_unknown_action_names_the_engine() -> None:
    error = InvalidCall([Violation("steps[0].action", 'unknown action "x"', "UNKNOWN_ACTION")])
    for engine in ("local", "temporal"):
        info = error_details_pb2.ErrorInfo()
        status = status_of(error, engine)
        (value,) = [value for key, value in status.trailing_metadata or () if key == "grpc-status-details-bin"]
        assert isinstance(value, bytes)
        assert status_pb2.Status.FromString(value).details[0].Unpack(info)
        assert dict(info.metadata) == {"engine": engine}


def test_a_definition_that_is_too_large_names_the_limit() -> None:
    status = status_of(DefinitionTooLarge("the steps", 3_000_000, 2_000_000))
    info = _detail(DefinitionTooLarge("the steps", 3_000_000, 2_000_000), error_details_pb2.ErrorInfo)
    assert status.code is StatusCode.RESOURCE_EXHAUSTED
    assert status.details == "the steps have 3,000,000 bytes, more than the 2,000,000 that a run on Temporal may have"
    assert info is not None
    assert (info.reason, dict(info.metadata)) == ("MESSAGE_TOO_LARGE", {"limit": "2000000"})


def test_every_engine_error_has_a_code() -> None:
    about_runs = {RunBroken, RunExists, RunNotEnded, RunNotFound, RunNotOpen, SequenceOutOfRange, TooManyRuns}
    known = about_runs | {
        TooManyKeptBytes,
        DefinitionTooLarge,
        NoFreeSlot,
        NotAccepting,
        JournalUnavailable,
        StepError,
        StepsRefused,
    }
    assert set(EngineError.__subclasses__()) == known
    assert set(StepError.__subclasses__()) == {StepCompletedBefore, StepNotFound, StepNotWaiting}


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
    assert _size(WorkflowNotFound("x", "→" * 10_000)) < SOFT_LIMIT
