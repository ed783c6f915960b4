"""`--follow`: the text of one step on standard output as it comes, and nothing else. `--raw`: outputs as texts."""

import json
import os
import signal
from pathlib import Path

import pytest

from integration.cli.shell import RunningCommand, Shell


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Return a FIFO that the action `tell` waits for."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def story(fifo: Path, *steps: str, fails: bool = False, retry: str = "{max_attempts: 2, initial_backoff: 1ms}") -> str:
    """Write a workflow whose step `story` tells a story, and return its path."""
    step = json.dumps({"id": "story", "action": "tell", "input": {"fifo": str(fifo), "fails": fails}})
    lines = ["name: story", f"retry: {retry}", "steps:", f"- {step}", *(f"- {one}" for one in steps)]
    file = fifo.parent / "story.yaml"
    file.write_text("\n".join(lines))
    return str(file)


def read(started: RunningCommand, text: str) -> None:
    """Read a text without a line break from standard output."""
    assert started.process.stdout is not None
    assert started.process.stdout.read(len(text)) == text


def release(fifo: Path) -> None:
    fifo.write_bytes(b"")


@pytest.mark.parametrize("actions", [(), ("--actions", "tools")], ids=["server", "in-process"])
def test_chunks_are_written_as_they_come_and_nothing_else(
    shell: Shell, local_shell: Shell, fifo: Path, actions: tuple[str, ...]
) -> None:
    flow = story(fifo, "{id: after, action: core.echo, input: 1, depends_on: [story]}")
    with (local_shell if actions else shell).start("run", flow, "--follow", "story", *actions) as started:
        read(started, "Once ")
        release(fifo)
        assert started.end() == (0, "upon a time", "")


def test_a_new_attempt_begins_the_text_on_a_new_line_with_a_message(shell: Shell, fifo: Path) -> None:
    with shell.start("run", story(fifo, fails=True), "--follow", "story") as started:
        read(started, "Once ")
        release(fifo)
        code, out, err = started.end()
    assert (code, out) == (0, "\nOnce upon a time")
    assert err == "story: the text begins anew; everything before is void\n"


def test_a_failure_is_written_to_standard_error(shell: Shell, fifo: Path) -> None:
    with shell.start("run", story(fifo, fails=True, retry="{max_attempts: 1}"), "--follow", "story") as started:
        read(started, "Once ")
        release(fifo)
        code, out, err = started.end()
    assert (code, out) == (1, "")
    assert err.startswith("✗ story: the pen broke\n    at ")


def test_a_skipped_step_is_explained(shell: Shell) -> None:
    done = shell.run("run", "failing", "--follow", "after")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("after: skipped: needs broken\n")


def test_an_interrupt_cancels_the_followed_run(shell: Shell, fifo: Path) -> None:
    flow = story(fifo, "{id: last, action: hold, depends_on: [story]}")
    with shell.start("run", flow, "--follow", "story", "--run-id", "followed") as started:
        read(started, "Once ")
        started.process.send_signal(signal.SIGINT)
        release(fifo)
        code, _, err = started.end()
    assert code == 130
    assert err.splitlines()[:2] == [
        "cancelling followed; Ctrl-C again exits at once",
        "■ run: cancelled: Ctrl-C",
    ]


def test_an_early_closed_pipe_ends_the_command_and_cancels_the_followed_run(shell: Shell, fifo: Path) -> None:
    flow = story(fifo, "{id: last, action: hold, depends_on: [story]}")
    with shell.start("run", flow, "--follow", "story", "--run-id", "unread-text") as started:
        read(started, "Once ")
        assert started.process.stdout is not None
        started.process.stdout.close()
        release(fifo)
        code = started.process.wait(timeout=30)
        assert started.process.stderr is not None
        assert (code, started.process.stderr.read()) == (1, "")
    shell.run("watch", "unread-text")
    assert json.loads(shell.run("result", "unread-text", "--output", "json").stdout)["state"] == "cancelled"


def test_a_watch_follows_a_step_and_an_ended_one_too(shell: Shell, fifo: Path) -> None:
    shell.run("run", story(fifo), "--detach", "--run-id", "told")
    with shell.start("watch", "told", "--follow", "story") as started:
        read(started, "Once ")
        release(fifo)
        assert started.end() == (0, "upon a time", "")
    done = shell.run("watch", "told", "--follow", "story")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Once upon a time", "")


def test_a_failed_run_keeps_its_exit_code_in_a_watch(shell: Shell) -> None:
    shell.run("run", "failing", "--run-id", "watched-step")
    done = shell.run("watch", "watched-step", "--follow", "broken")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("✗ broken: LookupError: no such thing\n")


def test_an_unknown_step_of_a_file_is_refused_before_the_run_starts(shell: Shell) -> None:
    done = shell.run("run", "flows/greeting.yaml", "--follow", "helo", "--run-id", "never-started")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the run has no step 'helo'; did you mean 'hello'?\n"
    assert "no run's id begins with" in shell.run("result", "never-started").stderr


def test_an_unknown_step_of_a_run_is_refused(shell: Shell) -> None:
    shell.run("run", "greeting", "--input", '{"name": "ann"}', "--run-id", "greeted")
    for command in (("run", "greeting"), ("watch", "greeted"), ("rerun", "greeted")):
        done = shell.run(*command, "--follow", "helo")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "the run has no step 'helo'; did you mean 'hello'?\n"


def test_a_rerun_follows_a_step(shell: Shell) -> None:
    shell.run("run", "greeting", "--input", '{"name": "ann"}', "--run-id", "greeted-before")
    done = shell.run("rerun", "greeted-before", "--follow", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ANN", "")


@pytest.mark.parametrize(
    "options",
    [
        ("--follow", "hello", "--output", "text"),
        ("--follow", "hello", "--detach"),
        ("--follow", "hello", "--raw"),
        ("--raw", "--output", "json"),
        ("--raw", "--detach"),
    ],
)
def test_options_that_conflict_are_refused(shell: Shell, options: tuple[str, ...]) -> None:
    done = shell.run("run", "flows/greeting.yaml", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert options[0] in done.stderr


def test_raw_outputs_are_texts_in_the_order_of_the_steps(shell: Shell, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    steps = '[{id: poem, action: core.echo, input: "a\\n\\"é\\"\\n"}, {id: count, action: core.echo, input: [1]}]'
    flow.write_text(f"name: texts\nsteps: {steps}")
    expected = 'a\n"é"\n\n[\n  1\n]\n'
    for command in (("run", str(flow), "--run-id", "texts"), ("result", "texts"), ("watch", "texts")):
        done = shell.run(*command, "--raw")
        assert (done.returncode, done.stdout) == (0, expected)
    assert shell.run("rerun", "texts", "--raw", "--output", "result").stdout == expected


def test_a_raw_result_as_json_is_refused(shell: Shell) -> None:
    done = shell.run("result", "@last", "--raw", "--output", "json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--raw" in done.stderr
