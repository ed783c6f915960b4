"""A server to be killed: `python -m integration.durable.victim --help`, in the tests' folder.

Its actions leave a mark in a folder for every attempt, before they do anything else: a side effect that nothing undoes.
It says its address on standard output once calls succeed.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from stepwave import Context, action
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.journal import Retention, SqliteJournal

MARKS = Path(os.environ.get("STEPWAVE_TEST_MARKS", "."))


def mark(context: Context) -> None:
    """Note, for good, that an attempt was made."""
    line = f"{context.attempt} {context.idempotency_key}\n"
    file = os.open(MARKS / f"{context.run_id}.{context.step_id}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@action
async def waits(context: Context, seconds: float = 0.0, size: int = 0) -> str:
    """Wait, and answer with the step's id and so many characters."""
    mark(context)
    await asyncio.sleep(seconds)
    return context.step_id + "x" * size


@action
def blocks(context: Context, seconds: float = 0.0) -> str:
    """Wait on a thread, and answer with the step's id."""
    mark(context)
    time.sleep(seconds)
    return context.step_id


@action
async def breaks(context: Context, seconds: float = 0.0) -> None:
    """Wait, and fail."""
    mark(context)
    await asyncio.sleep(seconds)
    raise ValueError(context.step_id)


@action
async def says(context: Context, seconds: float = 0.0) -> AsyncIterator[str]:
    """Answer in chunks."""
    mark(context)
    for letter in context.step_id:
        yield letter
        await asyncio.sleep(seconds / len(context.step_id))


@action
async def hangs(context: Context) -> None:
    """Never answer."""
    mark(context)
    await asyncio.Event().wait()


ACTIONS = (waits, blocks, breaks, says, hangs)


class Failpoint:
    """Kills this process when it comes by a place for the so-manieth time."""

    def __init__(self, place: str, count: int) -> None:
        self._place = place
        self._left = count

    def __call__(self, place: str) -> None:
        """Come by a place."""
        if place == self._place:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


async def serve(listen: str, journal: Path, observe: Callable[[str], None] | None, missing: frozenset[str]) -> None:
    """Serve until SIGTERM; `missing` are actions to do without."""
    settings = Settings(listen=listen, entry_points=False, max_attempts=60, drain_timeout=0.0)
    kept = SqliteJournal.open(journal, clock=time.time_ns, retention=Retention(), observe=observe)
    actions = [each for each in ACTIONS if each.__name__ not in missing]
    async with Server(settings, actions=actions, journal=kept) as server:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        sys.stdout.write(f"{server.address}\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--die-at", metavar="PLACE:COUNT", help="before-commit, after-commit or before-publication")
    parser.add_argument("--without", action="append", default=[], metavar="ACTION")
    options = parser.parse_args()
    place, _, count = (options.die_at or "").partition(":")
    observe = Failpoint(place, int(count)) if place else None
    asyncio.run(serve(options.listen, options.journal, observe, frozenset(options.without)))


if __name__ == "__main__":
    main()
