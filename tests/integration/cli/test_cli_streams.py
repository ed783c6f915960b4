"""Standard output has the command's output only. A stream that is closed or fails causes no traceback."""

import json
from pathlib import Path

import pytest

from integration.cli.shell import Shell, serving

MESSAGES = [f"{how} {when}" for when in ("at import", "in the action") for how in ("printed", "written", "echoed")]
COMMANDS = {
    "runs": ("runs",),
    "runs-json": ("runs", "--output", "json"),
    "actions": ("actions",),
    "plan": ("plan", "greeting"),
    "result": ("result", "streamed"),
    "report": ("report", "streamed"),
    "why": ("why", "streamed"),
    "export": ("export", "streamed"),
    "watch": ("watch", "streamed", "--output", "json"),
    "run": ("run", "greeting", "--input", '{"name": "ann"}'),
    "follow": ("run", "greeting", "--input", '{"name": "ann"}', "--follow", "hello"),
    "raw": ("result", "streamed", "--raw"),
    "run-local": ("run", "flows/greeting.yaml", "--input", '{"name": "ann"}', "--actions", "tools"),
    "detach": ("run", "greeting", "--input", '{"name": "ann"}', "--detach"),
    "rerun": ("rerun", "streamed"),
    "serve": ("serve", "--listen", "127.0.0.1:0"),
    "schema": ("schema",),
    "version": ("--version",),
    "help": ("--help",),
}


@pytest.fixture
def printing(tmp_path: Path) -> str:
    """Return a workflow whose action writes to standard output."""
    file = tmp_path / "printing.yaml"
    file.write_text("name: printing\nsteps: [{id: print, action: write_output}]")
    return str(file)


@pytest.fixture(scope="session")
def streamed(address: str) -> Shell:
    """Return a shell with a server that has the run `streamed`."""
    shell = Shell(address)
    shell.run("run", "greeting", "--input", '{"name": "ann"}', "--run-id", "streamed")
    return shell


@pytest.mark.parametrize("output", ["result", "text", "live"])
def test_what_actions_write_is_not_in_the_output(local_shell: Shell, printing: str, output: str) -> None:
    done = local_shell.run("run", printing, "--actions", "printing_actions", "--output", output)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"print": 1})
    assert all(message in done.stderr for message in MESSAGES)


def test_what_actions_write_is_not_among_the_events(local_shell: Shell, printing: str) -> None:
    done = local_shell.run("run", printing, "--actions", "printing_actions", "--output", "json")
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert (kinds[0], kinds[-1]) == ("run_started", "run_finished")
    assert sorted(done.stderr.splitlines()) == sorted(MESSAGES)


def test_what_a_module_writes_at_import_is_not_in_the_output(local_shell: Shell, printing: str) -> None:
    for command in (("actions",), ("plan", printing)):
        done = local_shell.run(*command, "--actions", "printing_actions", "--output", "json")
        assert "write_output" in json.dumps(json.loads(done.stdout))
        assert sorted(done.stderr.splitlines()) == sorted(MESSAGES[:3])


def test_a_server_writes_only_its_address(printing: str) -> None:
    with serving("--actions", "printing_actions") as (address, server):
        assert Shell(address).run("run", printing).returncode == 0
        server.process.terminate()
        code, out, err = server.end()
    assert (code, out) == (0, "")
    assert all(message in err for message in MESSAGES)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_output_that_cannot_be_written_is_an_error_message(streamed: Shell, command: tuple[str, ...]) -> None:
    done = streamed.redirect(">/dev/full", *command)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "cannot write to standard output: No space left on device"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    "name", ["runs", "report", "export", "watch", "run", "follow", "raw", "run-local", "version", "help"]
)
def test_a_command_with_a_closed_standard_output_succeeds(streamed: Shell, name: str) -> None:
    done = streamed.redirect(">&-", *COMMANDS[name])
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "<&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize("name", ["run", "run-local"])
def test_a_run_continues_without_standard_error(shell: Shell, redirection: str, name: str) -> None:
    done = shell.redirect(redirection, *COMMANDS[name])
    assert (done.returncode, json.loads(done.stdout)) == (0, {"twice": ["ANN", "ANN"]})


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-"])
def test_without_standard_error_the_exit_code_reports_the_error(local_shell: Shell, redirection: str) -> None:
    assert local_shell.redirect(redirection, "run", "flows/no-such.yaml", "--actions", "tools").returncode == 2


def test_nothing_that_a_server_opens_takes_the_place_of_a_closed_stream(local_shell: Shell, tmp_path: Path) -> None:
    flow, file = tmp_path / "flow.yaml", tmp_path / "streams"
    flow.write_text(f"name: a\nsteps: [{{id: inspect, action: inspect_streams, input: {{file: {file}}}}}]")
    assert local_shell.redirect("<&- >&- 2>&-", "run", str(flow), "--actions", "printing_actions").returncode == 0
    assert json.loads(file.read_text()) == [True, True, True]
