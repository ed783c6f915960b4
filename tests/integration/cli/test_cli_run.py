"""`stepwave run`: outputs on standard output, everything else on standard error, and exit codes."""

import json
import signal
import socket
from pathlib import Path

import pytest

from integration.cli.shell import Shell, line_of_code, serving

GREETING = ("run", "flows/greeting.yaml", "--input", '{"name": "ann"}')
OUTPUTS = {"twice": ["ANN", "ANN"]}


def test_a_file_runs_in_process_with_actions_of_the_working_directory(local_shell: Shell) -> None:
    done = local_shell.run(*GREETING, "--actions", "tools")
    assert (done.returncode, json.loads(done.stdout)) == (0, OUTPUTS)


def test_a_file_runs_on_the_server(shell: Shell) -> None:
    done = shell.run(*GREETING)
    assert (done.returncode, json.loads(done.stdout)) == (0, OUTPUTS)


def test_a_workflow_of_the_server_runs_by_its_name(shell: Shell) -> None:
    done = shell.run("run", "greeting", "--input", "@-", stdin='{"name": "ann"}')
    assert (done.returncode, json.loads(done.stdout)) == (0, OUTPUTS)


def test_without_a_terminal_each_event_is_a_line_of_standard_error(shell: Shell) -> None:
    done = shell.run(*GREETING, "--run-id", "greeting-lines")
    lines = [line.split(" s  ", 1)[1] for line in done.stderr.splitlines()]
    assert lines[0] == "run     started    greeting-lines: greeting, 2 steps in 2 waves"
    assert [line.split()[:2] for line in lines[1:-1]] == [
        ["wave", "0"],
        ["hello", "started"],
        ["hello", "succeeded"],
        ["wave", "0"],
        ["wave", "1"],
        ["twice", "started"],
        ["twice", "succeeded"],
        ["wave", "1"],
    ]
    assert lines[-1].startswith("run     succeeded")


def test_as_json_each_event_is_a_line_of_standard_output(shell: Shell) -> None:
    done = shell.run(*GREETING, "--output", "json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (events[0]["kind"], events[-1]["kind"], done.stderr) == ("run_started", "run_finished", "")
    numbers = [event["sequence"] for event in events if event["sequence"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert events[-1]["result"]["outputs"] == OUTPUTS


def test_as_result_only_the_outputs_are_printed(shell: Shell) -> None:
    done = shell.run(*GREETING, "--output", "result")
    assert (json.loads(done.stdout), done.stderr) == (OUTPUTS, "")


def test_the_output_of_actions_goes_to_standard_error(local_shell: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text("name: a\nsteps: [{id: talk, action: print_line}]")
    done = local_shell.run("run", str(flow), "--actions", "tools", "--output", "result")
    assert json.loads(done.stdout) == {"talk": None}
    assert done.stderr == "printed by an action\n"


def test_a_failed_run_shows_the_line_of_code_and_exits_with_1(shell: Shell) -> None:
    done = shell.run("run", "failing")
    assert done.returncode == 1
    place = f"tools.py:{line_of_code('raise LookupError')}"
    assert f"✗ broken: LookupError: no such thing\n    at {place} in broken\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout) == {"aside": 2}


def test_equal_failures_are_printed_as_one(shell: Shell, local_shell: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text("name: a\nfailure_policy: continue\nsteps: [{id: x, action: broken}, {id: y, action: broken}]")
    on_server = shell.run("run", str(flow), "--run-id", "equal", "--output", "result").stderr
    assert "✗ 2 steps failed: LookupError: no such thing\n    x, y\n" in on_server
    assert on_server.endswith("all failures: stepwave result equal\n")
    listed = shell.run("result", "equal").stderr
    assert "✗ x: LookupError" in listed
    assert "✗ y: LookupError" in listed
    in_process = local_shell.run("run", str(flow), "--actions", "tools", "--output", "result").stderr
    assert "✗ 2 steps failed: " in in_process
    assert "stepwave result" not in in_process  # the run ended with the command


def test_verbose_shows_the_traceback(shell: Shell) -> None:
    done = shell.run("run", "failing", "--verbose")
    assert '    raise LookupError("no such thing")\n' in done.stderr


def test_the_first_interrupt_cancels_the_run(shell: Shell) -> None:
    with shell.start("run", "holding", "--run-id", "interrupted") as started:
        started.wait_for_error("holding")
        started.process.send_signal(signal.SIGINT)
        started.wait_for_error("cancelling interrupted; Ctrl-C again exits at once")
        code, out, err = started.end()
    assert (code, json.loads(out)) == (130, {"quick": 1})
    assert "■ run: cancelled: Ctrl-C" in err
    assert json.loads(shell.run("runs", "--output", "json").stdout)[0]["state"] == "cancelled"


def test_the_second_interrupt_exits_at_once(local_shell: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text("name: a\nsteps: [{id: late, action: end_late}]")
    with local_shell.start("run", str(flow), "--actions", "tools") as started:
        started.wait_for_error("waiting for the end")
        started.process.send_signal(signal.SIGINT)
        started.wait_for_error("stopping")
        started.process.send_signal(signal.SIGINT)
        assert started.end()[0] == 130


def test_an_action_that_never_ends_does_not_delay_the_exit(local_shell: Shell) -> None:
    done = local_shell.run("run", "flows/uncancellable.yaml", "--actions", "tools", STEPWAVE_CANCEL_GRACE="0.1")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"quick": 1})
    assert "destroyed" not in done.stderr


def test_a_timeout_cancels_the_run(shell: Shell) -> None:
    done = shell.run("run", "holding", "--timeout", "100ms")
    assert done.returncode == 130
    assert "its --timeout of 0.1 s has passed" in done.stderr


def test_a_detached_run_continues_after_the_command(shell: Shell) -> None:
    started = shell.run("run", "holding", "--detach")
    run_id = started.stdout.strip()
    assert started.stderr == f"see it: stepwave watch {run_id}\n"
    assert json.loads(shell.run("runs", "--output", "json", "--state", "running").stdout)[0]["run_id"] == run_id
    shell.run("cancel", run_id)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--detach", "--actions", "tools"),
        ("--detach", "--timeout", "1s"),
        ("--detach", "--output", "json"),
        ("--server", "127.0.0.1:1", "--actions", "tools"),
        ("--server", "nonsense"),
        ("--server", "example.org:443"),
        ("--input", "{"),
        ("--output", "xml"),
        ("--bogus",),
        ("--actions", "no_such_module"),
        ("--run-id", "not an id"),
    ],
)
def test_wrong_usage_exits_with_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell.run("run", "flows/greeting.yaml", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_an_invalid_choice_is_answered_with_the_choices(shell: Shell) -> None:
    done = shell.run("run", "flows/greeting.yaml", "--output", "xml")
    assert "Invalid value for '--output': 'xml' is not one of 'live'" in done.stderr


def test_every_problem_of_a_malformed_file_is_reported_with_its_place(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("name: a\nsteps:\n- id: b\n  acton: c\n  depends_on: d\n")
    done = Shell(shell.server, folder=tmp_path).run("run", "flow.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        'flow.yaml:4:3: unknown key "acton"; did you mean "action"?',
        'flow.yaml:5:15: steps[0].depends_on: expected a list of strings, got the string "d"',
        "actions and dependencies are checked once these problems are fixed",
    ]


def test_problems_that_the_server_finds_have_their_place_in_the_file(shell: Shell, tmp_path: Path) -> None:
    text = "name: a\nsteps:\n- {id: search, action: shout}\n- id: brief\n  action: shot\n  depends_on: [serach]\n"
    (tmp_path / "flow.yaml").write_text(text)
    done = Shell(shell.server, folder=tmp_path).run("run", "flow.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        'flow.yaml:5:11: steps[1].action: unknown action "shot"; did you mean "shout"?',
        'flow.yaml:6:16: steps[1].depends_on[0]: unknown step "serach"; did you mean "search"?',
        "start a server that has it: stepwave serve --actions MODULE",
    ]


def test_an_unknown_workflow_name_is_refused(shell: Shell) -> None:
    done = shell.run("run", "greting")
    assert (done.returncode, done.stderr) == (2, 'no workflow "greting" on this server; did you mean "greeting"?\n')


def test_without_a_server_the_error_names_what_to_do(local_shell: Shell) -> None:
    with socket.socket() as taken:  # bound but not listening: no server answers, and no other can take the port
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = local_shell.run("run", "flows/greeting.yaml", "--server", address)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"no server at {address}. Start one: stepwave serve --actions tools\n"
        "Or run without a server: stepwave run flows/greeting.yaml --actions MODULE\n"
    )


BUILT_IN_WORKFLOW = "name: built-in\nsteps: [{id: a, action: core.echo, input: 1}]\n"


def test_a_workflow_of_built_in_actions_gets_a_hint_at_local(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(BUILT_IN_WORKFLOW)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        local_shell = Shell(f"127.0.0.1:{taken.getsockname()[1]}", folder=tmp_path)
        assert local_shell.run("run", "flow.yaml").stderr.endswith(
            "Or run without a server: stepwave run flow.yaml --local\n"
        )
        assert "Or run without a server" not in local_shell.run("run", "flow").stderr, "only a server could have it"


def test_a_workflow_of_built_in_actions_runs_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(BUILT_IN_WORKFLOW)
    done = Shell(folder=tmp_path).run("run", "flow.yaml", "--local", "--output", "result")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"a": 1})
    assert Shell(folder=tmp_path).run("plan", "flow.yaml", "--local").returncode == 0


@pytest.mark.parametrize("option", [("--server", "127.0.0.1:1"), ("--detach",)])
def test_local_does_not_work_with_options_that_need_a_server(local_shell: Shell, option: tuple[str, ...]) -> None:
    done = local_shell.run("run", "flows/greeting.yaml", "--local", *option)
    assert (done.returncode, done.stdout) == (2, "")
    assert "server" in done.stderr


def test_a_run_that_is_lost_with_its_server_exits_with_3() -> None:
    with (
        serving("--actions", "tools", "--workflows", "flows") as (address, server),
        Shell(address).start("run", "holding", "--run-id", "forgotten") as started,
    ):
        started.wait_for_error("holding")
        server.process.kill()
        assert started.wait_for_error("lost") == f"lost the server at {address}; reconnecting\n"
        with Shell().start("serve", "--listen", address) as again:
            again.wait_for_output(":")
            code, out, err = started.end()
    assert (code, out) == (3, "")
    assert err.endswith(f"run 'forgotten' is lost: the server at {address} does not know it any more\n")


def test_a_closed_pipe_is_no_error(shell: Shell) -> None:
    with shell.start("run", "holding", "--output", "json", "--run-id", "unread") as started:
        started.wait_for_output("step_started")
        assert started.process.stdout is not None
        started.process.stdout.close()
        shell.run("cancel", "unread")
        started.process.wait()
        assert started.process.stderr is not None
        assert started.process.stderr.read() == ""


# A reader that closes standard output early, as `| head` does.

LONG_WORKFLOW = "name: long\nsteps:\n- {id: s0, action: core.echo}\n" + "".join(
    f"- {{id: s{number}, action: core.sleep, input: {{seconds: 0.2}}, depends_on: [s{number - 1}]}}\n"
    for number in range(1, 100)
)


def test_an_early_closed_pipe_ends_the_command_and_cancels_its_run(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(LONG_WORKFLOW)
    with shell.start("run", str(tmp_path / "flow.yaml"), "--run-id", "left", "--output", "json") as started:
        started.wait_for_output("step_started")  # more events follow
        assert started.process.stdout is not None
        started.process.stdout.close()
        code = started.process.wait(timeout=30)
        assert started.process.stderr is not None
        assert (code, started.process.stderr.read()) == (1, "")
    shell.run("watch", "left")
    assert json.loads(shell.run("result", "left", "--output", "json").stdout)["state"] == "cancelled"


def test_an_early_closed_pipe_ends_a_watch_with_the_next_event(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(LONG_WORKFLOW)
    shell.run("run", str(tmp_path / "flow.yaml"), "--run-id", "watched", "--detach")
    with shell.start("watch", "watched", "--output", "json") as started:
        started.wait_for_output("step_started")
        assert started.process.stdout is not None
        started.process.stdout.close()
        shell.run("cancel", "watched")
        assert started.process.wait(timeout=30) == 1


def test_a_run_id_that_exists_shows_that_run_and_says_so(shell: Shell) -> None:
    first = shell.run(*GREETING, "--run-id", "greeting-twice")
    again = shell.run(*GREETING, "--run-id", "greeting-twice")
    message = "greeting-twice exists already (succeeded): it is shown, and nothing is started\n"
    assert message not in first.stderr
    assert again.stderr.startswith(message)
    assert again.stdout == first.stdout
