"""The pytest plugin in a user's test session: the fixture for scripted runs, and the output of failing assertions."""

import subprocess
import sys

import pytest

TESTS = """
import pytest
from stepwave import Retry, Workflow, action
from stepwave.testing import Takes

@action
def weather(city):
    return f"rain in {city}"

flow = Workflow("flow")
flow.step("weather", weather, retry=Retry(max_attempts=3, initial_backoff=10, jitter=0))
flow.step("nap", "core.sleep", {"seconds": 300})

@pytest.fixture
def stepwave_actions():
    return [weather]

@pytest.mark.stepwave(step_timeout=200)
def test_actions_and_settings(stepwave_scripted):
    run = stepwave_scripted(flow, {}, {"city": "Oslo"}, check=False)
    assert run.result.steps["weather"].output == "rain in Oslo"
    assert run.elapsed.total_seconds() == 200

def test_a_script(stepwave_scripted):
    run = stepwave_scripted(flow, {"weather": [OSError(), Takes(5, "sun")]}, {"city": "Oslo"})
    assert run.outputs["weather"] == "sun"
    assert run.attempts("weather") == 2

def test_a_wrong_number(stepwave_scripted):
    run = stepwave_scripted(flow, {"weather": [OSError("gone"), "sun"]}, {"city": "Oslo"})
    assert run.attempts("weather") == 3

def test_a_script_that_runs_out(stepwave_scripted):
    stepwave_scripted(flow, {"weather": [OSError("gone")]}, {"city": "Oslo"})
"""
ATTEMPT = "attempt 1, weather, 0:00:00 to 0:00:00: action_error: OSError: gone; again from 0:00:10 on"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run the tests as a user does, and return the output of each failing test, and of all."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "test_flow.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error", "-q"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    parts = done.stdout.split("____ test_")
    return {"all": done.stdout + done.stderr} | {part.partition(" ")[0]: part for part in parts[1:]}


def test_the_fixture_has_the_actions_and_settings_of_the_server(outputs: dict[str, str]) -> None:
    assert "2 failed, 2 passed" in outputs["all"]


def test_a_wrong_number_of_attempts_shows_the_outcome_of_each(outputs: dict[str, str]) -> None:
    output = outputs["a_wrong_number"]
    assert "assert 2 == 3" in output
    assert "step 'weather': succeeded, 2 attempts" in output
    assert ATTEMPT in output


def test_a_script_that_runs_out_fails_at_the_line_of_the_test(outputs: dict[str, str]) -> None:
    output = outputs["a_script_that_runs_out"]
    assert "the script of action 'weather' has run out, it has 1 entry for it" in output
    assert ATTEMPT in output
    assert "_scripted/" not in output
