"""Actions that fork and start processes, under `stepwave serve` and `run`: children share nothing, and all end."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from integration.cli.shell import RunningCommand, Shell, serving

ROUNDS = 20
FORKING = f"""\
name: forking
failure_policy: continue
steps:
- {{id: pools, action: pools, input: {{rounds: {ROUNDS}}}}}
- {{id: pools_on_loop, action: pools_on_loop, input: {{rounds: {ROUNDS}}}}}
- {{id: terminates, action: terminates, input: {{rounds: {ROUNDS}}}}}
- {{id: terminates_on_loop, action: terminates_on_loop, input: {{rounds: {ROUNDS}}}}}
- {{id: breaks, action: breaks, input: {{rounds: {ROUNDS}}}}}
- {{id: breaks_on_loop, action: breaks_on_loop, input: {{rounds: {ROUNDS}}}}}
"""
FORKS = """\
name: forks
steps:
- {id: returns, action: forks, input: {end: return}}
- {id: raises, action: forks, input: {end: raise}}
- {id: exits, action: forks, input: {end: exit}}
- {id: returns_on_loop, action: forks_on_loop, input: {end: return}}
- {id: raises_on_loop, action: forks_on_loop, input: {end: raise}}
- {id: exits_on_loop, action: forks_on_loop, input: {end: exit}}
"""
EXIT_CODES = {"returns": 0, "raises": 1, "exits": 7, "returns_on_loop": 0, "raises_on_loop": 1, "exits_on_loop": 7}
POOL_OUTPUTS = dict.fromkeys(("pools", "pools_on_loop", "terminates", "terminates_on_loop"), ROUNDS)
ACTIONS = ("--actions", "process_actions", "--actions", "tools")


@pytest.fixture
def forking(tmp_path: Path) -> str:
    """Return a workflow that forks in every way, many times."""
    file = tmp_path / "forking.yaml"
    file.write_text(FORKING)
    return str(file)


class Orphan:
    """A process that an action leaves behind. It and its children keep a FIFO open."""

    def __init__(self, folder: Path) -> None:
        self.fifo = str(folder / "fifo")
        os.mkfifo(self.fifo)
        self._reader = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        self._received = b""

    def workflow(self, action: str, **input: object) -> str:
        """Write a workflow with a step that starts the process, and return its file."""
        file = Path(f"{self.fifo}.yaml")
        step = {"id": "leave", "action": action, "input": {"fifo": self.fifo, **input}}
        file.write_text(json.dumps({"name": "leaving", "steps": [step]}))
        return str(file)

    @property
    def pid(self) -> int:
        """The id of the process, after its start."""
        self.is_running()
        return int(self._received)

    def is_running(self) -> bool:
        """Return whether a process has the FIFO open."""
        try:
            while part := os.read(self._reader, 100):
                self._received += part
        except BlockingIOError:
            return True
        return False

    def wait_until_ended(self) -> None:
        """Wait until no process has the FIFO open."""
        os.set_blocking(self._reader, True)
        assert not self.is_running()
        assert self._received, "it has not started"


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[Orphan]:
    """Yield a process that an action will leave behind, and kill it if it still runs."""
    orphan = Orphan(tmp_path)
    yield orphan
    if orphan.is_running():
        os.kill(orphan.pid, signal.SIGKILL)


def end_by_signal(server: RunningCommand, number: signal.Signals) -> int:
    """Send a signal, and return the exit code."""
    server.process.send_signal(number)
    return server.end()[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_continues_when_its_actions_terminate_children(forking: str, number: signal.Signals) -> None:
    with serving(*ACTIONS) as (address, server):
        done = Shell(address).run("run", forking)
        assert json.loads(done.stdout) == POOL_OUTPUTS
        assert done.stderr.count("BrokenProcessPool") == 3  # two steps, each in an event; the result groups both
        assert Shell(address).run("run", "flows/greeting.yaml", "--input", '{"name": "ann"}').returncode == 0
        server.process.send_signal(number)
        server.wait_for_error("draining")
        assert server.end()[0] == 0


def test_a_local_run_continues_when_its_actions_terminate_children(local_shell: Shell, forking: str) -> None:
    done = local_shell.run("run", forking, *ACTIONS)
    assert (done.returncode, json.loads(done.stdout)) == (1, POOL_OUTPUTS)
    assert done.stderr.count("BrokenProcessPool") == 3


def test_an_interrupt_cancels_a_run_whose_actions_forked(local_shell: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    steps = "[{id: pools, action: pools, input: {rounds: 3}}, {id: hold, action: hold, depends_on: [pools]}]"
    flow.write_text(f"name: a\nsteps: {steps}")
    with local_shell.start("run", str(flow), *ACTIONS) as started:
        started.wait_for_error("holding")
        started.process.send_signal(signal.SIGINT)
        code, out, err = started.end()
    assert (code, out) == (130, "")
    assert "■ run: cancelled: Ctrl-C" in err


def test_a_forked_child_that_ends_the_action_does_not_serve(local_shell: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text(FORKS)
    with serving(*ACTIONS) as (address, server):
        for done in (Shell(address).run("run", str(flow)), local_shell.run("run", str(flow), *ACTIONS)):
            assert (done.returncode, json.loads(done.stdout)) == (0, EXIT_CODES)
        assert Shell(address).run("run", "flows/greeting.yaml", "--input", '{"name": "ann"}').returncode == 0
        assert end_by_signal(server, signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_child_left_behind_is_ended_by_its_own_signal(orphan: Orphan, number: signal.Signals) -> None:
    with serving(*ACTIONS) as (address, server):
        assert Shell(address).run("run", orphan.workflow("leave_process")).returncode == 0
        os.kill(orphan.pid, number)
        orphan.wait_until_ended()
        assert Shell(address).run("actions").returncode == 0
        assert end_by_signal(server, signal.SIGTERM) == 0


@pytest.mark.parametrize("ignore_sigterm", [False, True])
def test_a_server_ends_the_children_of_its_actions(orphan: Orphan, ignore_sigterm: bool) -> None:
    with serving(*ACTIONS) as (address, server):
        Shell(address).run("run", orphan.workflow("leave_process", ignore_sigterm=ignore_sigterm))
        assert end_by_signal(server, signal.SIGTERM) == 0
        orphan.wait_until_ended()


@pytest.mark.parametrize(
    ("action", "input"),
    [("leave_process", {}), ("leave_process", {"ignore_sigterm": True}), ("leave_command", {"session": False})],
)
def test_a_local_run_ends_the_processes_of_its_actions(
    local_shell: Shell, orphan: Orphan, action: str, input: dict[str, object]
) -> None:
    with local_shell.start("run", orphan.workflow(action, **input), *ACTIONS) as started:
        assert started.end()[0] == 0
        orphan.wait_until_ended()


def test_pools_of_actions_end_with_the_command(local_shell: Shell, orphan: Orphan) -> None:
    start = time.monotonic()
    with local_shell.start("run", orphan.workflow("leave_pools"), *ACTIONS) as started:
        assert started.end()[0] == 0
        orphan.wait_until_ended()
    assert time.monotonic() - start < 9, "the exit handlers reached their time limit"


def test_a_process_in_its_own_session_outlives_the_command(local_shell: Shell, orphan: Orphan) -> None:
    with local_shell.start("run", orphan.workflow("leave_command", session=True), *ACTIONS) as started:
        assert started.end()[0] == 0
        assert orphan.is_running()
        os.killpg(orphan.pid, signal.SIGKILL)


def test_a_child_from_before_the_command_outlives_it(local_shell: Shell, orphan: Orphan, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    before = f"(exec 3>{orphan.fifo} >/dev/null 2>&1; exec sleep 600) & echo $! >{orphan.fifo};"
    flow = Orphan(other).workflow("leave_process")  # another child, which the command ends
    done = local_shell.redirect("", "run", flow, *ACTIONS, before=before)
    assert (done.returncode, orphan.is_running()) == (0, True)


def test_the_second_interrupt_ends_all_processes(local_shell: Shell, orphan: Orphan) -> None:
    with local_shell.start("run", orphan.workflow("leave_processes_and_end_late"), *ACTIONS) as started:
        started.wait_for_error("waiting for the end")
        started.process.send_signal(signal.SIGINT)
        started.wait_for_error("stopping")
        started.process.send_signal(signal.SIGINT)
        assert started.end()[0] == 130
        orphan.wait_until_ended()


def test_a_child_that_outlives_a_killed_server_has_none_of_its_sockets(orphan: Orphan, tmp_path: Path) -> None:
    options = (*ACTIONS, "--journal", f"sqlite:{tmp_path}/journal.db", "--drain-timeout", "0")
    with serving(*options) as (address, server), Shell(address).start("run", "flows/holding.yaml") as run:
        run.wait_for_error("holding")
        assert Shell(address).run("run", orphan.workflow("leave_process")).returncode == 0
        server.process.kill()
        run.wait_for_error("lost the server")  # the connection is closed although the child runs
        with Shell().start("serve", "--listen", address, *options) as again:
            assert again.wait_for_output(":").strip() == address
            assert orphan.is_running()
            again.process.terminate()
            again.end()


@pytest.mark.parametrize("command", [("serve", "--listen", "127.0.0.1:0"), ("run", "flows/greeting.yaml")])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_command_that_is_stopped_during_its_start_ends_all_processes(
    local_shell: Shell, orphan: Orphan, command: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    with local_shell.start(*command, "--actions", "slow_import", IMPORT_FIFO=orphan.fifo) as started:
        started.wait_for_error("importing")
        while started.process.poll() is None:  # needs a second interrupt, which may come before the first is handled
            started.process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                started.process.wait(0.1)
        assert started.end()[0] == code
        orphan.wait_until_ended()


@pytest.mark.parametrize("command", [("actions",), ("plan", "flows/greeting.yaml")])
def test_processes_of_an_imported_module_end_with_the_command(
    local_shell: Shell, orphan: Orphan, command: tuple[str, ...]
) -> None:
    local_shell.run(*command, "--actions", "slow_import", IMPORT_FIFO=orphan.fifo, IMPORT_SECONDS="0")
    orphan.wait_until_ended()
