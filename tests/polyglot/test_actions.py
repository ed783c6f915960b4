"""Actions in another language: activities of Temporal's own SDK serve steps."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyglot.conftest import HERE, once, require, run
from stepwave import AsyncClient, Retry, RunFailed, StepProgress, Workflow
from temporal_server import TemporalServer

TASK_QUEUE = "polyglot"


def build(folder: Path) -> list[str | Path]:
    require("node", "npm")
    shutil.copytree(HERE / "node_actions", folder, ignore=shutil.ignore_patterns("node_modules"), dirs_exist_ok=True)
    run("npm", "ci", "--no-audit", "--no-fund", folder=folder)
    return ["node", str(folder / "host.js")]


@pytest.fixture(scope="module")
def server(shared_folder: Path) -> Iterator[str]:
    """Run Temporal, a server, and a host in JavaScript; return the address of the server."""
    program = once(shared_folder / "node_actions", build)
    with TemporalServer() as temporal:
        settings = {
            "STEPWAVE_ENGINE": "temporal",
            "STEPWAVE_JOURNAL": "",
            "STEPWAVE_TEMPORAL_ADDRESS": temporal.address,
            "STEPWAVE_TEMPORAL_TASK_QUEUE": TASK_QUEUE,
        }
        serve = [sys.executable, "-m", "stepwave", "serve", "--listen", "127.0.0.1:0"]
        host = [*program, temporal.address, TASK_QUEUE]
        with _running(host, {}) as ready, _running(serve, settings) as address:
            assert ready == "ready"
            yield address


class _running:  # noqa: N801 - it is used as a function is
    """A process and its first line, for as long as its block."""

    def __init__(self, command: list[str], variables: dict[str, str]) -> None:
        self._command = command
        self._variables = {**os.environ, **variables}

    def __enter__(self) -> str:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, env=self._variables)
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


async def test_an_activity_of_another_sdk_answers_a_step(server: str) -> None:
    flow = Workflow("greeting")
    flow.step("hello", "greet", {"name": flow.input["name"]})
    async with AsyncClient(server) as client:
        result = await client.run(flow, {"name": "Ada"}, run_id="node-greeting")
    assert result.outputs == {"hello": {"text": "Hello, Ada", "by": "node-greeting/hello"}}


async def test_the_core_retries_an_activity_of_another_sdk(server: str) -> None:
    flow = Workflow("reservation")
    flow.step("reserve", "reserve", retry=Retry(max_attempts=2, initial_backoff=0.01))
    async with AsyncClient(server) as client:
        result = await client.run(flow)
    assert result.outputs == {"reserve": 2}


async def test_the_type_of_a_failure_is_its_reason(server: str) -> None:
    flow = Workflow("refusal")
    flow.step("shop", "refuse", retry=Retry(max_attempts=3))
    async with AsyncClient(server) as client:
        with pytest.raises(RunFailed) as caught:
            await client.run(flow)
    failure = caught.value.failure
    assert failure is not None
    assert (failure.reason, failure.message, failure.attempt) == ("not_found", "no such shop", 1)


async def test_a_cancel_reaches_an_activity_of_another_sdk_that_shows_its_progress(server: str) -> None:
    flow = Workflow("waiting")
    flow.step("long", "wait")
    async with AsyncClient(server) as client:
        async with client.run(flow, check=False) as handle:
            async for event in handle:
                if isinstance(event, StepProgress):
                    assert (event.fraction, event.message) == (0.5, "half of it")
                    await handle.cancel()
        result = await handle
    assert result.steps["long"].state == "cancelled"
