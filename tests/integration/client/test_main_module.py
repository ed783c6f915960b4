"""`python -m stepwave` is the command `stepwave`."""

import subprocess
import sys


def stepwave(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "stepwave", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_package_runs_as_the_command() -> None:
    done = stepwave("--version")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "stepwave", "")


def test_its_exit_codes_are_those_of_the_command() -> None:
    done = stepwave("runs", "--server", "http://127.0.0.1:50051")
    assert done.returncode == 2
    assert "without http://; write '127.0.0.1:50051'" in done.stderr
