"""Hosts in other processes, what a server knows of them, and the runs that they serve."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.cli.shell import RunningCommand, Shell
from stepwave import JSON, AsyncClient, Failure, Retry, RunFailed, Workflow
from stepwave.v1 import payload_pb2, runnable_pb2

__all__ = ["FOLDER", "attempt", "entry_text", "failure_of", "hosting", "one"]

FOLDER = Path(__file__).parent


@contextmanager
def hosting(*arguments: str, listen: str = "127.0.0.1:0") -> Iterator[tuple[str, RunningCommand]]:
    """Run `stepwave host`, by default at a free address, and yield the address and the process."""
    with Shell(folder=FOLDER).start("host", "hosted_tools", "--listen", listen, *arguments) as host:
        yield host.wait_for_output(":").strip(), host


def attempt(action: str, input: str = "null", run: str = "run-1", **fields: object) -> runnable_pb2.Attempt:
    """Return an attempt as a server sends it."""
    usual: dict[str, object] = {"namespace": "default", "run_id": run, "step_id": "step", "attempt": 1}
    return runnable_pb2.Attempt(action=action, input=payload_pb2.Payload(json=input), **{**usual, **fields})  # type: ignore[arg-type]  # fields of any type


def entry_text(name: str, entry: Mapping[str, object]) -> str:
    """Return an entry of a file of runnables. Texts, numbers and lists of JSON are values of TOML, too."""
    return "\n".join([f"[runnables.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in entry.items())])


def one(action: str, input: JSON = None, *, retry: Retry | None = None, timeout: float | None = None) -> Workflow:
    """Return a workflow of one step."""
    flow = Workflow("one")
    flow.step("only", action, input, retry=retry, timeout=timeout)
    return flow


async def failure_of(client: AsyncClient, flow: Workflow) -> Failure:
    """Run a workflow that fails, and return why."""
    with pytest.raises(RunFailed) as caught:
        await client.run(flow)
    return caught.value.result.failures[0]
