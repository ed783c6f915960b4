"""The process of `stepwave mcp`: its streams, its end, and the problems that it reports."""

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
        command.process.stdin.write(lines_of(*BEGIN, call))
        command.process.stdin.flush()
        yield command


@contextmanager
def not_reading(address: str) -> Iterator[RunningCommand]:
    """Start `stepwave mcp`, call two tools, and read nothing. One call waits; the other's answer fills the pipe."""
    name = "x" * 200_000
    calls = (
        {"id": 1, "method": "tools/call", "params": {"name": "holding"}},
        {"id": 2, "method": "tools/call", "params": {"name": "greeting", "arguments": {"name": name}}},
    )
    with Shell(folder=FOLDER).start(
        "mcp", "--workflows", "flows", "--server", address, stdin=subprocess.PIPE
    ) as command:
        assert command.process.stdin is not None
        assert command.process.stdout is not None
        output = command.process.stdout.fileno()
        command.process.stdin.write(lines_of(*BEGIN))
        command.process.stdin.flush()
        while not os.read(output, 65536).endswith(b"\n"):
            pass
        command.process.stdin.write(lines_of(*calls))
        command.process.stdin.flush()
        assert EVENTS.get(timeout=WITHIN) == "started"
        assert select.select([output], [], [], WITHIN)[0], "no answer"
        yield command


def lines_of(*messages: dict[str, Any]) -> str:
    """Return messages of the protocol as lines."""
    return "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in messages)


def answers_of(done: "subprocess.CompletedProcess[str]") -> dict[Any, dict[str, Any]]:
    """Return the answers of a command that has ended, by id. It answers each request once."""
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    by_id = {answer["id"]: answer for answer in answers}
    assert len(by_id) == len(answers)
    return by_id


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


@pytest.mark.parametrize(
    ("number", "code"), [(None, 0), (signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["end of input", "INT", "TERM"]
)
def test_the_end_does_not_wait_for_a_client_that_does_not_read(
    address: str, number: signal.Signals | None, code: int
) -> None:
    with not_reading(address) as command:
        assert command.process.stdin is not None
        if number is None:
            command.process.stdin.close()
        else:
            command.process.send_signal(number)
        assert EVENTS.get(timeout=WITHIN) == "ended"
        assert command.process.wait(timeout=WITHIN) == code
        told = "the client has not read all answers; the others are dropped\n"
        assert (told in command.end()[2]) is (number is None)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_a_second_signal_ends_the_process_although_its_actions_do_not_end(number: signal.Signals, code: int) -> None:
    call = {"id": 1, "method": "tools/call", "params": {"name": "stubborn"}}
    arguments = ("mcp", "--workflows", "local_flows", "--actions", "local_actions")
    with Shell(folder=FOLDER).start(*arguments, stdin=subprocess.PIPE) as command:
        assert command.process.stdin is not None
        command.process.stdin.write(lines_of(*BEGIN, call))
        command.process.stdin.flush()
        command.wait_for_error("stubborn begins")
        command.process.send_signal(number)
        command.wait_for_error("stubborn goes on")
        command.process.send_signal(number)
        assert command.process.wait(timeout=WITHIN) == code


def test_requests_that_are_read_are_answered_before_the_end(address: str) -> None:
    requests = ({"id": "tools", "method": "tools/list"}, {"id": 2, "method": "ping"})
    call = {"id": 3, "method": "tools/call", "params": {"name": "holding"}}
    cancelled = {"method": "notifications/cancelled", "params": {"requestId": 3}}
    shell = Shell(folder=FOLDER)
    text = lines_of(*BEGIN, *requests, call, cancelled)
    done = shell.run("mcp", "--workflows", "flows", "--server", address, stdin=text)
    answers = answers_of(done)
    assert (done.returncode, sorted(map(str, answers))) == (0, ["0", "2", "tools"])
    assert len(answers["tools"]["result"]["tools"]) > 1
    while not EVENTS.empty():  # the call may have begun
        EVENTS.get()


def test_an_output_that_cannot_be_written_is_reported() -> None:
    begin = json.dumps({"jsonrpc": "2.0", **BEGIN[0]})
    done = Shell(folder=FOLDER).redirect(
        ">/dev/full", "mcp", "--workflows", "local_flows", "--actions", "local_actions", before=f"echo '{begin}' |"
    )
    assert done.returncode == 1
    assert "cannot write to standard output: No space left on device\n" in done.stderr


NESTED = "[" * 400 + "]" * 400


@pytest.mark.parametrize(
    ("line", "answer_id", "code"),
    [
        ('{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a": "b" "c"}}', 7, -32700),
        ('{"id": "seven", "method": "ping"', "seven", -32700),
        ('{"method": "ping", "params": {"id": 7}', None, -32700),
        ('{"method": "ping", "params": {"a": "\\ud800"}, "jsonrpc": "2.0", "id": 7}', 7, -32700),
        (f'{{"method": "ping", "params": {{"a": {NESTED}}}, "jsonrpc": "2.0", "id": 7}}', 7, -32700),
        ("hello", None, -32700),
        ('{"jsonrpc": "2.0", "id": 7}', 7, -32600),
        ("[]", None, -32600),
    ],
    ids=["malformed", "cut off", "id elsewhere", "lone surrogate", "deep", "words", "no method", "batch"],
)
def test_a_line_that_is_no_message_is_refused_and_reported(line: str, answer_id: object, code: int) -> None:
    text = f"{lines_of(*BEGIN)}{line}\n\n{lines_of({'id': 9, 'method': 'ping'})}"
    done = Shell(folder=FOLDER).run("mcp", "--workflows", "local_flows", "--actions", "local_actions", stdin=text)
    answers = answers_of(done)
    assert answers.keys() == {0, answer_id, 9}
    assert answers[answer_id]["error"]["code"] == code
    assert f"{answers[answer_id]['error']['message']}: {line[:80]}" in done.stderr


def test_a_refused_line_cannot_change_the_terminal() -> None:
    done = Shell(folder=FOLDER).run(
        "mcp", "--workflows", "local_flows", "--actions", "local_actions", stdin="\x1b[31mred\x07\n"
    )
    assert "column 1: [31mred\n" in done.stderr


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
