"""`stepwave why`: what a run under way waits for, and the line where its action stands."""

import json
from collections.abc import Iterator
from itertools import count

import pytest

from integration.cli.shell import Shell, line_of_code

_numbers = count()


@pytest.fixture
def held(shell: Shell) -> Iterator[str]:
    """Return the id of a run whose step holds."""
    run_id = f"why-{next(_numbers)}-holds"
    with shell.start("run", "holding", "--run-id", run_id, "--output", "text") as run:
        run.wait_for_error("progress")
        yield run_id
        shell.run("cancel", run_id)
        run.end()


def test_a_run_that_holds_is_explained_by_its_line_of_code(shell: Shell, held: str) -> None:
    done = shell.run("why", held.removesuffix("-holds"))
    head, *_, step = done.stdout.splitlines()
    place = f"tools.py:{line_of_code('await asyncio.Event().wait()')} in hold: await asyncio.Event().wait()"
    assert done.returncode == 0
    assert head.startswith(f"{held}  holding  running ")
    assert step.startswith("long  running ")
    assert step.endswith(f", attempt 1  {place}")


def test_as_json_it_is_all_of_the_explanation(shell: Shell, held: str) -> None:
    told = json.loads(shell.run("why", held, "--output", "json").stdout)
    steps = {step["step_id"]: step for step in told["steps"]}
    assert (told["run"]["run_id"], told["step_count"]) == (held, len(steps))
    assert (steps["long"]["attempt"], steps["long"]["where"]["function"]) == (1, "hold")


def test_a_run_that_ended_is_referred_to_its_report(shell: Shell) -> None:
    shell.run("run", "greeting", "--run-id", "why-ended", "--input", '{"name": "ann"}')
    done = shell.run("why", "why-ended")
    assert done.returncode == 0
    assert done.stdout.startswith("why-ended has ended: succeeded after ")
    assert done.stdout.endswith("; where its time went: stepwave report why-ended\n")
