"""What actions log: shown by `run` and `watch` as it comes, and by `stepwave logs` later."""

import json
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from integration.cli.shell import Shell, on_terminal, serving

LOCAL = ("run", "flows/logging.yaml", "--actions", "tools")

_numbers = count()


@pytest.fixture
def logged(shell: Shell) -> str:
    """Return the id of a run whose actions have logged. The server logs errors only."""
    run_id = f"logged-{next(_numbers)}-words"
    assert shell.run("run", "logging", "--run-id", run_id, "--output", "result").returncode == 0
    return run_id


@pytest.fixture
def held(shell: Shell) -> Iterator[str]:
    """Return the id of a run whose action has logged and waits."""
    run_id = f"held-{next(_numbers)}"
    with shell.start("run", "log_and_hold", "--run-id", run_id, "--output", "text") as run:
        run.wait_for_error("holding")
        yield run_id
        shell.run("cancel", run_id)
        run.end()


def run_file(tmp_path: Path, action: str) -> str:
    flow = tmp_path / "flow.yaml"
    flow.write_text(f"name: flow\nsteps: [{{id: s, action: {action}}}]")
    return str(flow)


# `stepwave run`, in this process.


def test_log_messages_are_lines_among_the_events_and_are_shown_once(local_shell: Shell) -> None:
    done = local_shell.run(*LOCAL)
    lines = [line.split(" s  ", 1)[-1] for line in done.stderr.splitlines()]
    start = lines.index("words   started    log_words")
    assert lines[start + 1 : start + 4] == [
        "words   info       hello from words",
        "words   warning    careful:",
        "    second line [31m",
    ]
    assert lines[start + 4].startswith("words   succeeded")
    assert "error   error      failed" in lines
    assert "    ValueError: substring not found" in lines
    for text in ("hello", "careful", "failed", "Traceback"):
        assert done.stderr.count(text) == 1
    assert "a detail" not in done.stderr


def test_as_json_log_messages_are_events(local_shell: Shell) -> None:
    done = local_shell.run(*LOCAL, "--output", "json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    found = [(event["level"], event["logger"]) for event in events if event["kind"] == "step_log"]
    assert found == [("info", "stepwave.action"), ("warning", "tools"), ("error", "tools")]
    assert done.stderr == ""


def test_as_result_no_log_messages_are_shown(local_shell: Shell) -> None:
    done = local_shell.run(*LOCAL, "--output", "result")
    assert (json.loads(done.stdout), done.stderr) == ({"error": None}, "")


def test_warnings_that_no_attempt_takes_still_go_to_standard_error(local_shell: Shell, tmp_path: Path) -> None:
    flow = run_file(tmp_path, "log_on_own_thread")
    assert local_shell.run("run", flow, "--actions", "tools", "--output", "result").stderr == "on a thread of its own\n"


def test_a_module_that_configures_logging_has_its_messages_shown_once(local_shell: Shell, tmp_path: Path) -> None:
    done = local_shell.run("run", run_file(tmp_path, "log_all"), "--actions", "configured_tools")
    lines = [line.split(" s  ", 1)[-1] for line in done.stderr.splitlines()]
    assert "BASIC while the module is imported" in lines
    assert [line for line in lines if "by the" in line or "by another" in line] == [
        "s       debug      by the context",
        "s       info       by the own logger",
        "s       info       by another logger",
    ]


def test_on_a_terminal_log_messages_are_printed_above_the_frame(local_shell: Shell) -> None:
    _, _, lines = on_terminal(local_shell, *LOCAL, columns=100)
    found = [index for index, line in enumerate(lines) if line == "info      words  hello from words"]
    assert len(found) == 1
    frames = [index for index, line in enumerate(lines) if line.startswith("wave 0")]
    assert found[0] < frames[-1]


# `stepwave watch` and `run` with a server.


def test_a_run_on_a_server_shows_what_its_actions_log(shell: Shell) -> None:
    done = shell.run("run", "logging")
    assert "  words   info       hello from words\n" in done.stderr


def test_a_watch_shows_what_is_logged_from_now_on(shell: Shell, held: str) -> None:
    with shell.start("watch", held) as watch:
        watch.wait_for_error("started    log_and_hold")
        shell.run("cancel", held)
        _, _, err = watch.end()
    assert "  long    error      let go\n" in err


# `stepwave logs`.


def test_the_kept_messages_are_printed_with_time_level_and_step(shell: Shell, logged: str) -> None:
    done = shell.run("logs", logged.removesuffix("-words"))
    lines = done.stdout.splitlines()
    assert [line[25:] for line in lines[:2]] == ["info      words  hello from words", "error     error  failed"]
    assert lines[2] == "    Traceback (most recent call last):"
    assert lines[-1] == "    ValueError: substring not found"
    assert (done.returncode, done.stderr, "\x1b" in done.stdout) == (0, "", False)


def test_messages_are_filtered_by_step_and_level(shell: Shell, logged: str) -> None:
    assert shell.run("logs", logged, "--step", "words").stdout.count("\n") == 1
    assert "hello" not in shell.run("logs", logged, "--level", "warning").stdout
    none = shell.run("logs", logged, "--step", "words", "--level", "error")
    assert (none.returncode, none.stdout) == (0, "")
    assert none.stderr == "of 2 messages kept, none matches --step and --level\n"


def test_as_json_each_message_is_a_line(shell: Shell, logged: str) -> None:
    done = shell.run("logs", logged, "--output", "json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(event["kind"], event["index"], event["step_id"]) for event in found] == [
        ("step_log", 1, "words"),
        ("step_log", 2, "error"),
    ]


def test_an_unknown_step_is_an_error_with_a_similar_one(shell: Shell, logged: str) -> None:
    done = shell.run("logs", logged, "--step", "wrds")
    assert (done.returncode, done.stderr) == (2, f'{logged} has no step "wrds"; did you mean "words"?\n')


def test_an_unknown_level_is_an_error(shell: Shell, logged: str) -> None:
    done = shell.run("logs", logged, "--level", "loud")
    assert done.returncode == 2
    assert "'loud' is not one of 'debug', 'info'" in done.stderr


def test_a_run_without_messages_says_why_that_can_be(shell: Shell) -> None:
    shell.run("run", "greeting", "--run-id", "said-nothing", "--input", '{"name": "ann"}')
    done = shell.run("logs", "said-nothing")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "nothing is kept of what said-nothing logged: its actions logged nothing, "
        "the server was restarted since, or messages of newer runs took their place\n"
    )


def test_following_shows_kept_messages_first_and_new_ones_until_the_run_ends(shell: Shell, held: str) -> None:
    with shell.start("logs", held, "--follow") as following:
        assert following.wait_for_output("holding").split()[2:] == ["warning", "long", "holding"]
        shell.run("cancel", held)
        code, out, err = following.end()
    assert (code, err) == (0, "")
    assert [line.split()[2:] for line in out.splitlines()] == [["error", "long", "let", "go"]]


def test_an_interrupt_ends_following(shell: Shell, held: str) -> None:
    with shell.start("logs", held, "-f") as following:
        following.wait_for_output("holding")
        following.process.send_signal(signal.SIGINT)
        assert following.end() == (0, "", "")
    assert "running" in shell.run("runs", "--state", "running").stdout


def test_following_an_ended_run_prints_its_messages_and_ends(shell: Shell, logged: str) -> None:
    assert shell.run("logs", logged, "-f").stdout.count("\n") > 2


def test_following_continues_with_a_restarted_server_whose_messages_count_from_one(tmp_path: Path) -> None:
    journal = ("--journal", f"sqlite:{tmp_path / 'journal.db'}", "--actions", "tools")
    flow = run_file(tmp_path, "log_on_signal")
    given = json.dumps({"file": str(tmp_path / "signal")})
    with serving(*journal) as (address, first):
        shell = Shell(address)
        shell.run("run", flow, "--detach", "--run-id", "held", "--input", given)
        with shell.start("logs", "held", "-f") as following:
            following.wait_for_output("waiting")
            (tmp_path / "signal").touch()
            following.wait_for_output("signalled")  # by the stream
            first.process.kill()
            first.process.wait()
            with Shell().start("serve", "--listen", address, *journal) as second:
                second.wait_for_output(":")
                assert following.wait_for_output("waiting")[25:] == "info      s (attempt 2)  waiting\n"
                following.wait_for_output("signalled")
                shell.run("cancel", "held")
                code, out, _ = following.end()
    assert (code, out[25:]) == (0, "info      s (attempt 2)  let go\n")
