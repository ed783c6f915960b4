"""The commands of the benchmarks measure real servers and print the results."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(300)

TIMEOUT = 250
"""Seconds that a quick measurement may take on a loaded machine."""


def test_the_command_prints_a_row_for_every_contender_and_the_memory() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--only", "wide", "--markdown"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| 1,000 steps wide")]
    assert [row[1] for row in rows] == [
        "prototype",
        "bare stream, unbatched",
        "bare stream",
        "Stepwave, raw stub",
        "Stepwave, SDK",
        "Stepwave, raw stub, journal on disk",
    ]
    for fact in (
        "while it ran 1,000 steps wide.",
        "per 100,000 kept events.",
        "A run of 2,000 steps, all but one",
        "A step more costs: a binding ",
    ):
        assert fact in done.stdout


def test_the_command_of_what_a_server_needs_prints_every_figure() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.footprint", "--quick"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    begins = [line.partition(":")[0] for line in done.stdout.splitlines()[1:]]
    assert begins == [
        "start",
        "idle",
        "a stream",
        "a step that waits for another",
        "an attempt in flight, in one run",
        "a run with one attempt in flight",
        "idle, journal on disk",
        "runs of one step, journal on disk, one client",
        "start",
        "a run with one attempt in flight, journal on disk",
        "start",
    ]
