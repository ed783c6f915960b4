"""`stepwave serve --reload`: changes restart the server at its address, and runs, errors and signals survive that."""

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from integration.cli.shell import RunningCommand, Shell, serving

TOOLS = """\
from stepwave import Context, action

@action
async def greet(context: Context) -> str:
    context.progress(None, "greeting")
"""
GREET = "name: greet\nsteps: [{id: greet, action: greet}]\n"
HOLDS = "    import asyncio\n    await asyncio.Event().wait()\n"
WAITS = """\
    import asyncio, pathlib
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
"""
BLOCKS = "    while True:\n        pass\n"
# The waits are short, because Python runs a signal's handler between two bytecodes: one that arrives just before an
# endless wait begins would be handled only after it.
IMPORTING = """\
import sys, time
print("importing", file=sys.stderr, flush=True)
while True:
    time.sleep(0.01)
"""
PRINTS = """\
import os
if "_STEPWAVE_RELOADER" in os.environ:  # in the server, not in the reloader
    print("x" * 1_000_000, "printed", flush=True)
"""
STARTED = "list the actions"


class Project:
    """A project in a folder, whose server reloads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("greet.yaml", GREET)

    def write(self, file: str, text: str) -> None:
        (self.folder / file).parent.mkdir(exist_ok=True)
        (self.folder / file).write_text(text)

    def answer(self, text: str) -> None:
        """Let the action answer with a text."""
        self.write("tools.py", f'{TOOLS}    return "{text}"\n')

    @contextmanager
    def reloading(self, *options: str) -> Iterator[tuple[Shell, RunningCommand]]:
        """Run a server that reloads the project."""
        journal = f"sqlite:{self.folder}/journal.db"
        with serving("--reload", "--actions", "tools", "--journal", journal, *options, folder=self.folder) as (
            address,
            server,
        ):
            server.wait_for_error(STARTED)
            yield Shell(address, folder=self.folder), server


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project whose action answers "one"."""
    project = Project(tmp_path)
    project.answer("one")
    return project


def run_greet(shell: Shell) -> object:
    """Run the workflow, and return its output."""
    done = shell.run("run", "greet.yaml", "--output", "result")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["greet"]


def server_process(server: RunningCommand) -> psutil.Process:
    """Return the process that serves."""
    (child,) = psutil.Process(server.process.pid).children()
    return child


def test_a_changed_action_answers_at_the_same_address(project: Project) -> None:
    with project.reloading() as (shell, server):
        assert run_greet(shell) == "one"
        project.answer("two")
        assert server.wait_for_error("changed") == "tools.py changed: restarting\n"
        server.wait_for_error(STARTED)
        assert run_greet(shell) == "two"
        server.process.terminate()
        code, out, _ = server.end()
    assert (code, out) == (0, "")


def test_a_change_to_the_same_size_within_a_second_counts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    file = project.folder / "tools.py"
    os.utime(file, ns=(0, 1_000_000_000))
    with project.reloading() as (shell, server):
        project.answer("two")
        os.utime(file, ns=(0, 1_500_000_000))
        server.wait_for_error("changed")
        server.wait_for_error(STARTED)
        assert run_greet(shell) == "two"


def test_a_run_under_way_during_a_change_finishes(project: Project) -> None:
    project.write("tools.py", TOOLS + HOLDS)
    with project.reloading() as (shell, _), shell.start("run", "greet.yaml") as run:
        run.wait_for_error("greeting")
        project.answer("two")
        code, out, _ = run.end()
    assert (code, json.loads(out)) == (0, {"greet": "two"})


def test_a_step_that_ends_within_the_drain_is_not_interrupted(project: Project) -> None:
    project.write("tools.py", f'{TOOLS}{WAITS}    return "one"\n')
    with project.reloading("--drain-timeout", "1h") as (shell, server), shell.start("run", "greet.yaml") as run:
        run.wait_for_error("greeting")
        project.answer("two")
        server.wait_for_error("draining")
        project.write("go", "")
        code, out, err = run.end()
    assert (code, json.loads(out)) == (0, {"greet": "one"})
    assert "retrying" not in err


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("package/lazily_imported.py", "TEXT = 1\n"),
        ("flows/new.yaml", "name: new\nsteps: [{id: a, action: core.echo}]\n"),
        ("stepwave.toml", "max_runs = 50\n"),
    ],
)
def test_a_change_of_another_file_that_the_server_uses_restarts_it(project: Project, file: str, text: str) -> None:
    project.write("package/lazily_imported.py", "")
    project.write("flows/named.yaml", GREET)
    project.write("stepwave.toml", "")
    project.write("tools.py", f"{TOOLS}    from package import lazily_imported\n")
    with project.reloading("--workflows", "flows", "--config", "stepwave.toml") as (shell, server):
        run_greet(shell)
        project.write(file, text)
        assert server.wait_for_error("changed") == f"{file} changed: restarting\n"
        server.wait_for_error(STARTED)


def test_a_module_that_cannot_be_imported_is_reported_and_can_be_fixed(project: Project) -> None:
    with project.reloading() as (shell, server):
        project.write("tools.py", f"{TOOLS}    return broken(\n")
        assert "(tools.py, line 6)" in server.wait_for_error("SyntaxError")
        server.wait_for_error("waiting for a change")
        project.answer("two")
        server.wait_for_error("tools.py changed: restarting")
        server.wait_for_error(STARTED)
        assert run_greet(shell) == "two"


def test_an_invalid_configuration_is_reported_and_can_be_fixed(project: Project) -> None:
    project.write("stepwave.toml", "max_runs = 50\n")
    with project.reloading("--config", "stepwave.toml") as (shell, server):
        project.write("stepwave.toml", "max_rnus = 50\n")
        assert server.wait_for_error("unknown key") == (
            "stepwave.toml:1: max_rnus: unknown key; did you mean max_runs?\n"
        )
        server.wait_for_error("waiting for a change")
        project.write("stepwave.toml", "max_runs = 60\n")
        server.wait_for_error(STARTED)
        assert shell.run("actions").returncode == 0


def test_a_module_that_is_missing_at_the_first_start_is_waited_for(project: Project) -> None:
    project.write("tools.py", f"import later\n{TOOLS}")
    options = (
        "--reload",
        "--listen",
        "127.0.0.1:0",
        "--actions",
        "tools",
        "--journal",
        f"sqlite:{project.folder}/j.db",
    )
    with Shell(folder=project.folder).start("serve", *options) as server:
        assert "needs a module that is missing: later" in server.wait_for_error("missing")
        server.wait_for_error("waiting for a change")
        project.write("later.py", "")
        assert server.wait_for_error("changed") == "later.py changed: restarting\n"
        assert server.wait_for_output(":").startswith("127.0.0.1:")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_import_of_a_module(project: Project, number: signal.Signals, code: int) -> None:
    with project.reloading() as (_, server):
        project.write("tools.py", IMPORTING)
        server.wait_for_error("importing")
        server.process.send_signal(number)
        assert server.end() == (code, "", "")


def test_an_interrupt_ends_the_wait_for_a_change(project: Project) -> None:
    with project.reloading() as (_, server):
        project.write("tools.py", "import")
        server.wait_for_error("waiting for a change")
        server.process.send_signal(signal.SIGINT)
        assert server.end()[0] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_in_order(project: Project, number: signal.Signals) -> None:
    with project.reloading() as (_, server):
        child = server_process(server)
        server.process.send_signal(number)
        server.wait_for_error("draining")
        code, out, _ = server.end()
    assert (code, out) == (0, "")
    assert not child.is_running()


def test_an_interrupt_of_the_terminal_counts_once(project: Project) -> None:
    project.write("tools.py", TOOLS + HOLDS)
    with project.reloading("--drain-timeout", "1h") as (shell, server), shell.start("run", "greet.yaml") as run:
        run.wait_for_error("greeting")
        server_process(server).send_signal(signal.SIGINT)  # a terminal interrupts both processes
        server.process.send_signal(signal.SIGINT)
        server.wait_for_error("draining")
        assert shell.run("cancel", "@last").returncode == 0
        assert run.end()[0] == 130
        assert server.end()[0] == 0


def test_the_second_interrupt_stops_the_server_at_once(project: Project) -> None:
    project.write("tools.py", TOOLS + HOLDS)
    with project.reloading("--drain-timeout", "1h") as (shell, server):
        shell.run("run", "greet.yaml", "--detach")
        server.process.send_signal(signal.SIGINT)
        server.wait_for_error("draining")
        server.process.send_signal(signal.SIGINT)
        assert server.end()[0] == 0


def test_an_interrupt_during_a_restart_lets_runs_end(project: Project) -> None:
    project.write("tools.py", f'{TOOLS}{WAITS}    return "one"\n')
    with project.reloading("--drain-timeout", "1h") as (shell, server), shell.start("run", "greet.yaml") as run:
        run.wait_for_error("greeting")
        project.answer("two")
        server.wait_for_error("draining")
        server.process.send_signal(signal.SIGINT)
        server.wait_for_error("stopping instead of restarting")
        project.write("go", "")
        code, out, err = run.end()
        assert server.end()[0] == 0
    assert (code, json.loads(out)) == (0, {"greet": "one"})
    assert "retrying" not in err


def test_the_second_interrupt_during_a_restart_stops_the_server_at_once(project: Project) -> None:
    project.write("tools.py", TOOLS + HOLDS)
    with project.reloading("--drain-timeout", "1h") as (shell, server):
        shell.run("run", "greet.yaml", "--detach")
        project.answer("two")
        server.wait_for_error("draining")
        server.process.send_signal(signal.SIGINT)
        server.wait_for_error("stopping instead of restarting")
        server.process.send_signal(signal.SIGINT)
        assert server.end()[0] == 0


def test_the_server_ends_if_the_reloader_is_killed(project: Project) -> None:
    with project.reloading() as (_, server):
        child = server_process(server)
        server.process.kill()
        server.wait_for_error("draining")
        child.wait()


def test_a_server_that_cannot_stop_is_killed_and_restarted(project: Project) -> None:
    project.write("tools.py", TOOLS + WAITS + BLOCKS)
    with project.reloading("--drain-timeout", "0") as (shell, server), shell.start("run", "greet.yaml") as run:
        run.wait_for_error("greeting")
        project.write("go", "")
        server.wait_for_error("blocks the event loop")
        project.answer("two")
        server.wait_for_error("killing it")
        code, out, _ = run.end()
    assert (code, json.loads(out)) == (0, {"greet": "two"})


def test_an_address_in_use_ends_the_reloader(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = Shell(folder=project.folder).run(
            "serve", "--reload", "--listen", address, STEPWAVE_JOURNAL="sqlite:j.db"
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"cannot listen at {address}")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--actions", "./tools.py"), "'./tools.py' is a path; give the name of the module: tools"),
        (("--workflows", "missing"), "not a folder: missing"),
    ],
)
def test_an_option_that_no_change_of_a_file_fixes_ends_the_reloader(
    project: Project, option: tuple[str, str], message: str
) -> None:
    listen = ("--listen", "127.0.0.1:0")
    done = Shell(folder=project.folder).run("serve", "--reload", *listen, *option, STEPWAVE_JOURNAL="sqlite:j.db")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{message}\n")


def test_a_command_line_that_ends_its_options_is_restarted(project: Project) -> None:
    with project.reloading("--") as (shell, server):
        project.answer("two")
        server.wait_for_error("changed")
        server.wait_for_error(STARTED)
        assert run_greet(shell) == "two"


def test_processes_that_actions_start_do_not_get_the_variables_of_the_reloader(project: Project) -> None:
    names = "import os\nNAMES = [name for name in os.environ if name.startswith('_STEPWAVE')]\n"
    project.write("tools.py", f"{names}{TOOLS}    return str(NAMES)\n")
    with project.reloading() as (shell, _):
        assert run_greet(shell) == "[]"


def test_a_long_line_that_other_code_prints_at_the_start_is_shown(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("sitecustomize.py", PRINTS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(project.folder), *sys.path]))
    options = ("--reload", "--listen", "127.0.0.1:0", "--actions", "tools")
    with Shell(folder=project.folder).start("serve", *options, STEPWAVE_JOURNAL="sqlite:j.db") as server:
        assert server.wait_for_error("printed").count("x") == 1_000_000
        server.wait_for_error(STARTED)
