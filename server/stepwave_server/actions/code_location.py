"""The current line of a running action, in its author's own code."""

import asyncio
import gc
import linecache
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import FrameType

from stepwave_server.actions.failures import INSTALLED, cut, is_library
from stepwave_server.actions.threads import thread_of
from stepwave_server.core.explanation import CodeLine

__all__ = ["current_line", "with_text"]

MAX_TEXT = 200
MAX_FRAMES = 1_000

_SERVER = ("stepwave_server.", "stepwave.")
_AWAITED_ATTRIBUTES = ("cr_await", "ag_await", "gi_yieldfrom")
_FRAME_ATTRIBUTES = ("cr_frame", "ag_frame", "gi_frame")


def current_line(task: "asyncio.Task[None]") -> CodeLine | None:
    """Return the current line of a task's action, without the line's text; `None`: the action is the server's own.

    It is the innermost line that is neither the server's nor a library's. For an action of a library, it is the
    library's outermost line. Call it on the task's loop, so that the task is suspended.
    """
    thread = thread_of(task)
    try:
        frames = _thread_frames(thread) if thread is not None else reversed(list(_task_frames(task)))
        frame = _relevant(list(_action_frames(frames)))
    except Exception:  # attributes of an awaited object may be the action's code
        return None
    return None if frame is None else CodeLine(frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno)


def with_text(line: CodeLine) -> CodeLine:
    """Return a line with its text. Reads the file, so call it on a thread."""
    return replace(line, text=cut(linecache.getline(line.file, line.line).strip(), MAX_TEXT))


def _relevant(frames: Sequence[FrameType]) -> FrameType | None:
    """Return the innermost frame of code that is not a library's, else the outermost frame of an installed library."""
    installed = None
    for frame in frames:
        file = frame.f_code.co_filename
        if not is_library(file):
            return frame
        if INSTALLED in file:
            installed = frame
    return installed


def _action_frames(frames: Iterable[FrameType]) -> Iterator[FrameType]:
    """Yield the action's frames, given all frames, innermost first.

    The innermost frames may be the server's, if the action calls it, for example to report progress.
    """
    found = False
    for frame in frames:
        is_server = str(frame.f_globals.get("__name__", "")).startswith(_SERVER)
        if is_server and found:
            return
        if not is_server:
            found = True
            yield frame


def _thread_frames(thread: int) -> Iterator[FrameType]:
    """Yield the frames of a thread, innermost first."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to get another thread's stack
    return (frame for frame, _ in traceback.walk_stack(frame)) if frame is not None else iter(())


def _task_frames(task: "asyncio.Task[None]") -> Iterator[FrameType]:
    """Yield the frames of a suspended task, outermost first, along the coroutines and generators that it awaits."""
    awaited: object = task.get_coro()
    for _ in range(MAX_FRAMES):
        frame = _attribute(awaited, _FRAME_ATTRIBUTES)
        if isinstance(frame, FrameType):
            yield frame
            awaited = _attribute(awaited, _AWAITED_ATTRIBUTES)
        else:
            awaited = _wrapped(awaited)
        if awaited is None:
            return


def _attribute(awaited: object, names: Iterable[str]) -> object:
    return next((value for name in names if (value := getattr(awaited, name, None)) is not None), None)


def _wrapped(awaited: object) -> object:
    """Return the coroutine or generator that an awaitable wraps, such as that of `anext` or `__await__`.

    Such an awaitable has no attribute for it, but the garbage collector knows it. A future wraps none.
    """
    if isinstance(awaited, asyncio.Future):
        return None
    return next(
        (one for one in gc.get_referents(awaited) if any(hasattr(one, name) for name in _FRAME_ATTRIBUTES)), None
    )
