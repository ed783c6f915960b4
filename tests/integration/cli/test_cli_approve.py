"""`stepwave approve`: complete a step that waits for someone."""

import json
from collections.abc import Iterator
from itertools import count

import pytest

from integration.cli.shell import Shell

_numbers = count()


def _held(shell: Shell, name: str) -> Iterator[str]:
    run_id = f"{name}-{next(_numbers)}-asks"
    with shell.start("run", name, "--run-id", run_id, "--output", "json") as run:
        run.wait_for_output("step_waiting")
        yield run_id
        shell.run("cancel", run_id)
        run.end()


@pytest.fixture
def one(shell: Shell) -> Iterator[str]:
    """Return the id of a run with one step that waits for someone."""
    yield from _held(shell, "approval")


@pytest.fixture
def several(shell: Shell) -> Iterator[str]:
    """Return the id of a run with several steps that wait for someone."""
    yield from _held(shell, "approvals")


def test_the_only_step_that_waits_needs_no_name(shell: Shell, one: str) -> None:
    done = shell.run("approve", one, "--input", '"yes"')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"approved publish of {one}\n")
    shell.run("watch", one)
    assert json.loads(shell.run("result", one).stdout) == {"end": {"answer": "yes"}}


def test_without_an_input_the_answer_is_null(shell: Shell, one: str) -> None:
    shell.run("approve", one, "publish")
    shell.run("watch", one)
    assert json.loads(shell.run("result", one).stdout) == {"end": {"answer": None}}


def test_a_rejection_fails_the_step_with_the_reason(shell: Shell, one: str) -> None:
    assert shell.run("approve", one, "--reject", "--reason", "too long").stderr == f"rejected publish of {one}\n"
    assert shell.run("watch", one).returncode == 1
    assert "✗ publish: too long" in shell.run("result", one).stderr


def test_the_same_answer_again_says_so(shell: Shell, one: str) -> None:
    shell.run("approve", one, "publish", "--input", "1")
    done = shell.run("approve", one, "publish", "--input", "1")
    assert (done.returncode, done.stderr) == (0, f"publish of {one} was approved before, with the same outcome\n")


@pytest.mark.parametrize("arguments", [["--input", "2"], ["--reject"]])
def test_another_answer_later_is_refused(shell: Shell, one: str, arguments: list[str]) -> None:
    shell.run("approve", one, "publish", "--input", "1")
    done = shell.run("approve", one, "publish", *arguments)
    assert done.returncode == 2
    assert "was completed before, with another outcome" in done.stderr


def test_several_steps_that_wait_are_listed_with_their_inputs(shell: Shell, several: str) -> None:
    done = shell.run("approve", several)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"3 steps of {several} wait for someone; name one of them:",
        f"  stepwave approve {several} first",
        '      {"question":"the first?"}',
        f"  stepwave approve {several} 'pages[0]'",
        '      "a"',
        f"  stepwave approve {several} 'pages[1]'",
        '      "b"',
    ]


def test_a_child_of_a_list_is_named_by_its_index(shell: Shell, several: str) -> None:
    assert shell.run("approve", several, "pages[1]").stderr == f"approved pages[1] of {several}\n"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("fisrt", 'has no step "fisrt"; did you mean "first"?'),
        ("pages[7]", 'has no step "pages[7]"; did you mean "pages[1]"?'),
        ("late", "does not wait yet: it has not started"),
        ("other", 'has the action "core.echo"'),
        ("pages", 'complete its children, such as "pages[0]"'),
    ],
)
def test_a_step_that_does_not_wait_is_refused(shell: Shell, several: str, step: str, message: str) -> None:
    done = shell.run("approve", several, step)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_run_that_waits_for_nobody_has_nothing_to_approve(shell: Shell) -> None:
    shell.run("run", "greeting", "--run-id", "approve-ended", "--input", '{"name": "ann"}')
    done = shell.run("approve", "approve-ended")
    assert (done.returncode, done.stderr) == (2, "approve-ended has ended: succeeded\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reject", "--input", "1"], "--reject fails the step, --input is its answer: leave out one of them"),
        (["--reason", "no"], "--reason says why a step is rejected: add --reject"),
        (["--input", "{"], "--input: "),
    ],
)
def test_options_that_contradict_each_other_are_refused(shell: Shell, arguments: list[str], message: str) -> None:
    done = shell.run("approve", "any", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)


def test_an_unknown_run_is_an_error(shell: Shell) -> None:
    done = shell.run("approve", "nowhere-at-all")
    assert (done.returncode, "no run's id begins with" in done.stderr) == (2, True)


def test_why_says_who_is_waited_for_and_how_to_continue(shell: Shell, several: str) -> None:
    rows = shell.run("why", several).stdout.splitlines()
    first = next(row for row in rows if row.startswith("first "))
    assert first.endswith(f'for an answer: stepwave approve {several} first; its input: {{"question":"the first?"}}')
    assert any(row.startswith("pages ") and "0 of its 2 items have ended, running " in row for row in rows)
