"""What actions let loose on the event loop of `stepwave serve` and `run` ends their steps, and nothing else."""

import json
import signal
from pathlib import Path

import pytest

from integration.cli import unruly
from integration.cli.shell import Shell, serving
from stepwave import Client
from stepwave.exceptions import RunFailed
from stepwave.testing import serve

ACTIONS = ("--actions", "unruly", "--actions", "tools")
STRAYS = """\
name: stray
failure_policy: continue
steps:
- {id: exits, action: exits_in_task}
- {id: interrupts, action: interrupts_in_task}
- {id: stops, action: stops_loop}
- {id: ends, action: exits_at_the_end}
- {id: later, action: shout, input: {text: on}, depends_on: [stops]}
"""
OUTPUTS = {"ends": 1, "later": "ON"}


@pytest.fixture
def strays(tmp_path: Path) -> str:
    """Return a workflow whose actions let everything loose."""
    file = tmp_path / "strays.yaml"
    file.write_text(STRAYS)
    return str(file)


def test_a_server_goes_on_when_a_task_of_an_action_exits(strays: str) -> None:
    with serving(*ACTIONS) as (address, server):
        done = Shell(address).run("run", strays)
        assert (done.returncode, json.loads(done.stdout)) == (1, OUTPUTS)
        assert "✗ exits: SystemExit: 3\n" in done.stderr
        assert "✗ interrupts: KeyboardInterrupt" in done.stderr
        assert Shell(address).run("run", "flows/greeting.yaml", "--input", '{"name": "ann"}').returncode == 0
        server.process.send_signal(signal.SIGTERM)
        code, _, err = server.end()
    assert code == 0
    assert "code of an action raised SystemExit: 3 at " in err
    assert "code of an action raised KeyboardInterrupt at " in err


def test_a_run_in_process_goes_on_when_a_task_of_an_action_exits(alone: Shell, strays: str) -> None:
    done = alone.run("run", strays, *ACTIONS)
    assert (done.returncode, json.loads(done.stdout)) == (1, OUTPUTS)
    assert "✗ exits: SystemExit: 3\n" in done.stderr


@pytest.mark.parametrize("name", ["exits_in_task", "interrupts_in_task"])
def test_a_server_on_a_thread_goes_on_when_a_task_of_an_action_exits(name: str) -> None:
    with serve([unruly]) as address, Client(address) as client:
        with pytest.raises(RunFailed, match=r"SystemExit: 3|KeyboardInterrupt"):
            client.parallel([name])
        assert client.parallel(["stops_loop"]) == [1]
        assert client.parallel(["core.echo"], 1) == [1]
    unruly.LEFT.clear()  # asyncio complains now, not as the tests end
