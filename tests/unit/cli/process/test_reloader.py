"""The reloader of `stepwave serve --reload`: what it does if the files cannot be watched."""

import asyncio
import sys
from pathlib import Path

import pytest

from stepwave.cli.process.reloader import Reloader
from stepwave.cli.process.watched_files import WatchedFiles

GUARD = 30.0
SERVER = "import threading; threading.Event().wait()"


class BrokenFiles(WatchedFiles):
    """Files that cannot be watched."""

    async def wait_for_change(self, *, whole_project: bool = False) -> str:
        raise LookupError("broken")


def ignore(_text: str) -> None:
    """Ignore a message."""


async def test_an_error_of_the_watch_ends_the_server_and_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", SERVER])
    reloader = Reloader(BrokenFiles(tmp_path), stop_timeout=GUARD, announce=ignore, report=ignore)
    async with asyncio.timeout(GUARD):
        with pytest.raises(LookupError, match="broken"):
            await reloader.run()
