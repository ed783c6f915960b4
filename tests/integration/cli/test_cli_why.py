"""`stepwave why`: what an unfinished run waits for, and the line of code of its action."""

import json
from collections.abc import Iterator
from itertools import count

import pytest

from integration.cli.shell import Shell, line_of_code

_numbers = count()


@pytest.fixture
def held(shell: Shell) -> Iterator[str]:
    """Return the id of a run whose step waits for ever."""
    run_id = f"why-{next(_numbers)}-runs"
    with shell.start("run", "holding", "--run-id", run_id, "--output", "text") as run:
        run.wait_for_error("progress")
        yield run_id
        shell.run("cancel", run_id)
        run.end()


def test_a_running_step_is_explained_by_its_line_of_code(shell: Shell, held: str) -> None:
    done = shell.run("why", held.removesuffix("-runs"))
    head, *_, step = done.stdout.splitlines()
    place = f"tools.py:{line_of_code('await asyncio.Event().wait()')} in hold: await asyncio.Event().wait()"
    assert done.returncode == 0
    assert head.startswith(f"{held}  holding  running ")
    assert step.startswith("long  running ")
    assert step.endswith(f", attempt 1  {place}")


def test_as_json_the_whole_explanation_is_printed(shell: Shell, held: str) -> None:
    explanation = json.loads(shell.run("why", held, "--output", "json").stdout)
    steps = {step["step_id"]: step for step in explanation["steps"]}
    assert (explanation["run"]["run_id"], explanation["step_count"]) == (held, len(steps))
    assert (steps["long"]["attempt"], steps["long"]["where"]["function"]) == (1, "hold")


def test_an_ended_run_points_to_its_report(shell: Shell) -> None:
    shell.run("run", "greeting", "--run-id", "why-ended", "--input", '{"name": "ann"}')
    done = shell.run("why", "why-ended")
    assert done.returncode == 0
    assert done.stdout.startswith("why-ended has ended: succeeded after ")
    assert done.stdout.endswith("; where its time went: stepwave report why-ended\n")
