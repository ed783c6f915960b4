"""Actions that fork and start processes, under `stepwave serve` and `run`: nothing is shared, and nothing is left."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from integration.cli.shell import Shell, Started, serving

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
COPIES = """\
name: copies
steps:
- {id: returns, action: forks, input: {end: return}}
- {id: raises, action: forks, input: {end: raise}}
- {id: exits, action: forks, input: {end: exit}}
- {id: returns_on_loop, action: forks_on_loop, input: {end: return}}
- {id: raises_on_loop, action: forks_on_loop, input: {end: raise}}
- {id: exits_on_loop, action: forks_on_loop, input: {end: exit}}
"""
CODES = {"returns": 0, "raises": 1, "exits": 7, "returns_on_loop": 0, "raises_on_loop": 1, "exits_on_loop": 7}
USED = dict.fromkeys(("pools", "pools_on_loop", "terminates", "terminates_on_loop"), ROUNDS)
ACTIONS = ("--actions", "unruly", "--actions", "tools")


@pytest.fixture
def forking(tmp_path: Path) -> str:
    """Return a workflow that forks in every way, many times over."""
    file = tmp_path / "forking.yaml"
    file.write_text(FORKING)
    return str(file)


class Orphan:
    """A process that an action leaves behind, known by the FIFO that it and its children hold open."""

    def __init__(self, folder: Path) -> None:
        self.fifo = str(folder / "fifo")
        os.mkfifo(self.fifo)
        self._reader = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        self._said = b""

    def flow(self, action: str, **input: object) -> str:
        """Write a workflow with a step that leaves it and waits until it is there, and return its file."""
        file = Path(f"{self.fifo}.yaml")
        step = {"id": "leave", "action": action, "input": {"fifo": self.fifo, **input}}
        file.write_text(json.dumps({"name": "leaving", "steps": [step]}))
        return str(file)

    @property
    def pid(self) -> int:
        """Its process, once it is there."""
        self.lives()
        return int(self._said)

    def lives(self) -> bool:
        """Say whether somebody holds its FIFO."""
        try:
            while part := os.read(self._reader, 100):
                self._said += part
        except BlockingIOError:
            return True
        return False

    def wait_for_its_end(self) -> None:
        """Wait until nobody holds its FIFO any more."""
        os.set_blocking(self._reader, True)
        assert not self.lives()
        assert self._said, "it was never there"


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[Orphan]:
    """Return a process that an action will leave behind."""
    orphan = Orphan(tmp_path)
    yield orphan
    if orphan.lives():
        os.kill(orphan.pid, signal.SIGKILL)


def end_of(server: Started, how: signal.Signals) -> int:
    server.process.send_signal(how)
    return server.end()[0]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_server_outlives_what_its_actions_do_to_their_children(forking: str, how: signal.Signals) -> None:
    with serving(*ACTIONS) as (address, server):
        done = Shell(address).run("run", forking)
        assert json.loads(done.stdout) == USED
        assert done.stderr.count("BrokenProcessPool") == 4  # two steps, each in an event and in the end
        assert Shell(address).run("run", "flows/greeting.yaml", "--input", '{"name": "ann"}').returncode == 0
        server.process.send_signal(how)
        server.wait_for_error("draining")
        assert server.end()[0] == 0


def test_a_run_outlives_what_its_actions_do_to_their_children(alone: Shell, forking: str) -> None:
    done = alone.run("run", forking, *ACTIONS)
    assert (done.returncode, json.loads(done.stdout)) == (1, USED)
    assert done.stderr.count("BrokenProcessPool") == 4


def test_a_run_whose_actions_forked_is_cancelled_by_an_interrupt(alone: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    steps = "[{id: pools, action: pools, input: {rounds: 3}}, {id: hold, action: hold, depends_on: [pools]}]"
    flow.write_text(f"name: a\nsteps: {steps}")
    with alone.start("run", str(flow), *ACTIONS) as started:
        started.wait_for_error("holding")
        started.process.send_signal(signal.SIGINT)
        code, out, err = started.end()
    assert (code, out) == (130, "")
    assert "■ run: cancelled: Ctrl-C" in err


def test_a_child_that_comes_back_from_its_action_is_no_second_server(alone: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text(COPIES)
    with serving(*ACTIONS) as (address, server):
        for done in (Shell(address).run("run", str(flow)), alone.run("run", str(flow), *ACTIONS)):
            assert (done.returncode, json.loads(done.stdout)) == (0, CODES)
        assert Shell(address).run("run", "flows/greeting.yaml", "--input", '{"name": "ann"}').returncode == 0
        assert end_of(server, signal.SIGTERM) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_child_left_behind_dies_of_a_signal_of_its_own(orphan: Orphan, how: signal.Signals) -> None:
    with serving(*ACTIONS) as (address, server):
        assert Shell(address).run("run", orphan.flow("leave")).returncode == 0
        os.kill(orphan.pid, how)
        orphan.wait_for_its_end()
        assert Shell(address).run("actions").returncode == 0
        assert end_of(server, signal.SIGTERM) == 0


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_server_ends_the_children_that_its_actions_left(orphan: Orphan, stubborn: bool) -> None:
    with serving(*ACTIONS) as (address, server):
        Shell(address).run("run", orphan.flow("leave", stubborn=stubborn))
        assert end_of(server, signal.SIGTERM) == 0
        orphan.wait_for_its_end()


@pytest.mark.parametrize(
    ("action", "input"), [("leave", {}), ("leave", {"stubborn": True}), ("leave_command", {"session": False})]
)
def test_a_run_ends_the_processes_that_its_actions_left(
    alone: Shell, orphan: Orphan, action: str, input: dict[str, object]
) -> None:
    with alone.start("run", orphan.flow(action, **input), *ACTIONS) as started:
        assert started.end()[0] == 0
        orphan.wait_for_its_end()


def test_a_pool_that_is_kept_for_others_ends_with_the_command(alone: Shell, orphan: Orphan) -> None:
    began = time.monotonic()
    with alone.start("run", orphan.flow("leave_pools"), *ACTIONS) as started:
        assert started.end()[0] == 0
        orphan.wait_for_its_end()
    assert time.monotonic() - began < 9, "it was ended only since it had not ended by itself"


def test_a_process_in_a_session_of_its_own_outlives_the_command(alone: Shell, orphan: Orphan) -> None:
    with alone.start("run", orphan.flow("leave_command", session=True), *ACTIONS) as started:
        assert started.end()[0] == 0
        assert orphan.lives()
        os.killpg(orphan.pid, signal.SIGKILL)


def test_a_child_that_was_there_before_the_command_outlives_it(alone: Shell, orphan: Orphan, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    before = f"(exec 3>{orphan.fifo} >/dev/null 2>&1; exec sleep 600) & echo $! >{orphan.fifo};"
    flow = Orphan(other).flow("leave")  # there is something to end
    done = alone.redirect("", "run", flow, *ACTIONS, before=before)
    assert (done.returncode, orphan.lives()) == (0, True)


def test_the_second_interrupt_leaves_no_process_behind(alone: Shell, orphan: Orphan) -> None:
    with alone.start("run", orphan.flow("leave_and_cling"), *ACTIONS) as started:
        started.wait_for_error("clinging")
        started.process.send_signal(signal.SIGINT)
        started.wait_for_error("stopping")
        started.process.send_signal(signal.SIGINT)
        assert started.end()[0] == 130
        orphan.wait_for_its_end()


def test_a_child_that_outlives_a_killed_server_keeps_nothing_of_it(orphan: Orphan, tmp_path: Path) -> None:
    options = (*ACTIONS, "--journal", f"sqlite:{tmp_path}/journal.db", "--drain-timeout", "0")
    with serving(*options) as (address, server), Shell(address).start("run", "flows/holding.yaml") as run:
        run.wait_for_error("holding")
        assert Shell(address).run("run", orphan.flow("leave")).returncode == 0
        server.process.kill()
        run.wait_for_error("lost the server")  # its connection is closed, though the child lives
        with Shell().start("serve", "--listen", address, *options) as again:
            assert again.wait_for_output(":").strip() == address
            assert orphan.lives()
            again.process.terminate()
            again.end()


@pytest.mark.parametrize("command", [("serve", "--listen", "127.0.0.1:0"), ("run", "flows/greeting.yaml")])
@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_told_to_stop_while_it_starts_a_command_leaves_no_process_behind(
    alone: Shell, orphan: Orphan, command: tuple[str, ...], how: signal.Signals, code: int
) -> None:
    with alone.start(*command, "--actions", "naps", NAPS_FIFO=orphan.fifo) as started:
        started.wait_for_error("importing")
        while started.process.poll() is None:  # a second interrupt is needed, and may come before the first was handled
            started.process.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                started.process.wait(0.1)
        assert started.end()[0] == code
        orphan.wait_for_its_end()


@pytest.mark.parametrize("command", [("actions",), ("plan", "flows/greeting.yaml")])
def test_what_a_module_starts_ends_with_the_command_that_looks_at_it(
    alone: Shell, orphan: Orphan, command: tuple[str, ...]
) -> None:
    alone.run(*command, "--actions", "naps", NAPS_FIFO=orphan.fifo, NAPS_SECONDS="0")
    orphan.wait_for_its_end()
