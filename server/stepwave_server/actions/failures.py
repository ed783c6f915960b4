"""Exceptions of actions to failures: whatever an exception is, the attempt fails with what can be read of it."""

import asyncio
import os
import sysconfig
import traceback
from types import TracebackType

from stepwave._actions.failure import ActionError
from stepwave_server.actions.error_classification import MOST_CAUSES, causes_of, judge
from stepwave_server.core.model import Failure, Reason

__all__ = ["INSTALLED", "ActionFailed", "cut", "failure_of", "is_library", "traceback_of"]

MOST_MESSAGE = 2_048
MOST_NAME = 1_024
MOST_TRACEBACK = 8_192
"""Bytes: details have at most 16 KiB in all."""

_TRACEBACK = BaseException.__dict__["__traceback__"]

STANDARD_LIBRARY = sysconfig.get_path("stdlib") + os.sep

INSTALLED = f"{os.sep}site-packages{os.sep}"
"""What the path of an installed library's file has in it."""

OWN_PACKAGES = ("stepwave_server.", "stepwave._scripted.", "asyncio.", "pydantic.", "pydantic_core.")


class ActionFailed(Exception):
    """Raised where an attempt's failure is known by its kind, rather than by an exception of the action's code.

    Attributes:
        message: What went wrong.
        reason: The kind of failure.
        retryable: Whether another attempt could help.
        retry_after: How many nanoseconds to wait before it; `None`: it does not matter.
    """

    def __init__(
        self, reason: Reason, message: str, *, retryable: bool = False, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.retryable = retryable
        self.retry_after = retry_after


def failure_of(error: BaseException, step_id: str, attempt: int, *, tracebacks: bool = True) -> Failure:
    """Return what an attempt that raised fails with, as far as the exception can be read. Never raises."""
    if type(error) is ActionFailed:
        message = cut(error.message, MOST_MESSAGE)
        return Failure(error.reason, message, error.retryable, error.retry_after, step_id, attempt)
    kind, tb = _kind(error), traceback_of(error)
    verdict = judge(error)
    details = {"exception": kind}
    if tracebacks:
        details |= _place(tb)
        details["traceback"] = _traceback(error, tb)
    facts = tuple(sorted(details.items()))
    return Failure(verdict.reason, _told(error, kind), verdict.retryable, verdict.retry_after, step_id, attempt, facts)


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return where an exception was raised, as the interpreter itself knows it: its class may say otherwise."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    return found


def _told(error: BaseException, kind: str) -> str:
    """Return an exception's kind and text, or the text alone where the action chose the kind."""
    message = _message(error)
    if not message and issubclass(type(error), asyncio.CancelledError):
        message = "what the action awaited was cancelled"
    if not issubclass(type(error), ActionError):
        message = f"{kind}: {message}" if message else kind
    return cut(message, MOST_MESSAGE)


def cut(text: str, most: int) -> str:
    """Shorten a text to a number of characters, and make it one that UTF-8 can hold."""
    # The methods of `str` itself: a subclass of the action's may have others.
    text = str.encode(str.__getitem__(text, slice(most + 1)), errors="replace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"


def _kind(error: BaseException) -> str:
    try:
        return cut(type(error).__qualname__, MOST_NAME)
    except BaseException:  # a metaclass is the action's code
        return "an exception without a name"


def _message(error: BaseException) -> str:
    try:
        return cut(str(error), MOST_MESSAGE)
    except BaseException as broken:  # its `__str__` is the action's code
        return f"(its text cannot be had: {_kind(broken)})"


def _traceback(error: BaseException, tb: TracebackType | None) -> str:
    """Return the traceback's text from the action's code on, the last part of it if it is long."""
    try:
        while tb is not None and tb.tb_next is not None and _is_ours(tb):
            tb = tb.tb_next
        chain = len(causes_of(error)) < MOST_CAUSES  # a longer one takes long to be written
        text = "".join(traceback.format_exception(type(error), error, tb, limit=-50, chain=chain))
        data = text.encode(errors="replace")
    except BaseException as broken:
        return f"(the traceback cannot be had: {_kind(broken)})"
    return data.decode() if len(data) <= MOST_TRACEBACK else "…" + data[-MOST_TRACEBACK:].decode(errors="ignore")


def _place(tb: TracebackType | None) -> dict[str, str]:
    """Return the innermost file, line and function of the action's own code; of a library, if there is none of it."""
    own = library = None
    while tb is not None:
        if not _is_ours(tb):
            library = tb
            own = own if is_library(tb.tb_frame.f_code.co_filename) else tb
        tb = tb.tb_next
    place = own or library
    if place is None:
        return {}
    code = place.tb_frame.f_code
    file, function = cut(code.co_filename, MOST_NAME), cut(code.co_qualname, MOST_NAME)
    return {"file": file, "line": str(place.tb_lineno), "function": function}


def is_library(file: str) -> bool:
    """Say whether a file is the standard library's or an installed library's, rather than an action's author's."""
    return file.startswith(("<frozen ", STANDARD_LIBRARY)) or INSTALLED in file


def _is_ours(tb: TracebackType) -> bool:
    name = tb.tb_frame.f_globals.get("__name__")
    return type(name) is str and name.startswith(OWN_PACKAGES)
