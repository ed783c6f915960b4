"""A server with a journal on disk: the journal's place, restarts, and backups."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from integration.cli.shell import RunningCommand, Shell, serving

SERVE = ("serve", "--listen", "127.0.0.1:0")

Serving: TypeAlias = Callable[..., AbstractContextManager[tuple[Shell, RunningCommand]]]


@pytest.fixture
def durable(tmp_path: Path) -> Serving:
    """Return a function that runs a server on this test's journal, with or without the actions in `tools`."""

    @contextmanager
    def serve(*arguments: str, tools: bool = True) -> Iterator[tuple[Shell, RunningCommand]]:
        options = ["--journal", f"sqlite:{tmp_path}/journal.db", "--drain-timeout", "0", *arguments]
        with serving(*options, *(["--actions", "tools"] if tools else [])) as (address, server):
            yield Shell(address), server
            server.process.send_signal(signal.SIGTERM)
            server.process.wait()

    return serve


def hold(shell: Shell) -> None:
    """Start the run "held", and wait until its step runs."""
    shell.run("run", "flows/holding.yaml", "--detach", "--run-id", "held")
    with shell.start("watch", "held") as watch:
        watch.wait_for_error("holding")


def listed_run(shell: Shell, run_id: str) -> dict[str, object]:
    """Return a run from the list of runs."""
    found = json.loads(shell.run("runs", "--output", "json").stdout)
    (run,) = [run for run in found if run["run_id"] == run_id]
    assert isinstance(run, dict)
    return run


def test_the_journal_and_the_resumed_runs_are_logged(durable: Serving, tmp_path: Path) -> None:
    with durable() as (shell, server):
        assert server.wait_for_error("journal: ").endswith(f"journal: {tmp_path}/journal.db\n")
        hold(shell)
    with durable() as (_, server):
        server.wait_for_error("journal: ")
        assert "resumed 1 run" in server.wait_for_error("resumed")


def test_ended_runs_are_found_after_a_restart(durable: Serving) -> None:
    with durable() as (shell, _):
        shell.run("run", "flows/labelled.yaml", "--run-id", "kept")
    with durable() as (shell, _):
        done = shell.run("result", "kept")
        assert (done.returncode, json.loads(done.stdout)) == (0, {"quick": 1})


def test_an_attempt_that_a_restart_interrupted_is_shown_retrying(durable: Serving) -> None:
    with durable() as (shell, _):
        hold(shell)
    with durable() as (shell, _), shell.start("watch", "held") as watch:
        line = watch.wait_for_error("retrying")
        assert "attempt 1 failed: the server was shut down while the attempt ran" in line
        assert "long" in watch.wait_for_error("attempt 2")


def test_a_run_with_a_missing_action_is_shown_waiting(durable: Serving) -> None:
    with durable() as (shell, _):
        hold(shell)
    with durable(tools=False) as (shell, server):
        assert "run held waits for a server with the action hold" in server.wait_for_error("waits")
        with shell.start("watch", "held") as watch:
            assert watch.wait_for_error("waiting").endswith("for a server with the action hold\n")
        assert listed_run(shell, "held")["missing_actions"] == ["hold"]
        line = shell.run("runs").stdout.splitlines()[1]
        assert line.endswith("waits for a server with the action hold")
        done = shell.run("result", "held")
        expected = "held waits for a server with the action hold; see it: stepwave watch held\n"
        assert (done.returncode, done.stderr) == (2, expected)


def test_a_paused_run_is_shown_as_paused(durable: Serving) -> None:
    with durable() as (shell, _):
        hold(shell)
    with durable("--recover", "pause") as (shell, _):
        assert shell.run("runs").stdout.splitlines()[1].split()[2] == "paused"
        assert shell.run("result", "held").stderr == "held is paused: its server does not continue it\n"
        with shell.start("watch", "held") as watch:
            watch.wait_for_error("paused: its server does not continue it")


def test_a_paused_run_can_be_cancelled(durable: Serving) -> None:
    with durable() as (shell, _):
        hold(shell)
    with durable("--recover", "pause") as (shell, _):
        assert "already" not in shell.run("cancel", "held").stderr
        assert shell.run("watch", "held").returncode == 130


def test_with_recover_fail_unfinished_runs_fail(durable: Serving) -> None:
    with durable() as (shell, _):
        hold(shell)
    with durable("--recover", "fail") as (shell, _):
        assert shell.run("watch", "held").returncode == 1


def test_by_default_the_journal_is_in_the_users_data_folder(tmp_path: Path) -> None:
    with Shell().start(*SERVE, XDG_DATA_HOME=str(tmp_path), STEPWAVE_JOURNAL="") as server:
        server.wait_for_output(":")
        assert server.wait_for_error("journal: ").endswith(f"{tmp_path}/stepwave/journal.db\n")
    assert (tmp_path / "stepwave" / "journal.db").is_file()


def test_the_journal_option_overrides_the_environment(tmp_path: Path) -> None:
    named = f"sqlite:{tmp_path}/named.db"
    with Shell().start(*SERVE, "--journal", f"sqlite:{tmp_path}/option.db", STEPWAVE_JOURNAL=named) as server:
        assert server.wait_for_error("journal: ").endswith("option.db\n")
    with Shell().start(*SERVE, STEPWAVE_JOURNAL=named) as server:
        assert server.wait_for_error("journal: ").endswith("named.db\n")


def test_a_journal_in_memory_writes_no_files(tmp_path: Path) -> None:
    with Shell().start(*SERVE, XDG_DATA_HOME=str(tmp_path)) as server:
        server.wait_for_output(":")
        assert list(tmp_path.iterdir()) == []


def test_a_backup_of_a_running_server_can_be_served(durable: Serving, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with durable() as (shell, _):
        shell.run("run", "flows/labelled.yaml", "--run-id", "kept")
        done = shell.run("backup", str(copy), "--journal", f"sqlite:{tmp_path}/journal.db")
    assert (done.returncode, done.stdout) == (0, "")
    size = f"{copy.stat().st_size:,} bytes"
    assert done.stderr == f"wrote {copy}, {size}: a copy of {tmp_path}/journal.db\n"
    with serving("--journal", f"sqlite:{copy}") as (address, _):
        assert Shell(address).run("result", "kept").returncode == 0


def test_a_backup_overwrites_a_file_only_with_force(durable: Serving, tmp_path: Path, local_shell: Shell) -> None:
    with durable():
        pass
    copy = tmp_path / "copy.db"
    copy.write_text("mine")
    arguments = ("backup", str(copy), "--journal", f"sqlite:{tmp_path}/journal.db")
    done = local_shell.run(*arguments)
    assert (done.returncode, done.stderr) == (2, f"{copy} already exists; overwrite it with --force\n")
    assert copy.read_text() == "mine"
    assert local_shell.run(*arguments, "--force").returncode == 0
    assert copy.read_bytes() != b"mine"


def test_a_backup_never_overwrites_the_journal_itself(durable: Serving, tmp_path: Path, local_shell: Shell) -> None:
    with durable():
        pass
    journal = f"{tmp_path}/journal.db"
    done = local_shell.run("backup", journal, "--journal", f"sqlite:{journal}", "--force")
    assert (done.returncode, done.stderr) == (2, f"{journal} is the journal itself\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("copy.db",), "the journal is in memory: only its server can read it\n"),
        (("copy.db", "--journal", "sqlite:/nowhere/journal.db"), "there is no journal at /nowhere/journal.db\n"),
        (("copy.db", "--journal", "sqlite:flows"), "flows is a folder; name the journal's file, as in sqlite:"),
        (("copy.db", "--journal", "postgres"), "--journal: unknown journal 'postgres'"),
    ],
)
def test_a_journal_that_cannot_be_copied_is_refused(
    local_shell: Shell, arguments: tuple[str, ...], message: str
) -> None:
    done = local_shell.run("backup", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
