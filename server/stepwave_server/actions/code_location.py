"""Where the code of a running action stands: the line of its author's own, wherever its calls lead."""

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

__all__ = ["line_of", "with_text"]

MOST_TEXT = 200
MOST_FRAMES = 1_000

_SERVER = ("stepwave_server.", "stepwave.")
_HOPS = ("cr_await", "ag_await", "gi_yieldfrom")
_FRAMES = ("cr_frame", "ag_frame", "gi_frame")


def line_of(task: "asyncio.Task[None]") -> CodeLine | None:
    """Return the line where the action that a task runs stands, without its text; `None` for the server's own actions.

    It is the innermost line that is neither the server's nor a library's, or else, for an action that comes with a
    library, the outermost of that. Called on the task's loop, so the task itself is suspended.
    """
    thread = thread_of(task)
    try:
        frames = _of_thread(thread) if thread is not None else reversed(list(_of_task(task)))
        frame = _blamed(list(_called(frames)))
    except Exception:  # what is awaited may be an object of the action's own, and asking it for anything its code
        return None
    return None if frame is None else CodeLine(frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno)


def with_text(line: CodeLine) -> CodeLine:
    """Return a line with its text, read from its file; to be called where waiting for a disk is no harm."""
    return replace(line, text=cut(linecache.getline(line.file, line.line).strip(), MOST_TEXT))


def _blamed(called: Sequence[FrameType]) -> FrameType | None:
    """Return the innermost frame of code that is not installed, else the outermost of code that is."""
    installed = None
    for frame in called:
        file = frame.f_code.co_filename
        if not is_library(file):
            return frame
        if INSTALLED in file:
            installed = frame
    return installed


def _called(frames: Iterable[FrameType]) -> Iterator[FrameType]:
    """Yield the frames that the server has called, given all of them, innermost first.

    Innermost may be frames of the server too: the action calls it, for example to report progress.
    """
    found = False
    for frame in frames:
        servers = str(frame.f_globals.get("__name__", "")).startswith(_SERVER)
        if servers and found:
            return
        if not servers:
            found = True
            yield frame


def _of_thread(thread: int) -> Iterator[FrameType]:
    """Yield the frames of a thread, innermost first."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to see another thread's stack
    return (frame for frame, _ in traceback.walk_stack(frame)) if frame is not None else iter(())


def _of_task(task: "asyncio.Task[None]") -> Iterator[FrameType]:
    """Yield the frames of a suspended task, outermost first, along the coroutines and generators that it awaits."""
    awaited: object = task.get_coro()
    for _ in range(MOST_FRAMES):
        frame = _attribute(awaited, _FRAMES)
        if isinstance(frame, FrameType):
            yield frame
            awaited = _attribute(awaited, _HOPS)
        else:
            awaited = _wrapped(awaited)
        if awaited is None:
            return


def _attribute(awaited: object, names: Iterable[str]) -> object:
    return next((value for name in names if (value := getattr(awaited, name, None)) is not None), None)


def _wrapped(awaited: object) -> object:
    """Return the coroutine or generator that an awaitable goes on with, as that of `anext` or `__await__`.

    They have no attribute for it; the garbage collector knows. A future has none: nothing of the task lies behind it.
    """
    if isinstance(awaited, asyncio.Future):
        return None
    return next((one for one in gc.get_referents(awaited) if any(hasattr(one, name) for name in _FRAMES)), None)
