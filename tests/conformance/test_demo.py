"""`make demo-temporal`: a server and a host are killed in mid-run, and nothing is lost. It leaves no process behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

DEMO = Path(__file__).parents[2] / "client" / "examples" / "briefing" / "demo_temporal.py"


@contextmanager
def _demo(folder: Path) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(
        [sys.executable, DEMO],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _pids(output: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"process (\d+)", output)]


def test_the_run_finishes_without_the_killed_server_and_host(tmp_path: Path) -> None:
    with _demo(tmp_path) as process:
        out, err = process.communicate(timeout=110)
    assert process.returncode == 0, out + err
    assert "Weather: rain from noon, 11 to 16 °C; take an umbrella." in out
    assert re.search(r"^killed in mid-run: server [12], host [12]$", out, re.MULTILINE)
    assert re.search(r"^the run: succeeded, attempts: .*calendar 2", out, re.MULTILINE)
    assert re.search(r"^events: 1 to [0-9]+, without a gap$", out, re.MULTILINE)
    assert "reconnected" in err
    assert len(_pids(out)) == 5
    assert not any(map(psutil.pid_exists, _pids(out)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_that_it_has_started(tmp_path: Path, number: signal.Signals) -> None:
    with _demo(tmp_path) as process:
        assert process.stdout is not None
        seen = ""
        while "host 2" not in seen:
            line = process.stdout.readline()
            assert line, process.communicate()
            seen += line
        process.send_signal(number)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert not any(map(psutil.pid_exists, _pids(seen)))
