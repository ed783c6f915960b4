"""Why an engine refuses a call, one tree."""

from collections.abc import Sequence

from stepwave_server.core.info import RunKey
from stepwave_server.core.validate import Violation

__all__ = [
    "EngineError",
    "InvalidRun",
    "JournalUnavailable",
    "NotAccepting",
    "RunBroken",
    "RunExists",
    "RunNotEnded",
    "RunNotFound",
    "RunReplaced",
    "SequenceOutOfRange",
    "TooManyRuns",
]


class EngineError(Exception):
    """The root of the tree."""


class RunNotFound(EngineError):
    """Raised when there is no such run, or it is no longer kept."""

    def __init__(self, key: RunKey) -> None:
        super().__init__(f'no run "{key.run_id}": it never was, or is no longer kept')
        self.key = key


class RunExists(EngineError):
    """Raised when a run id is taken by a run of other content."""

    def __init__(self, key: RunKey) -> None:
        super().__init__(f'run "{key.run_id}" exists with another workflow or input')
        self.key = key


class RunNotEnded(EngineError):
    """Raised when a call needs a run that has ended."""

    def __init__(self, key: RunKey) -> None:
        super().__init__(f'run "{key.run_id}" has not ended yet')
        self.key = key


class RunReplaced(Exception):
    """Raised inside the engine when a run that met a defect has ended, or is under way to its end: ask again."""


class RunBroken(EngineError):
    """Raised when a run can neither go on here nor be brought to an end: by a defect, or for a later version of it."""

    def __init__(self, key: RunKey, why: str = "a defect of the server broke it; the log says more") -> None:
        super().__init__(f'run "{key.run_id}" cannot go on here: {why}')
        self.key = key


class SequenceOutOfRange(EngineError):
    """Raised when a sequence lies beyond a run's newest event."""

    def __init__(self, after: int, last: int) -> None:
        super().__init__(f"sequence {after} is beyond the run's newest event, {last}")
        self.after = after
        self.last = last


class NotAccepting(EngineError):
    """Raised when the server is about to stop and takes no new runs."""

    def __init__(self) -> None:
        super().__init__("the server is about to stop and takes no new runs")


class JournalUnavailable(EngineError):
    """Raised when the journal cannot commit: what the call asks for would not last."""

    def __init__(self, trouble: str) -> None:
        super().__init__(trouble)
        self.trouble = trouble


class TooManyRuns(EngineError):
    """Raised when as many runs are under way as the server allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit:,} runs are under way, as many as this server allows")
        self.limit = limit


class InvalidRun(EngineError):
    """Raised when a workflow cannot run here."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{violation.field}: {violation.description}" for violation in violations))
        self.violations = tuple(violations)
