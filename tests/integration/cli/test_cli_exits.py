"""Actions that exit, or stop the event loop, under `stepwave serve` and `run`: only their steps fail."""

import json
import signal
from pathlib import Path

import pytest

from integration.cli import process_actions
from integration.cli.shell import Shell, serving
from stepwave import Client
from stepwave.exceptions import RunFailed
from stepwave.testing import serve

ACTIONS = ("--actions", "process_actions", "--actions", "tools")
EXITING = """\
name: exiting
failure_policy: continue
steps:
- {id: exits, action: exits_in_task}
- {id: interrupts, action: interrupts_in_task}
- {id: stops, action: stops_loop}
- {id: ends, action: exits_when_cancelled}
- {id: later, action: shout, input: {text: on}, depends_on: [stops]}
"""
OUTPUTS = {"ends": 1, "later": "ON"}


@pytest.fixture
def exiting(tmp_path: Path) -> str:
    """Return a workflow whose actions exit in every way, and stop the event loop."""
    file = tmp_path / "exiting.yaml"
    file.write_text(EXITING)
    return str(file)


def test_a_server_continues_when_a_task_of_an_action_exits(exiting: str) -> None:
    with serving(*ACTIONS) as (address, server):
        done = Shell(address).run("run", exiting)
        assert (done.returncode, json.loads(done.stdout)) == (1, OUTPUTS)
        assert "✗ exits: SystemExit: 3\n" in done.stderr
        assert "✗ interrupts: KeyboardInterrupt" in done.stderr
        assert Shell(address).run("run", "flows/greeting.yaml", "--input", '{"name": "ann"}').returncode == 0
        server.process.send_signal(signal.SIGTERM)
        code, _, err = server.end()
    assert code == 0
    assert "code of an action raised SystemExit: 3 at " in err
    assert "code of an action raised KeyboardInterrupt at " in err


def test_a_local_run_continues_when_a_task_of_an_action_exits(local_shell: Shell, exiting: str) -> None:
    done = local_shell.run("run", exiting, *ACTIONS)
    assert (done.returncode, json.loads(done.stdout)) == (1, OUTPUTS)
    assert "✗ exits: SystemExit: 3\n" in done.stderr


@pytest.mark.parametrize("name", ["exits_in_task", "interrupts_in_task"])
def test_a_server_on_a_thread_continues_when_a_task_of_an_action_exits(name: str) -> None:
    with serve([process_actions]) as address, Client(address) as client:
        with pytest.raises(RunFailed, match=r"SystemExit: 3|KeyboardInterrupt"):
            client.parallel([name])
        assert client.parallel(["stops_loop"]) == [1]
        assert client.parallel(["core.echo"], 1) == [1]
    process_actions.TASKS.clear()  # asyncio logs the unfinished tasks here, not when the tests end
