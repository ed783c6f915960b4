"""Exceptions of actions to failures. Any exception becomes a failure, with as much of it as can be read."""

import asyncio
import os
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType

from stepwave._actions.failure import ActionError
from stepwave_server.actions.error_classification import MAX_CAUSES, causes_of, classify
from stepwave_server.core.model import Failure, Reason

__all__ = ["INSTALLED", "ActionFailed", "cut", "failure_of", "is_library", "text_of", "traceback_of", "traceback_text"]

MAX_MESSAGE = 2_048
MAX_NAME = 1_024
MAX_TRACEBACK = 8_192
"""Bytes of a traceback. A failure's details have at most 16 KiB together."""

_TRACEBACK = BaseException.__dict__["__traceback__"]

STANDARD_LIBRARY = sysconfig.get_path("stdlib") + os.sep

INSTALLED = f"{os.sep}site-packages{os.sep}"
"""The part of a path that marks a file of an installed library."""

OWN_PACKAGES = (
    "stepwave_server.",
    "stepwave._actions.",
    "stepwave._scripted.",
    "asyncio.",
    "pydantic.",
    "pydantic_core.",
)


class ActionFailed(Exception):
    """Raised by the server's own code when an attempt fails for a known reason.

    Attributes:
        message: What went wrong.
        reason: The failure's reason.
        retryable: Whether another attempt could help.
        retry_after: Nanoseconds to wait before another attempt; `None`: no wait is asked for.
        details: Details of the failure, at most 16 KiB.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        retryable: bool = False,
        retry_after: int | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.retryable = retryable
        self.retry_after = retry_after
        self.details = details or {}


def _as_it_is(text: str) -> str:
    return text


def failure_of(
    error: BaseException,
    step_id: str,
    attempt: int,
    *,
    tracebacks: bool = True,
    redact: Callable[[str], str] = _as_it_is,
) -> Failure:
    """Return the failure of an attempt that raised, with as much of the exception as can be read. Never raises.

    Args:
        error: What the attempt raised.
        step_id: The step.
        attempt: The number of the attempt.
        tracebacks: Whether the failure has the traceback.
        redact: Redacts a text, before it is shortened: a part of a value would not be found.
    """
    if type(error) is ActionFailed:
        message = cut(redact(error.message), MAX_MESSAGE)
        return Failure(
            reason=error.reason,
            message=message,
            retryable=error.retryable,
            retry_after=error.retry_after,
            step_id=step_id,
            attempt=attempt,
            details=tuple(sorted(error.details.items())),
        )
    kind, tb = _kind(error), traceback_of(error)
    classification = classify(error)
    details = {"exception": kind}
    if tracebacks:
        details |= _location(tb)
        details["traceback"] = traceback_text(error, tb, redact)
    return Failure(
        reason=classification.reason,
        message=_full_message(error, kind, redact),
        retryable=classification.retryable,
        retry_after=classification.retry_after,
        step_id=step_id,
        attempt=attempt,
        details=tuple(sorted(details.items())),
    )


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the interpreter's traceback of an exception, which its class may override."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    return found


def _full_message(error: BaseException, kind: str, redact: Callable[[str], str]) -> str:
    """Return an exception's class and text; of an `ActionError`, the text alone."""
    message = text_of(lambda: redact(str(error)), MAX_MESSAGE)
    if not message and issubclass(type(error), asyncio.CancelledError):
        message = "what the action awaited was cancelled"
    if not issubclass(type(error), ActionError):
        message = f"{kind}: {message}" if message else kind
    return cut(message, MAX_MESSAGE)


def cut(text: str, most: int) -> str:
    """Shorten a text to a number of characters, and replace what UTF-8 cannot encode."""
    # The methods of `str` itself, because the text may be of an action's own subclass.
    text = str.encode(str.__getitem__(text, slice(most + 1)), errors="replace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"


def _kind(error: BaseException) -> str:
    try:
        return cut(type(error).__qualname__, MAX_NAME)
    except BaseException:  # a metaclass is the action's code
        return "an exception without a name"


def text_of(read: Callable[[], str], most: int) -> str:
    """Return a text that `read` gets from the action's code, shortened to a number of characters."""
    try:
        return cut(read(), most)
    except BaseException as broken:
        return f"(its text cannot be read: {_kind(broken)})"


def traceback_text(error: BaseException, tb: TracebackType | None, redact: Callable[[str], str] = _as_it_is) -> str:
    """Return the text of an exception's traceback from the action's code on. Of a long one, the end is kept.

    It is redacted before it is shortened.
    """
    try:
        while tb is not None and tb.tb_next is not None and _is_own(tb):
            tb = tb.tb_next
        chain = len(causes_of(error)) < MAX_CAUSES  # formatting a longer chain takes long
        text = "".join(traceback.format_exception(type(error), error, tb, limit=-50, chain=chain))
        data = redact(text).encode(errors="replace")
    except BaseException as broken:
        return f"(the traceback cannot be read: {_kind(broken)})"
    return data.decode() if len(data) <= MAX_TRACEBACK else "…" + data[-MAX_TRACEBACK:].decode(errors="ignore")


def _location(tb: TracebackType | None) -> dict[str, str]:
    """Return the innermost file, line and function of the action's own code, else of a library's."""
    own = library = None
    while tb is not None:
        if not _is_own(tb):
            library = tb
            own = own if is_library(tb.tb_frame.f_code.co_filename) else tb
        tb = tb.tb_next
    innermost = own or library
    if innermost is None:
        return {}
    code = innermost.tb_frame.f_code
    file, function = cut(code.co_filename, MAX_NAME), cut(code.co_qualname, MAX_NAME)
    return {"file": file, "line": str(innermost.tb_lineno), "function": function}


def is_library(file: str) -> bool:
    """Return whether a file belongs to the standard library or to an installed library."""
    return file.startswith(("<frozen ", STANDARD_LIBRARY)) or INSTALLED in file


def _is_own(tb: TracebackType) -> bool:
    name = tb.tb_frame.f_globals.get("__name__")
    return type(name) is str and name.startswith(OWN_PACKAGES)
