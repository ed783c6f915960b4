"""`stepwave serve`: it prints its address, serves, drains, and refuses invalid options."""

import os
import signal
import socket
from pathlib import Path

import pytest

from integration.cli.shell import Shell, serving


def test_the_address_is_the_first_line_and_calls_then_succeed() -> None:
    with serving() as (address, server):
        assert Shell(address).run("actions").returncode == 0
        server.process.terminate()
        assert server.end()[1] == ""


def test_it_logs_what_it_has_and_how_to_list_it(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("name: one\nsteps: [{id: a, action: core.echo}]\n")
    with serving("--workflows", str(tmp_path)) as (address, server):
        line = server.wait_for_error("actions")
    assert "7 actions, 1 named workflow; " in line
    assert line.endswith(f"stepwave actions --server {address}\n")


def test_it_logs_nothing_at_its_start_with_a_higher_log_level() -> None:
    with serving("--log-level", "warning") as (address, server):
        assert Shell(address).run("actions").returncode == 0
        server.process.terminate()
        assert server.end() == (0, "", "")


def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    with Shell().start("serve", "--listen", f"unix:{tmp_path}/s") as server:
        assert server.wait_for_output("unix:") == f"unix:{tmp_path}/s\n"
        assert Shell(f"unix:{tmp_path}/s").run("runs").returncode == 0


def test_a_unix_socket_that_is_in_use_is_refused_and_stays(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    with Shell().start("serve", "--listen", address) as server:
        server.wait_for_output("unix:")
        for command in (("serve",), ("host", "tools")):
            done = Shell().run(*command, "--listen", address)
            assert (done.returncode, done.stderr) == (2, f"cannot listen at {address}: it is in use\n")
        assert Shell(address).run("runs").returncode == 0
        server.process.kill()
        server.process.wait()
    with Shell().start("serve", "--listen", address) as server:  # the file that was left is replaced
        assert server.wait_for_output("unix:") == f"{address}\n"


def test_after_sigterm_it_exits_when_its_runs_have_ended() -> None:
    with serving("--actions", "tools", "--drain-timeout", "0") as (address, server):
        with Shell(address).start("run", "flows/holding.yaml") as run:
            run.wait_for_error("holding")
            server.process.send_signal(signal.SIGTERM)
            code, _, err = run.end()
        assert server.end()[0] == 0
    assert code == 130
    assert "■ run: cancelled: the server stopped" in err


def test_after_sigterm_it_exits_although_an_action_never_ends() -> None:
    with Shell().start(
        *("serve", "--listen", "127.0.0.1:0", "--actions", "tools", "--drain-timeout", "0"), STEPWAVE_CANCEL_GRACE="0.1"
    ) as server:
        address = server.wait_for_output(":").strip()
        with Shell(address).start("run", "flows/uncancellable.yaml") as run:
            run.wait_for_error("ignoring cancellation")
            server.process.send_signal(signal.SIGTERM)
            code, _, err = server.end()
    assert code == 0
    assert "destroyed" not in err


def test_the_second_interrupt_stops_it_at_once() -> None:
    with serving("--actions", "tools", "--drain-timeout", "1h") as (address, server):
        Shell(address).run("run", "flows/holding.yaml", "--detach")
        server.process.send_signal(signal.SIGINT)
        server.wait_for_error("draining")
        server.process.send_signal(signal.SIGINT)
        assert server.end()[0] == 0


IMPORTING = """\
import sys
print("importing", file=sys.stderr, flush=True)
open("go").read()
from stepwave import action
@action
def greet() -> None: ...
"""


def test_an_interrupt_while_actions_are_imported_exits_before_the_journal_is_opened(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(IMPORTING)
    os.mkfifo(tmp_path / "go")
    options = ("--listen", "127.0.0.1:0", "--actions", "tools", "--journal", "sqlite:j.db")
    with Shell(folder=tmp_path).start("serve", *options) as server:
        server.wait_for_error("importing")
        server.process.send_signal(signal.SIGINT)
        (tmp_path / "go").write_text("")
        assert server.end() == (130, "", "")
    assert not (tmp_path / "j.db").exists()


def test_a_draining_server_accepts_no_new_runs() -> None:
    with serving("--actions", "tools") as (address, server):
        with Shell(address).start("run", "flows/holding.yaml") as run:
            run.wait_for_error("holding")
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_error("draining")
            refused = Shell(address).run("run", "flows/greeting.yaml", "--detach")
            run.process.send_signal(signal.SIGINT)
            run.end()
        server.end()
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "Start one" not in refused.stderr


def test_no_tracebacks_leaves_tracebacks_out_of_failures() -> None:
    with serving("--actions", "tools", "--no-tracebacks") as (address, _):
        done = Shell(address).run("run", "flows/failing.yaml", "--verbose")
    assert "✗ broken: LookupError: no such thing\n" in done.stderr
    assert "tools.py" not in done.stderr


def test_an_environment_variable_sets_an_option() -> None:
    with Shell().start("serve", STEPWAVE_LISTEN="127.0.0.1:0") as server:
        assert server.wait_for_output(":").startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--journal", "postgres"), "--journal: unknown journal 'postgres'"),
        (("--journal", "sqlite:/dev/null/runs.db"), "/dev/null/runs.db"),
        (("--synchronous", "sometimes"), "--synchronous"),
        (("--recover", "perhaps"), "--recover"),
        (("--keep-bytes", "-1"), "--keep-bytes: "),
        (("--engine", "paper"), "Invalid value for '--engine': 'paper' is not one of 'local', 'temporal'"),
        (("--slots", "3"), "--slots: it is for --engine temporal"),
        (("--listen", "0.0.0.0:0"), "or allow plain text with --insecure"),
        (("--actions", "no_such_module"), "no module named 'no_such_module'"),
        (("--workflows", "no_such_folder"), "no_such_folder"),
        (("--drain-timeout", "soon"), '--drain-timeout: "soon" is not a duration'),
        (("--max-runs", "0"), "--max-runs: "),
        (("--max-runs", "many"), "--max-runs"),
        (("--reload",), "--reload needs a journal on disk"),
        (("--log-level", "loud"), "Invalid value for '--log-level': 'loud' is not one of"),
    ],
)
def test_an_invalid_option_exits_with_2(local_shell: Shell, arguments: tuple[str, ...], message: str) -> None:
    done = local_shell.run("serve", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("STEPWAVE_MAX_RUNS", "many", "Input should be a valid integer"),
        ("OTEL_TRACES_EXPORTER", "bogus", 'no exporter "bogus" is installed'),
    ],
)
def test_an_invalid_setting_of_the_environment_names_its_variable(
    local_shell: Shell, variable: str, value: str, message: str
) -> None:
    for command in (("serve",), ("run", "flows/greeting.yaml", "--actions", "tools")):
        done = local_shell.run(*command, **{variable: value})
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{variable}: {message}")


def test_an_unknown_journal_of_the_environment_is_refused(local_shell: Shell) -> None:
    done = local_shell.run("serve", STEPWAVE_JOURNAL="paper")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("STEPWAVE_JOURNAL: unknown journal 'paper'")


def test_a_port_in_use_is_refused(local_shell: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = local_shell.run("serve", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cannot listen at 127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1


INVALID_LIMITS = """\
limits:
  - actions: greet
    concurency: 2
  - {actions: "*", rate: 0/s}
"""


def test_invalid_limits_are_refused_with_the_place_of_every_problem(local_shell: Shell, tmp_path: Path) -> None:
    invalid = tmp_path / "limits.yaml"
    invalid.write_text(INVALID_LIMITS)
    local = local_shell.run("run", "flows/greeting.yaml", "--actions", "tools", STEPWAVE_LIMITS=str(invalid))
    for done in (
        local_shell.run("serve", "--limits", str(invalid)),
        local_shell.run("serve", STEPWAVE_LIMITS=str(invalid)),
        local,
    ):
        assert (done.returncode, done.stdout) == (2, "")
        lines = done.stderr.splitlines()
        assert lines[0] == f"{invalid}:2:5: limits[0]: allows everything: set concurrency, rate, adaptive or per_key"
        assert lines[1] == f'{invalid}:3:5: limits[0]: unknown key "concurency"; did you mean "concurrency"?'
        assert lines[2].startswith(f"{invalid}:4:26: limits[1].rate: expected a whole number from 1 to 1,000,000")


def test_limits_are_listed_with_their_actions(tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: [{actions: core.*, concurrency: 8, rate: 20/s}, {actions: core.echo, adaptive: true}]")
    with serving("--limits", str(limits)) as (address, server):
        listed = Shell(address).run("actions").stdout
        server.process.terminate()
        server.end()
    assert "core.*: 0 of 8 at once, 20 every 1 s; core.echo: 0 of 8 at once, adaptive" in listed
