"""`stepwave report`: where a run's time went, from a server or from a file."""

import json
from pathlib import Path

import pytest

from integration.cli.shell import Shell


@pytest.fixture
def reported(shell: Shell) -> str:
    """Return a prefix of the id of a run that succeeded."""
    shell.run("run", "greeting", "--run-id", "reported-1", "--input", '{"name": "ann"}')
    return "reported"


def test_a_run_is_found_by_a_prefix_of_its_id(shell: Shell, reported: str) -> None:
    done = shell.run("report", reported)
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[0].startswith("reported-1  greeting  succeeded  ")
    assert [line.split()[1] for line in lines if line.startswith("● ")] == ["hello", "twice"]
    assert "\x1b" not in done.stdout


def test_a_file_needs_no_server(shell: Shell, local_shell: Shell, reported: str, tmp_path: Path) -> None:
    shell.run("export", reported, "--to", str(tmp_path / "run.json"))
    from_file = local_shell.run("report", str(tmp_path / "run.json"))
    assert (from_file.returncode, from_file.stdout) == (0, shell.run("report", reported).stdout)


def test_the_report_of_a_failed_run_exits_with_0(shell: Shell) -> None:
    shell.run("run", "failing", "--run-id", "reported-failure")
    done = shell.run("report", "reported-failure", "--output", "json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["state"], report["steps"]["broken"]["state"]) == (0, "failed", "failed")


def test_an_unknown_run_exits_with_2(shell: Shell) -> None:
    done = shell.run("report", "nosuch")
    assert (done.returncode, done.stderr.split(";")[0]) == (2, 'no run\'s id begins with "nosuch"')
