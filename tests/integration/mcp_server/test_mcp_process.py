"""The process of `stepwave mcp`: its streams, its end, and the problems that it reports."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.cli.shell import RunningCommand, Shell
from integration.mcp_server.actions import EVENTS
from integration.mcp_server.agent import FOLDER, Agent, text_of
from stepwave import AsyncClient, Client
from stepwave.cli.commands.mcp import check_tools, read_tools
from stepwave.cli.exit_codes import CommandError
from stepwave.testing import serve

WITHIN = 20  # seconds for an event of an action
VERSION = "2025-06-18"
BEGIN = (
    {
        "id": 0,
        "method": "initialize",
        "params": {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
    },
    {"method": "notifications/initialized"},
)
CYCLE = """\
name: cycle
steps:
- {id: a, action: core.echo, depends_on: [b]}
- {id: b, action: core.echo, depends_on: [a]}
"""
UNKNOWN = """\
name: unknown
steps: [{id: a, action: core.ekho}]
"""


@pytest.fixture(scope="module")
def local_agent() -> Iterator[Agent]:
    """Yield a client of `stepwave mcp` that runs workflows in its own process."""
    with Agent("--actions", "local_actions", workflows="local_flows") as agent:
        yield agent


@contextmanager
def calling(address: str, tool: str) -> Iterator[RunningCommand]:
    """Start `stepwave mcp`, and call a tool."""
    call = {"id": 1, "method": "tools/call", "params": {"name": tool}}
    arguments = ("mcp", "--workflows", "flows", "--server", address)
    with Shell(folder=FOLDER).start(*arguments, stdin=subprocess.PIPE) as command:
        assert command.process.stdin is not None
        for message in (*BEGIN, call):
            command.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        command.process.stdin.flush()
        yield command


def write_flows(folder: Path, **texts: str) -> Path:
    """Write workflow files in a folder, and return it."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_what_actions_print_is_not_in_the_protocol(local_agent: Agent) -> None:
    assert text_of(local_agent.call("printing")) == "done"


def test_actions_do_not_read_the_protocol(local_agent: Agent) -> None:
    assert json.loads(text_of(local_agent.call("reading"))) == ["", ""]


def test_a_workflow_in_process_can_run_another_one_of_the_folder(local_agent: Agent) -> None:
    assert json.loads(text_of(local_agent.call("calling"))) == {"print": "done"}


@pytest.mark.parametrize(
    ("number", "code"), [(None, 0), (signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["end of input", "INT", "TERM"]
)
def test_the_end_cancels_the_runs_under_way(address: str, number: signal.Signals | None, code: int) -> None:
    with calling(address, "holding") as command:
        assert EVENTS.get(timeout=WITHIN) == "started"
        if number is None:
            assert command.process.stdin is not None
            command.process.stdin.close()
        else:
            command.process.send_signal(number)
        assert EVENTS.get(timeout=WITHIN) == "ended"
        ended, out, _ = command.end()
    assert ended == code
    assert json.loads(out.splitlines()[0])["result"]["protocolVersion"] == VERSION
    with Client(address) as client:
        (run,) = client.runs(workflow="holding", limit=1)
        assert client.wait(run.run_id, check=False).state == "cancelled"


def test_calls_fail_without_a_server_and_with_one_that_refuses_the_workflow(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    with Agent("--server", address) as agent:
        answer = agent.call("holding")
        assert answer.is_error
        assert text_of(answer).startswith(f"no server at {address}")
        with serve([], listen=address):
            answer = agent.call("holding")
            assert answer.is_error
            assert text_of(answer).splitlines() == [
                'flows/holding.yaml:3:22: steps[0].action: unknown action "hold"',
                "start a server that has it: stepwave serve --actions MODULE",
            ]


def test_all_problems_of_the_workflows_are_reported_at_the_start(tmp_path: Path) -> None:
    write_flows(tmp_path / "flows", cycle=CYCLE, unknown=UNKNOWN)
    done = Shell(folder=tmp_path).run("mcp", "--workflows", "flows", "--local")
    assert (done.returncode, done.stdout) == (2, "")
    cycle, unknown = done.stderr.splitlines()
    assert cycle.startswith("flows/cycle.yaml:")
    assert "a → b → a" in cycle
    assert unknown.startswith('flows/unknown.yaml:2:25: steps[0].action: unknown action "core.ekho"')


async def test_all_problems_that_a_server_finds_are_reported_at_the_start(tmp_path: Path, address: str) -> None:
    tools = read_tools(write_flows(tmp_path, cycle=CYCLE, unknown=UNKNOWN))
    async with AsyncClient(address) as client:
        with pytest.raises(CommandError) as refused:
            await check_tools(client, tools)
    cycle, unknown, hint = str(refused.value).splitlines()
    assert cycle.startswith(f"{tmp_path}/cycle.yaml:")
    assert unknown.startswith(f"{tmp_path}/unknown.yaml:2:25: ")
    assert hint.startswith("start a server that has it: ")
