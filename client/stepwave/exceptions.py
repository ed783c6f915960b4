"""Every exception of the SDK, in one tree.

    StepwaveError
    ├── InvalidWorkflow        the workflow or the call is malformed; every problem is listed
    ├── NotFound               no such run, workflow or action
    │   └── RunLost            a run that was followed: it went with its server, or was deleted
    ├── AlreadyExists          the run id is taken by other content
    ├── FailedPrecondition     not in this state, as deleting a run that has not ended
    ├── OutOfRange             the sequence lies beyond the run, or is no longer kept
    ├── Unsupported            this server does not know a field or call yet
    ├── LimitExceeded          a bound of the server
    ├── AccessDenied           a credential is missing or refused
    ├── DeadlineExceeded       the call's own timeout passed
    ├── ServerUnavailable      nobody answers, or the server is about to stop
    ├── ServerError            a defect of the server
    ├── InvalidExport          a text is no export of a run
    ├── ReplayDiverged         today's scheduler decides otherwise than an exported run's did
    └── RunFailed              the run ended without success; `result` says how
        ├── RunCancelled       it was cancelled
        └── ParallelFailed     a call of `parallel`: the lowest failing index, and the answers there are

Facts are attributes, never to be read from the words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._model.events import Event
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
    """The root of the tree.

    Attributes:
        reason: The stable reason from the server's `google.rpc.ErrorInfo`, for example `RUN_NOT_FOUND`; empty if there
            is none.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Violation:
    """One field to blame, and why.

    Attributes:
        field: The path of the field, for example `steps[3].depends_on[0]`.
        description: What is wrong with it.
    """

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


class InvalidWorkflow(StepwaveError):
    """Raised when a workflow or call is malformed. Nothing has been invoked.

    Attributes:
        violations: Every field to blame.
    """

    def __init__(self, message: str, violations: Sequence[Violation] = (), *, reason: str = "") -> None:
        super().__init__("; ".join(map(str, violations)) or message, reason=reason)
        self.violations = tuple(violations)


class NotFound(StepwaveError):
    """Raised when there is no such run, workflow or action."""


class RunLost(NotFound):
    """Raised when a run is gone while it is followed: its server was restarted without it, or it was deleted.

    Attributes:
        run_id: The run.
    """

    def __init__(self, message: str, *, run_id: str = "", reason: str = "") -> None:
        super().__init__(message, reason=reason)
        self.run_id = run_id


class AlreadyExists(StepwaveError):
    """Raised when a run id is taken by a run of other content."""


class FailedPrecondition(StepwaveError):
    """Raised when a run is not in the state that the call needs."""


class OutOfRange(StepwaveError):
    """Raised when a sequence lies beyond the run's last event, or is no longer kept."""


class Unsupported(StepwaveError):
    """Raised when the server does not know a field, value or call; the message names it.

    Attributes:
        violations: Every field it does not know.
    """

    def __init__(self, message: str, violations: Sequence[Violation] = (), *, reason: str = "") -> None:
        super().__init__("; ".join(map(str, violations)) or message, reason=reason)
        self.violations = tuple(violations)


class LimitExceeded(StepwaveError):
    """Raised when a call passes a bound of the server."""


class AccessDenied(StepwaveError):
    """Raised when a credential is missing or refused."""


class DeadlineExceeded(StepwaveError):
    """Raised when the call's own timeout passed."""


class ServerUnavailable(StepwaveError):
    """Raised when nobody answers at the address, or the server is about to stop.

    Attributes:
        address: Where the server was looked for.
    """

    def __init__(self, message: str, *, address: str = "", reason: str = "") -> None:
        super().__init__(message, reason=reason)
        self.address = address


class ServerError(StepwaveError):
    """Raised when the server failed by a defect of its own."""


class InvalidExport(StepwaveError):
    """Raised when a text is no export of a run, or is one that this version cannot read."""


class ReplayDiverged(StepwaveError):
    """Raised when today's scheduler decides otherwise than is recorded of a run.

    Attributes:
        run_id: The run.
        sequence: The number of the first event that differs.
        expected: That event, as recorded.
        got: What the scheduler gives in its stead; `None`: nothing.
    """

    def __init__(self, message: str, run_id: str, sequence: int, expected: "Event", got: "Event | None") -> None:
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
        result: What the run came to, its failures included.
    """

    def __init__(self, result: "RunResult") -> None:
        super().__init__(_describe(result))
        self.result = result

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.result,)

    @property
    def failure(self) -> "Failure | None":
        """The first failure; `None` when the result holds none."""
        return self.result.failures[0] if self.result.failures else None


class RunCancelled(RunFailed):
    """Raised when a run was cancelled."""


class ParallelFailed(RunFailed):
    """Raised when an action of `parallel` failed.

    Attributes:
        index: The lowest index among the actions that failed.
        partial: The answers in argument order; `None` where there is none.
        answered: For each index, whether there is an answer (`None` is one).
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
    first, more = result.failures[0], result.failure_count - 1
    who = f"step {first.step_id!r} failed" if first.step_id else f"run {result.run_id} ended {result.state}"
    return f"{who}: {first.message}" + (f" (and {more} more)" if more else "")


def _describe_step(result: "RunResult", index: int) -> str:
    step = result.steps.get(f"p{index}")
    return step.failure.message if step and step.failure else _describe(result)
