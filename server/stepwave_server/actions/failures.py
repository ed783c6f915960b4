"""Exceptions of actions to failures."""

import os
import sysconfig
import traceback
from types import TracebackType

from stepwave import ActionError
from stepwave_server.actions.verdicts import judge
from stepwave_server.core.model import Failure, Reason

__all__ = ["INSTALLED", "ActionFailed", "cut", "failure_of", "is_library"]

MOST_MESSAGE = 2_048
MOST_TRACEBACK = 8_192
"""Bytes: details have at most 16 KiB in all."""

STANDARD_LIBRARY = sysconfig.get_path("stdlib") + os.sep

INSTALLED = f"{os.sep}site-packages{os.sep}"
"""What the path of an installed library's file has in it."""

OWN_PACKAGES = ("stepwave_server.", "stepwave._scripted.", "asyncio.", "pydantic.", "pydantic_core.")


class ActionFailed(Exception):
    """Raised where an attempt's failure is known by its kind, rather than by an exception of the action's code.

    Attributes:
        reason: The kind of failure.
        retryable: Whether another attempt could help.
        retry_after: How many nanoseconds to wait before it; `None`: it does not matter.
    """

    def __init__(
        self, reason: Reason, message: str, *, retryable: bool = False, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable
        self.retry_after = retry_after


def failure_of(error: BaseException, step_id: str, attempt: int, *, tracebacks: bool = True) -> Failure:
    """Return what an attempt that raised fails with."""
    if isinstance(error, ActionFailed):
        message = cut(str(error), MOST_MESSAGE)
        return Failure(error.reason, message, error.retryable, error.retry_after, step_id, attempt)
    verdict = judge(error)
    details = {"exception": type(error).__qualname__}
    if tracebacks:
        details |= _place(error.__traceback__)
        details["traceback"] = _traceback(error)
    facts = tuple(sorted(details.items()))
    return Failure(verdict.reason, _told(error), verdict.retryable, verdict.retry_after, step_id, attempt, facts)


def _told(error: BaseException) -> str:
    """Return an exception's kind and text, or the text alone where the action chose the kind."""
    kind, message = type(error).__qualname__, _message(error)
    if not isinstance(error, ActionError):
        message = f"{kind}: {message}" if message else kind
    return cut(message, MOST_MESSAGE)


def cut(text: str, most: int) -> str:
    """Shorten a text to a number of characters, and make it one that UTF-8 can hold."""
    text = text.encode(errors="replace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # its `__str__` is the action's code
        return f"(its text cannot be had: {type(broken).__name__})"


def _traceback(error: BaseException) -> str:
    """Return the traceback's text from the action's code on, the last part of it if it is long."""
    try:
        tb = error.__traceback__
        while tb is not None and tb.tb_next is not None and _is_ours(tb):
            tb = tb.tb_next
        text = "".join(traceback.format_exception(type(error), error, tb, limit=-50))
    except BaseException as broken:
        return f"(the traceback cannot be had: {type(broken).__name__})"
    data = text.encode(errors="replace")
    return data.decode() if len(data) <= MOST_TRACEBACK else "…" + data[-MOST_TRACEBACK:].decode(errors="ignore")


def _place(tb: TracebackType | None) -> dict[str, str]:
    """Return the innermost file, line and function of the action's own code; of a library, if there is none of it."""
    places: list[tuple[bool, TracebackType]] = []
    while tb is not None:
        if not _is_ours(tb):
            places.append((not is_library(tb.tb_frame.f_code.co_filename), tb))
        tb = tb.tb_next
    if not places:
        return {}
    own = [place for is_own, place in places if is_own]
    place = own[-1] if own else places[-1][1]
    code = place.tb_frame.f_code
    return {"file": code.co_filename, "line": str(place.tb_lineno), "function": code.co_qualname}


def is_library(file: str) -> bool:
    """Say whether a file is the standard library's or an installed library's, rather than an action's author's."""
    return file.startswith(("<frozen ", STANDARD_LIBRARY)) or INSTALLED in file


def _is_ours(tb: TracebackType) -> bool:
    return str(tb.tb_frame.f_globals.get("__name__", "")).startswith(OWN_PACKAGES)
