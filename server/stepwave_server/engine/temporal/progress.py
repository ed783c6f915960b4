"""The progress of attempts: what heartbeats carry, and the last progress, which the outcome carries.

Servers ask for heartbeats now and then, and do not see the last ones of an attempt that ends soon after.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

__all__ = ["Progress", "answer_with", "error_with", "progress_of", "progress_of_answer", "progress_of_error"]

MAX_MESSAGE = 2_048
"""Maximum length of a progress message in characters."""

_KEY = "stepwave-progress"
"""The key of the last progress, in the metadata of an answer and in the details of an error."""


class Progress(NamedTuple):
    """The progress of an attempt: the part that is done, from 0 to 1 (`None`: unknown), and a message."""

    fraction: float | None
    message: str


def progress_of(details: Sequence[object]) -> Progress | None:
    """Return the progress that a fraction and a message make; `None`: none. Other programs may send anything."""
    if len(details) < 2:
        return None
    fraction, message = details[:2]
    if isinstance(fraction, bool) or not isinstance(fraction, int | float | None):
        return None
    if not isinstance(message, str | None) or (fraction is None and message is None):
        return None
    if fraction is not None and not 0 <= fraction <= 1:
        return None
    return Progress(None if fraction is None else float(fraction), (message or "")[:MAX_MESSAGE])


def answer_with(answer: RawValue, progress: Progress | None) -> RawValue:
    """Return the answer of an attempt with its last progress, if it showed any."""
    if progress is not None:
        answer.payload.metadata[_KEY] = json.dumps(progress).encode()
    return answer


def progress_of_answer(answer: Payload) -> Progress | None:
    """Return the last progress of an attempt that answered."""
    if _KEY not in answer.metadata:
        return None
    try:
        return _progress(json.loads(answer.metadata[_KEY]))
    except ValueError:
        return None


def error_with(error: ApplicationError, progress: Progress | None) -> ApplicationError:
    """Return the error of an attempt with its last progress, if it showed any."""
    if progress is None:
        return error
    return ApplicationError(
        error.message,
        *error.details,
        {_KEY: list(progress)},
        type=error.type,
        non_retryable=error.non_retryable,
        next_retry_delay=error.next_retry_delay,
    )


def progress_of_error(error: BaseException) -> Progress | None:
    """Return the last progress of an attempt that failed."""
    details = error.details if isinstance(error, ApplicationError) else ()
    last = details[-1] if details else None
    return _progress(last.get(_KEY)) if isinstance(last, dict) else None


def _progress(found: object) -> Progress | None:
    return progress_of(found) if isinstance(found, list) else None
