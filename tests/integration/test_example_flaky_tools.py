"""The example of flaky tools: a trip is put together although the service fails."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "client" / "examples" / "flaky_tools"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, EXAMPLE / "trip.py"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={**os.environ, "PYTHONWARNINGS": "error"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_trip_is_put_together(done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "offer": "A trip to Oslo. flights: 240 €, hotels: 310 €, trains: 95 €, cars: 130 €, insurance (estimate): 25 €."
    }


def test_the_service_gave_every_kind_of_failure(done: "subprocess.CompletedProcess[str]") -> None:
    expected = "the service: 4 × answered, 2 × broken, 2 × busy, 1 × drop, 1 × hang, 1 × unavailable"
    assert done.stderr.splitlines()[-1] == expected


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ("flights", "in 3 attempts"),
        ("hotels", "in 2 attempts"),
        ("trains", "in 2 attempts"),
        ("cars", "in 2 attempts"),
        ("insurance", "in 2 attempts, by its fallback: "),
    ],
)
def test_each_quote_takes_the_expected_attempts(done: "subprocess.CompletedProcess[str]", step: str, text: str) -> None:
    (line,) = [line for line in done.stderr.splitlines() if f" {step} " in line and " succeeded " in line]
    assert text in line


def test_failures_name_the_line_of_the_action_and_not_of_the_library(done: "subprocess.CompletedProcess[str]") -> None:
    expected = [line for line in done.stderr.splitlines() if " retrying " in line and "HTTPStatusError" in line]
    assert expected
    assert all(re.search(r"failed: HTTPStatusError.* \(\S*quotes\.py:[0-9]+\)", line) for line in expected)
