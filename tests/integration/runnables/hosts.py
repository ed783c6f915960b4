"""Hosts in other processes, and raw calls of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from integration.cli.shell import RunningCommand, Shell
from stepwave.v1 import payload_pb2, runnable_pb2

__all__ = ["attempt", "hosting"]

FOLDER = Path(__file__).parent


@contextmanager
def hosting(*arguments: str, module: str = "hosted_tools") -> Iterator[tuple[str, RunningCommand]]:
    """Run `stepwave host` at a free address, and yield the address and the process."""
    with Shell(folder=FOLDER).start("host", module, "--listen", "127.0.0.1:0", *arguments) as host:
        yield host.wait_for_output(":").strip(), host


def attempt(action: str, input: str = "null", run: str = "run-1", **fields: object) -> runnable_pb2.Attempt:
    """Return an attempt as a server sends it."""
    usual: dict[str, object] = {"namespace": "default", "run_id": run, "step_id": "step", "attempt": 1}
    return runnable_pb2.Attempt(action=action, input=payload_pb2.Payload(json=input), **{**usual, **fields})  # type: ignore[arg-type]  # fields of any type
