"""Exit codes, and the one error that a command ends with."""

from enum import IntEnum

from stepwave._model.results import State
from stepwave.exceptions import DeadlineExceeded, RunFailed, RunLost, ServerError, ServerUnavailable, StepwaveError

__all__ = ["CommandError", "ExitCode", "code_of_error", "code_of_run"]


class ExitCode(IntEnum):
    """What the command line tells its caller."""

    SUCCEEDED = 0
    RUN_FAILED = 1
    USAGE = 2
    NO_SERVER = 3
    CANCELLED = 130


class CommandError(Exception):
    """Raised when a command cannot go on; its text is for the user, and nothing else is shown.

    Attributes:
        code: What the process exits with.
    """

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


def code_of_run(state: State) -> ExitCode:
    """Return the exit code for a run that ended in a state."""
    if state is State.SUCCEEDED:
        return ExitCode.SUCCEEDED
    return ExitCode.CANCELLED if state is State.CANCELLED else ExitCode.RUN_FAILED


def code_of_error(error: StepwaveError) -> ExitCode:
    """Return the exit code for an error of the SDK: what is neither a run's nor a server's is the caller's."""
    match error:
        case ServerUnavailable() | DeadlineExceeded() | RunLost():
            return ExitCode.NO_SERVER
        case RunFailed() | ServerError():
            return ExitCode.RUN_FAILED
        case _:
            return ExitCode.USAGE
