"""The exceptions that an engine raises."""

from collections.abc import Sequence

from stepwave_server.core.info import RunKey
from stepwave_server.core.validate import Violation

__all__ = [
    "DefinitionTooLarge",
    "EngineError",
    "HostStopping",
    "JournalUnavailable",
    "NoFreeSlot",
    "NotAccepting",
    "RunBroken",
    "RunExists",
    "RunNotEnded",
    "RunNotFound",
    "RunNotOpen",
    "RunReplaced",
    "SequenceOutOfRange",
    "StepCompletedBefore",
    "StepError",
    "StepNotFound",
    "StepNotWaiting",
    "StepsRefused",
    "TooManyKeptBytes",
    "TooManyRuns",
]


class EngineError(Exception):
    """Base class of the exceptions that refuse a call."""


class RunNotFound(EngineError):
    """Raised when a run does not exist, or is no longer kept."""

    def __init__(self, key: RunKey) -> None:
        super().__init__(f'run "{key.run_id}" does not exist, or is no longer kept')
        self.key = key


class RunExists(EngineError):
    """Raised when a run with the same id and another workflow or input exists."""

    def __init__(self, key: RunKey) -> None:
        super().__init__(f'run "{key.run_id}" exists with another workflow or input')
        self.key = key


class RunNotEnded(EngineError):
    """Raised when a call needs a run that has ended."""

    def __init__(self, key: RunKey) -> None:
        super().__init__(f'run "{key.run_id}" has not ended yet')
        self.key = key


class StepError(EngineError):
    """Base of the errors that refuse the completion of a step."""

    def __init__(self, key: RunKey, step_id: str, reason: str) -> None:
        super().__init__(f'step "{step_id}" of run "{key.run_id}" {reason}')
        self.key = key
        self.step_id = step_id


class StepNotFound(StepError):
    """Raised when a run has no such step."""

    def __init__(self, key: RunKey, step_id: str) -> None:
        super().__init__(key, step_id, "does not exist")


class StepNotWaiting(StepError):
    """Raised when a step does not wait to be completed from outside."""


class StepCompletedBefore(StepError):
    """Raised when a step was completed with another outcome."""

    def __init__(self, key: RunKey, step_id: str) -> None:
        super().__init__(key, step_id, "was completed before, with another outcome")


class RunNotOpen(EngineError):
    """Raised when a run takes no more steps: it is sealed or stopping, has ended, was never open, or is paused."""

    def __init__(self, key: RunKey, reason: str) -> None:
        super().__init__(f'run "{key.run_id}" takes no more steps: {reason}')
        self.key = key


class StepsRefused(EngineError):
    """Raised when steps cannot be added to an open run.

    Attributes:
        violations: All reasons.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("the steps cannot be added")
        self.violations = tuple(violations)


class RunReplaced(Exception):
    """Raised inside the engine when a broken run was replaced, or has ended. The query must be repeated."""


class RunBroken(EngineError):
    """Raised when this server can neither continue a run nor end it.

    A defect of the server broke the run, or a later version of the server wrote it.
    """

    def __init__(self, key: RunKey, reason: str = "a defect of the server broke it; see the server's log") -> None:
        super().__init__(f'run "{key.run_id}" cannot continue on this server: {reason}')
        self.key = key


class SequenceOutOfRange(EngineError):
    """Raised when a sequence number is beyond a run's newest event."""

    def __init__(self, after: int, last: int) -> None:
        super().__init__(f"sequence {after} is beyond the run's newest event, {last}")
        self.after = after
        self.last = last


class NotAccepting(EngineError):
    """Raised when the server is stopping and accepts no new runs."""

    def __init__(self, message: str = "the server is stopping and accepts no new runs") -> None:
        super().__init__(message)


class HostStopping(NotAccepting):
    """Raised when a host of actions is stopping and starts no attempts."""

    def __init__(self) -> None:
        super().__init__("the host is stopping and starts no attempts")


class NoFreeSlot(EngineError):
    """Raised when a host runs as many attempts of an action as it may.

    Attributes:
        limit: How many it may run.
    """

    def __init__(self, action: str, limit: int) -> None:
        super().__init__(f'{limit:,} attempts of "{action}" run on this host, as many as it has slots for')
        self.limit = limit


class JournalUnavailable(EngineError):
    """Raised when the journal cannot commit, so the call would have no lasting effect.

    Attributes:
        reason: Why it cannot commit.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooManyRuns(EngineError):
    """Raised when the limit of runs under way is reached: the server's, or that of a namespace."""

    def __init__(self, limit: int, namespace: str = "") -> None:
        where, whose = (f' in the namespace "{namespace}"', "it") if namespace else ("", "this server")
        super().__init__(f"{limit:,} runs are under way{where}, as many as {whose} allows")
        self.limit = limit


class TooManyKeptBytes(EngineError):
    """Raised when the runs of a namespace keep as many bytes as they may.

    Attributes:
        namespace: The namespace.
        kept: How many bytes they keep.
        limit: How many they may keep.
    """

    def __init__(self, namespace: str, kept: int, limit: int) -> None:
        super().__init__(
            f'the runs of the namespace "{namespace}" keep {kept:,} bytes, and its max_kept_bytes is {limit:,}: '
            "delete runs that have ended, or let the server keep them for a shorter time (--keep-age)"
        )
        self.namespace = namespace
        self.kept = kept
        self.limit = limit


class DefinitionTooLarge(EngineError):
    """Raised when what a run would have to keep of a request is larger than its engine allows.

    Attributes:
        limit: How many bytes are allowed.
    """

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(f"{what} have {size:,} bytes, more than the {limit:,} that a run on Temporal may have")
        self.limit = limit
