"""`stepwave init`: the project works as printed, and no file is overwritten."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.cli.shell import Shell, serving

FILES = ["actions.py", "flows/research.yaml", "test_flow.py", "client.py"]
TEXT = "You asked about fjords before. In short: fjords are deep, and fjords are cold. "


def run_line(line: str, folder: Path) -> str:
    """Run a command line in a folder, and return its standard output."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-ec", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a new project."""
    folder = tmp_path / "research"
    assert Shell(folder=tmp_path).run("init", "research").returncode == 0
    return folder


def test_the_printed_commands_work(tmp_path: Path) -> None:
    done = Shell(folder=tmp_path).run("init", "new/research")
    *wrote, heading, run, test, client = done.stdout.splitlines()
    assert wrote == [f"wrote new/research/{name}" for name in FILES]
    assert (heading, done.stderr, done.returncode) == ("next, in new/research:", "", 0)
    folder = tmp_path / "new" / "research"
    assert run == "  stepwave run flows/research.yaml --actions actions"
    assert TEXT in run_line(run, folder)
    assert test == "  pip install pytest && pytest"
    assert "2 passed" in run_line(test, folder)
    assert client == "  python client.py"
    assert run_line(client, folder).startswith(f"{TEXT}\nsucceeded after ")


def test_the_client_runs_the_workflow_on_a_server(project: Path) -> None:
    with serving("--actions", "actions", "--workflows", "flows", folder=project) as (address, _):
        answer = run_line(f"python client.py --server {address} --topic lakes", project)
        assert "lakes are deep" in answer
        listed = Shell(address).run("runs", "--workflow", "research", "--output", "json").stdout
    assert '"state": "succeeded"' in listed


def test_a_file_that_is_not_a_workflow_does_not_stop_the_client(project: Path) -> None:
    (project / "run.json").write_text("{}")
    assert run_line("python client.py", project).startswith(TEXT)


def test_without_a_folder_it_writes_to_the_working_directory(tmp_path: Path) -> None:
    done = Shell(folder=tmp_path).run("init")
    assert done.stdout.splitlines()[:5] == [*(f"wrote {name}" for name in FILES), "next:"]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == sorted(FILES)


def test_an_existing_file_is_not_overwritten_and_nothing_else_is_written(tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text("mine")
    done = Shell(folder=tmp_path).run("init", ".")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "client.py already exists; nothing written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["client.py"]
    assert (tmp_path / "client.py").read_text() == "mine"


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    done = Shell(folder=tmp_path).run("init", "taken")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cannot create taken: File exists\n"
