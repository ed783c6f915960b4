"""How a process ends in which actions ran: what they left behind gets a moment, and then holds nothing up."""

import asyncio
import os
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

__all__ = ["end_process", "run_with_actions", "unheld"]

_PATIENCE = 1.0  # seconds that tasks get to end, once they are cancelled

T = TypeVar("T")

_clinging: set[asyncio.Task[Any]] = set()


def run_with_actions(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, except that it waits only a moment for other tasks to end.

    An action may swallow its cancellation for ever. Its loop is left open then, and `unheld` ends the process.
    """
    runner = asyncio.Runner()
    try:
        return runner.run(work)
    finally:
        _clinging.update(runner.run(_unended()))
        if not _clinging:
            runner.close()


async def _unended() -> set[asyncio.Task[Any]]:
    """Cancel every other task, and return those that go on all the same."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    return (await asyncio.wait(others, timeout=_PATIENCE))[1] if others else set()


@contextmanager
def unheld() -> Iterator[None]:
    """Let the exit that ends the body be at once, if tasks were left behind: no order of ending would reach them."""
    try:
        yield
    except SystemExit as end:
        if _clinging:
            end_process(end.code if isinstance(end.code, int) else bool(end.code))
        raise


def end_process(code: int) -> NoReturn:
    """End without waiting for anything: neither tasks nor threads of actions can be stopped."""
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
