"""The command of the benchmarks measures every contender on real servers and prints the results."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_command_prints_a_row_for_every_contender_and_the_memory() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--only", "wide", "--markdown"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=100)
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
