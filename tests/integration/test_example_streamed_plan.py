"""The example of a plan that runs while it is written."""

import json
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "client" / "examples" / "streamed_plan"
ANSWER = "The deepest lake is Hornindalsvatnet, and the largest is Mjøsa."


def test_composing_finishes_earlier_than_planning_first_and_the_example_prints_by_how_much() -> None:
    done = subprocess.run(
        [sys.executable, "streamed_plan.py"], cwd=EXAMPLE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(ANSWER)
    afterwards, meanwhile, earlier = (
        float(seconds) for seconds in re.findall(r"([\d.]+) s$", done.stdout, re.MULTILINE)
    )
    assert earlier > 0
    assert abs(afterwards - meanwhile - earlier) < 0.02


def test_the_planner_may_write_to_a_pipe() -> None:
    stepwave = Path(sys.executable).parent / "stepwave"
    command = f"{sys.executable} planner.py | {stepwave} compose - --actions lakes --output result"
    done = subprocess.run(["sh", "-c", command], cwd=EXAMPLE, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"answer": ANSWER}), done.stderr
