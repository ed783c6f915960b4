"""Every exception of the SDK, in one tree.

    StepwaveError
    ├── InvalidWorkflow        the workflow or the call is malformed; every problem is listed
    ├── NotFound               no such run, step, workflow or action
    │   └── RunLost            the server restarted without a run that was followed, or the run was deleted
    ├── AlreadyExists          a run of this id exists with other content, or a step was completed otherwise
    ├── FailedPrecondition     the run is in the wrong state, such as deleting a run that has not ended
    ├── OutOfRange             the sequence is beyond the run's last event, or no longer kept
    ├── Unsupported            the server does not support a field or call
    ├── LimitExceeded          the call exceeds a limit of the server
    ├── AccessDenied           a credential is missing or refused
    ├── DeadlineExceeded       the call's own timeout passed
    ├── ServerUnavailable      the server does not answer, or is stopping
    ├── ServerError            a defect of the server
    ├── InvalidExport          the text is not an export of a run
    ├── ReplayDiverged         the scheduler decides otherwise than in an exported run
    └── RunFailed              the run ended without success; see `result`
        ├── RunCancelled       the run was cancelled
        └── ParallelFailed     a call of `parallel`: the lowest failing index, and the other answers

Facts are attributes. Do not parse them from messages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._model.events import AnyEvent
    from ._model.results import Failure, RunResult

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InvalidExport",
    "InvalidWorkflow",
    "LimitExceeded",
    "NotFound",
    "OutOfRange",
    "ParallelFailed",
    "ReplayDiverged",
    "RunCancelled",
    "RunFailed",
    "RunLost",
    "ServerError",
    "ServerUnavailable",
    "StepwaveError",
    "Unsupported",
    "Violation",
]


class StepwaveError(Exception):
    """The base class of all exceptions of the SDK.

    Attributes:
        reason: The stable reason from the server's `google.rpc.ErrorInfo`, such as `RUN_NOT_FOUND`; empty: none.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Violation:
    """One invalid field, and the problem.

    Attributes:
        field: The path of the field in the request, such as `workflow.steps[3].depends_on[0]`.
        description: The problem.
        reason: The kind of problem, such as `UNKNOWN_ACTION`; empty: it has no kind of its own.
    """

    field: str
    description: str
    reason: str = ""

    def __str__(self) -> str:
        # The description of an input names the place in it, which begins with the field: `input/limit: …`.
        if not self.field or self.description.startswith((f"{self.field}: ", f"{self.field}/")):
            return self.description
        return f"{self.field}: {self.description}"


class InvalidWorkflow(StepwaveError):
    """Raised when a workflow or call is malformed. Nothing has been invoked.

    Attributes:
        violations: Every invalid field.
        hint: How to provide actions that the server does not have, as the last line of the message; empty: it has all.
        engine: The engine of a server that lacks actions, such as `temporal`; empty: unknown, or it has all.
    """

    def __init__(
        self,
        message: str,
        violations: Sequence[Violation] = (),
        *,
        reason: str = "",
        hint: str = "",
        engine: str = "",
    ) -> None:
        super().__init__("; ".join(map(str, violations)) or message, reason=reason)
        self.violations = tuple(violations)
        self.hint = hint
        self.engine = engine

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.hint}" if self.hint else super().__str__()


class NotFound(StepwaveError):
    """Raised when there is no such run, workflow or action."""


class RunLost(NotFound):
    """Raised when a run disappears while it is followed: its server restarted without it, or it was deleted.

    Attributes:
        run_id: The run.
    """

    def __init__(self, message: str, *, run_id: str = "", reason: str = "") -> None:
        super().__init__(message, reason=reason)
        self.run_id = run_id


class AlreadyExists(StepwaveError):
    """Raised when a run of this id exists with other content, or a step was completed with another outcome."""


class FailedPrecondition(StepwaveError):
    """Raised when a run is not in the state that the call needs."""


class OutOfRange(StepwaveError):
    """Raised when a sequence is beyond the run's last event, or is no longer kept."""


class Unsupported(StepwaveError):
    """Raised when the server does not support a field, value or call. The message names it.

    Attributes:
        violations: Every unsupported field.
    """

    def __init__(self, message: str, violations: Sequence[Violation] = (), *, reason: str = "") -> None:
        super().__init__("; ".join(map(str, violations)) or message, reason=reason)
        self.violations = tuple(violations)


class LimitExceeded(StepwaveError):
    """Raised when a call exceeds a limit of the server.

    Attributes:
        retry_after: When to try again, as the server asks; `None`: the same call will not succeed. The client has tried
            again for its `connect_timeout`.
    """

    def __init__(self, message: str, *, reason: str = "", retry_after: timedelta | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class AccessDenied(StepwaveError):
    """Raised when a credential is missing or refused."""


class DeadlineExceeded(StepwaveError):
    """Raised when the call's own timeout passed."""


class ServerUnavailable(StepwaveError):
    """Raised when the server does not answer, or is stopping.

    Attributes:
        address: The server's address.
        tls_problem: Why the encryption could not be agreed on; empty: that was not the problem.
    """

    def __init__(self, message: str, *, address: str = "", reason: str = "", tls_problem: str = "") -> None:
        super().__init__(message, reason=reason)
        self.address = address
        self.tls_problem = tls_problem


class ServerError(StepwaveError):
    """Raised when the server fails because of a defect."""


class InvalidExport(StepwaveError):
    """Raised when a text is not an export of a run, or this version cannot read it."""


class ReplayDiverged(StepwaveError):
    """Raised when the scheduler decides otherwise than in a recorded run.

    Attributes:
        run_id: The run.
        sequence: The number of the first event that differs.
        expected: The recorded event.
        got: The scheduler's event; `None`: it has none.
    """

    def __init__(self, message: str, run_id: str, sequence: int, expected: "AnyEvent", got: "AnyEvent | None") -> None:
        super().__init__(message)
        self.run_id = run_id
        self.sequence = sequence
        self.expected = expected
        self.got = got

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.run_id, self.sequence, self.expected, self.got)


class RunFailed(StepwaveError):
    """Raised when a run ended without success.

    Attributes:
        result: The run's result, with its failures.
    """

    def __init__(self, result: "RunResult") -> None:
        super().__init__(_describe(result))
        self.result = result

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.result,)

    @property
    def failure(self) -> "Failure | None":
        """The first failure; `None`: the result has none."""
        return self.result.failures[0] if self.result.failures else None


class RunCancelled(RunFailed):
    """Raised when a run was cancelled, except by the handle that is awaited."""


class ParallelFailed(RunFailed):
    """Raised when an action of `parallel` failed.

    Attributes:
        index: The lowest index among the actions that failed.
        partial: The answers in argument order; `None` where an action did not answer.
        answered: Whether each action answered, in the same order (`None` can be an answer).
    """

    def __init__(self, result: "RunResult", index: int, partial: Sequence[object], answered: Sequence[bool]) -> None:
        super().__init__(result)
        self.args = (f"action {index}: {_describe_step(result, index)}",)
        self.index = index
        self.partial = tuple(partial)
        self.answered = tuple(answered)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.result, self.index, self.partial, self.answered)


def _describe(result: "RunResult") -> str:
    if not result.failures:
        return f"run {result.run_id} ended {result.state}"
    first = result.failures[0]
    # Steps around a failed one fail too: their failures repeat its own.
    repeated = sum(failure.cause == "nested_step_failed" for failure in result.failures[1:])
    more = result.failure_count - 1 - repeated
    subject = f"step {first.step_id!r} failed" if first.step_id else f"run {result.run_id} ended {result.state}"
    return f"{subject}: {first.message}" + (f" (and {more} more)" if more else "")


def _describe_step(result: "RunResult", index: int) -> str:
    step = result.steps.get(f"p{index}")
    return step.failure.message if step and step.failure else _describe(result)
