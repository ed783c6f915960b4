"""Exit codes, and the error for a command that fails."""

from enum import IntEnum

from stepwave._model.results import State
from stepwave.exceptions import DeadlineExceeded, RunFailed, RunLost, ServerError, ServerUnavailable, StepwaveError

__all__ = ["CommandError", "ExitCode", "code_of_error", "code_of_run"]


class ExitCode(IntEnum):
    """The exit codes of the command line."""

    SUCCEEDED = 0
    RUN_FAILED = 1
    USAGE = 2
    NO_SERVER = 3
    CANCELLED = 130


class CommandError(Exception):
    """Raised when a command fails. The user sees its message only.

    Attributes:
        code: The exit code.
    """

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


def code_of_run(state: State) -> ExitCode:
    """Return the exit code for the final state of a run."""
    if state is State.SUCCEEDED:
        return ExitCode.SUCCEEDED
    return ExitCode.CANCELLED if state is State.CANCELLED else ExitCode.RUN_FAILED


def code_of_error(error: StepwaveError) -> ExitCode:
    """Return the exit code for an error of the SDK. An error of neither the run nor the server is wrong usage."""
    match error:
        case ServerUnavailable() | DeadlineExceeded() | RunLost():
            return ExitCode.NO_SERVER
        case RunFailed() | ServerError():
            return ExitCode.RUN_FAILED
        case _:
            return ExitCode.USAGE
