"""Servers and hosts of a Temporal cluster as a user starts them: as processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from integration.cli.shell import RunningCommand, Shell

__all__ = ["ACTIONS", "Cluster"]

ACTIONS = """\
import asyncio
import sys
import time
from pathlib import Path

from stepwave import action


@action
async def hold() -> str:
    print("holding", file=sys.stderr, flush=True)
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    return "held"


@action
def boom() -> None:
    raise LookupError("no such thing")


@action
async def now(item: int) -> float:
    return time.time()
"""


class Cluster(Shell):
    """Runs `stepwave` in a folder that has `tools.py`, with Temporal's address and a task queue in the environment.

    Args:
        temporal: The address of Temporal.
        task_queue: The task queue.
        folder: The folder.
    """

    def __init__(self, temporal: str, task_queue: str, folder: Path) -> None:
        super().__init__(folder=folder)
        self._variables = {"STEPWAVE_TEMPORAL_ADDRESS": temporal, "STEPWAVE_TEMPORAL_TASK_QUEUE": task_queue}
        (folder / "tools.py").write_text(ACTIONS)

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        inherited = super()._environment({})
        del inherited["STEPWAVE_JOURNAL"]
        return {**inherited, **self._variables, **more}

    @contextmanager
    def serving(self, *options: str) -> Iterator[tuple[str, RunningCommand]]:
        """Run a server, and yield its address and its process."""
        with self.start("serve", "--engine", "temporal", "--listen", "127.0.0.1:0", *options) as server:
            yield server.wait_for_output(":").strip(), server

    @contextmanager
    def hosting(self, *options: str) -> Iterator[RunningCommand]:
        """Run a host of the actions, and yield its process once it takes attempts."""
        with self.start("host", "tools", *options) as host:
            host.wait_for_output("hosting")
            yield host
