"""`stepwave compose`: steps that run while a planner still writes them."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.cli.shell import RunningCommand, Shell

HELLO = '{"id": "hello", "action": "shout", "input": {"text": {"$input": "/name"}}}\n'
AGAIN = '{"id": "again", "action": "shout", "input": {"text": {"$from": "hello"}}, "depends_on": ["later"]}\n'
LATER = '{"id": "later", "action": "shout", "input": {"text": "x"}}\n'
GIVEN = ("--input", '{"name": "ann"}')
LOCAL = ("--actions", "tools")


@contextmanager
def composing(shell: Shell, fifo: Path, *arguments: str) -> Iterator[tuple[RunningCommand, int]]:
    """Compose what is written to a FIFO. Yield the command and the FIFO's descriptor."""
    os.mkfifo(fifo)
    with shell.start("compose", str(fifo), *arguments) as command:
        writer = os.open(fifo, os.O_WRONLY)
        try:
            yield command, writer
        finally:
            os.close(writer)


@pytest.mark.parametrize("arguments", [LOCAL, ()])
def test_standard_input_is_a_plan_and_its_end_seals_the_run(shell: Shell, arguments: tuple[str, ...]) -> None:
    chosen = Shell() if arguments else shell
    done = chosen.run("compose", "-", *GIVEN, *arguments, stdin=HELLO + AGAIN + LATER.strip())
    assert (done.returncode, json.loads(done.stdout)) == (0, {"again": "ANN"})
    lines = [line.split(" s  ", 1)[1].split() for line in done.stderr.splitlines()]
    assert lines[0][3:] == ["plan,", "0", "steps,", "open"]
    assert ["run", "sealed"] in lines
    assert lines[-1][:2] == ["run", "succeeded"]


def test_a_file_is_a_plan_too(local_shell: Shell, tmp_path: Path) -> None:
    plan = tmp_path / "plan.jsonl"
    plan.write_text(f"```json\n{HELLO}\n```\n")
    done = local_shell.run("compose", str(plan), *GIVEN, *LOCAL, "--raw", "--output", "result")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ANN\n", "")


def test_a_step_runs_while_the_plan_is_still_written(shell: Shell, tmp_path: Path) -> None:
    with composing(shell, tmp_path / "plan", *GIVEN) as (command, writer):
        os.write(writer, HELLO.encode() + LATER[:20].encode())
        command.wait_for_error("hello   succeeded")
        os.write(writer, LATER[20:].encode())
        command.wait_for_error("later   succeeded")


def test_a_run_ends_with_the_end_of_the_plan(shell: Shell, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plan")
    with shell.start("compose", str(tmp_path / "plan"), *GIVEN) as command:
        with (tmp_path / "plan").open("w") as writer:
            writer.write(HELLO)
        code, out, _ = command.end()
    assert (code, json.loads(out)) == (0, {"hello": "ANN"})


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (HELLO + LATER[:22], "-:2:17: unterminated string"),
        (HELLO + "Done!\n", "-:2:1: expected a value, got 'Done!'"),
        (HELLO + '{"id": "b", "action": "shuot"}\n', '-:2:1: action: unknown action "shuot"; did you mean "shout"?'),
        (HELLO + AGAIN, 'seal: step "again" depends on "later", which was never added'),
    ],
)
def test_a_plan_with_an_error_cancels_its_run_and_exits_with_2(shell: Shell, plan: str, problem: str) -> None:
    done = shell.run("compose", "-", *GIVEN, stdin=plan)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].removeprefix("stepwave: ") == problem
    assert "cancelled: its plan has an error" in done.stderr


def test_a_plan_that_is_not_utf_8_is_an_error(local_shell: Shell) -> None:
    done = local_shell.pipe(b'{"id": "\xff"}\n', "compose", "-", *LOCAL)
    assert (done.returncode, done.stderr.decode().splitlines()[-1]) == (2, "standard input is not UTF-8")


def test_a_plan_that_cannot_be_read_is_an_error(local_shell: Shell) -> None:
    done = local_shell.run("compose", "nowhere.jsonl", *LOCAL)
    assert done.returncode == 2
    assert "cannot read nowhere.jsonl: No such file or directory" in done.stderr


def test_a_failed_step_ends_the_command_although_the_planner_still_writes(shell: Shell, tmp_path: Path) -> None:
    with composing(shell, tmp_path / "plan") as (command, writer):
        os.write(writer, b'{"id": "a", "action": "broken"}\n')
        code, _, err = command.end()
    assert code == 1
    assert "a: LookupError: no such thing" in err


def test_with_the_policy_continue_other_steps_run_on(shell: Shell) -> None:
    plan = '{"id": "a", "action": "broken"}\n' + LATER
    done = shell.run("compose", "-", "--policy", "continue", "--output", "result", stdin=plan)
    assert (done.returncode, json.loads(done.stdout)) == (1, {"later": "X"})


def test_an_interrupt_cancels_the_run(shell: Shell, tmp_path: Path) -> None:
    with composing(shell, tmp_path / "plan", "--run-id", "compose-interrupted") as (command, writer):
        os.write(writer, b'{"id": "a", "action": "hold"}\n')
        command.wait_for_error("holding")
        command.process.send_signal(signal.SIGINT)
        code, _, err = command.end()
    assert code == 130
    assert "cancelled: Ctrl-C" in err
    assert "its plan has an error" not in err
    assert shell.run("result", "compose-interrupted", "--output", "json").returncode == 130


def test_a_plan_that_stays_idle_fails(shell: Shell, tmp_path: Path) -> None:
    with composing(shell, tmp_path / "plan", "--idle-timeout", "100ms") as (command, _):
        code, _, err = command.end()
    assert code == 1
    assert "no steps were added for 0.1 s, and the run was never sealed" in err


def test_a_run_may_be_composed_again_by_its_id(shell: Shell) -> None:
    command = ("compose", "-", *GIVEN, "--run-id", "compose-again", "--name", "again")
    assert shell.run(*command, stdin=HELLO).returncode == 0
    done = shell.run(*command, stdin=HELLO)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"hello": "ANN"})
    assert "compose-again exists already" in done.stderr


def test_options_that_exclude_each_other_are_refused(local_shell: Shell) -> None:
    assert local_shell.run("compose", "-", "--input", "@-").returncode == 2
    assert local_shell.run("compose", "-", "--policy", "maybe").returncode == 2
