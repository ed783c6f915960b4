"""Standard output carries answers alone, and a stream that is closed or fails is no traceback."""

import json
from pathlib import Path

import pytest

from integration.cli.shell import Shell, serving

PLACES = [f"{how} {where}" for where in ("at import", "in the action") for how in ("printed", "written", "echoed")]
ANSWERING = {
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
    "run-here": ("run", "flows/greeting.yaml", "--input", '{"name": "ann"}', "--actions", "tools"),
    "detach": ("run", "greeting", "--input", '{"name": "ann"}', "--detach"),
    "rerun": ("rerun", "streamed"),
    "serve": ("serve", "--listen", "127.0.0.1:0"),
    "schema": ("schema",),
    "version": ("--version",),
    "help": ("--help",),
}


@pytest.fixture
def chatting(tmp_path: Path) -> str:
    """Return a workflow whose action writes to standard output."""
    file = tmp_path / "chatting.yaml"
    file.write_text("name: chatting\nsteps: [{id: chat, action: chat}]")
    return str(file)


@pytest.fixture(scope="session")
def streamed(address: str) -> Shell:
    """Return a shell whose server has the run `streamed`."""
    shell = Shell(address)
    shell.run("run", "greeting", "--input", '{"name": "ann"}', "--run-id", "streamed")
    return shell


@pytest.mark.parametrize("output", ["result", "text", "live"])
def test_what_actions_write_in_any_way_is_kept_out_of_the_answer(alone: Shell, chatting: str, output: str) -> None:
    done = alone.run("run", chatting, "--actions", "chatty", "--output", output)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"chat": 1})
    assert all(place in done.stderr for place in PLACES)


def test_what_actions_write_in_any_way_is_kept_out_of_the_events(alone: Shell, chatting: str) -> None:
    done = alone.run("run", chatting, "--actions", "chatty", "--output", "json")
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert (kinds[0], kinds[-1]) == ("run_started", "run_finished")
    assert sorted(done.stderr.splitlines()) == sorted(PLACES)


def test_what_a_module_writes_is_kept_out_of_what_is_said_of_it(alone: Shell, chatting: str) -> None:
    for command in (("actions",), ("plan", chatting)):
        done = alone.run(*command, "--actions", "chatty", "--output", "json")
        assert "chat" in json.dumps(json.loads(done.stdout))
        assert sorted(done.stderr.splitlines()) == sorted(PLACES[:3])


def test_a_server_writes_its_address_and_nothing_else(chatting: str) -> None:
    with serving("--actions", "chatty") as (address, server):
        assert Shell(address).run("run", chatting).returncode == 0
        server.process.terminate()
        code, out, err = server.end()
    assert (code, out) == (0, "")
    assert all(place in err for place in PLACES)


@pytest.mark.parametrize("command", ANSWERING.values(), ids=list(ANSWERING))
def test_an_answer_that_cannot_be_written_is_said_in_a_line(streamed: Shell, command: tuple[str, ...]) -> None:
    done = streamed.redirect(">/dev/full", *command)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "cannot write the answer: No space left on device"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("name", ["runs", "report", "export", "watch", "run", "run-here", "version", "help"])
def test_a_closed_standard_output_takes_the_answer_in_silence(streamed: Shell, name: str) -> None:
    done = streamed.redirect(">&-", *ANSWERING[name])
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "<&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize("name", ["run", "run-here"])
def test_a_run_goes_on_without_standard_error(shell: Shell, redirection: str, name: str) -> None:
    done = shell.redirect(redirection, *ANSWERING[name])
    assert (done.returncode, json.loads(done.stdout)) == (0, {"twice": ["ANN", "ANN"]})


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-"])
def test_what_goes_wrong_is_told_by_the_exit_code_without_standard_error(alone: Shell, redirection: str) -> None:
    assert alone.redirect(redirection, "run", "flows/no-such.yaml", "--actions", "tools").returncode == 2


def test_nothing_that_a_server_opens_becomes_a_closed_stream(alone: Shell, tmp_path: Path) -> None:
    flow, file = tmp_path / "flow.yaml", tmp_path / "seen"
    flow.write_text(f"name: a\nsteps: [{{id: look, action: look, input: {{file: {file}}}}}]")
    assert alone.redirect("<&- >&- 2>&-", "run", str(flow), "--actions", "chatty").returncode == 0
    assert json.loads(file.read_text()) == [True, True, True]
