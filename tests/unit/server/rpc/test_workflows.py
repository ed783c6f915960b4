"""Named workflows: the problems of a folder of files, each with its place."""

from pathlib import Path

import pytest

from stepwave_server.rpc.workflows import Workflows


def _load(folder: Path, **files: str) -> Workflows:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return Workflows.load(folder)


def _calling(name: str, *called: str) -> str:
    """Return a workflow whose steps run others by their names."""
    steps = "".join(f"  - {{id: s{i}, action: core.workflow, input: {{name: {it}}}}}\n" for i, it in enumerate(called))
    return f"name: {name}\nsteps:\n{steps or '  - {id: a, action: core.echo}'}"


def _call_problems(workflows: Workflows) -> list[str]:
    return [f"{it.field}: {it.description}" for found in workflows.call_problems().values() for it in found]


def test_workflows_are_sorted_by_name_and_have_digests(tmp_path: Path) -> None:
    workflows = _load(tmp_path, a=_calling("two"), b=_calling("one"))
    assert [workflow.message.name for workflow in workflows] == ["one", "two"]
    assert len({workflow.digest for workflow in workflows}) == 2
    assert workflows.problems == ()


def test_the_problems_of_all_files_are_collected_with_their_places(tmp_path: Path) -> None:
    workflows = _load(tmp_path, a="name: x\nstep: []\n", b="name: [", c=_calling("good"))
    (tmp_path / "d.json").mkdir()
    workflows = Workflows.load(tmp_path)
    first, second, third = workflows.problems
    assert first == f'{tmp_path}/a.yaml:2:1: unknown key "step"; did you mean "steps"?'
    assert second.startswith(f"{tmp_path}/b.yaml:2:1: ")
    assert third == f"{tmp_path}/d.json: cannot be read: Is a directory"
    assert workflows.get("good") is not None


def test_two_files_with_one_name_are_both_named(tmp_path: Path) -> None:
    workflows = _load(tmp_path, a=_calling("same"), b="\n" + _calling("same"))
    assert workflows.problems == (f'{tmp_path}/b.yaml:2:7: name: the workflow "same" is in {tmp_path}/a.yaml, too',)


@pytest.mark.parametrize(
    ("calls", "problems"),
    [
        ({"a": "a"}, ["steps[0].input: the workflow runs itself: a → a"]),
        ({"b": "a", "a": "b"}, ["steps[0].input: the workflow runs itself: a → b → a"]),
        ({"a": "b", "b": "c", "c": "b"}, ["steps[0].input: the workflow runs itself: b → c → b"]),
        ({"a": "b", "b": "c", "c": "a"}, ["steps[0].input: the workflow runs itself: a → b → c → a"]),
        ({"a": "c", "b": "c", "c": ""}, []),
    ],
    ids=["itself", "each other", "below another", "three", "none"],
)
def test_a_workflow_that_runs_itself_by_name_is_reported_once(
    tmp_path: Path, calls: dict[str, str], problems: list[str]
) -> None:
    workflows = _load(tmp_path, **{name: _calling(name, *filter(None, [other])) for name, other in calls.items()})
    assert _call_problems(workflows) == problems


def test_an_unknown_name_is_reported_with_a_near_one(tmp_path: Path) -> None:
    workflows = _load(tmp_path, a=_calling("morning"), b=_calling("day", "mourning"))
    problem = 'no workflow "mourning" on this server; did you mean "morning"?'
    assert _call_problems(workflows) == [f"steps[0].input: {problem}"]


def test_a_name_in_a_file_that_cannot_be_read_is_no_further_problem(tmp_path: Path) -> None:
    assert _call_problems(_load(tmp_path, a="name: morning\nsteps: 3", b=_calling("day", "morning"))) == []


NESTED = """\
name: outer
steps:
  - id: body
    workflow:
      name: inner
      steps:
        - {id: call, action: core.workflow, input: {name: outer}}
  - {id: safe, action: core.echo, fallback: {action: {action: core.workflow, input: {name: none}}}}
"""


def test_calls_in_nested_workflows_and_fallbacks_are_found(tmp_path: Path) -> None:
    assert _call_problems(_load(tmp_path, a=NESTED)) == [
        "steps[0].workflow.steps[0].input: the workflow runs itself: outer → outer",
        'steps[1].fallback.action.input: no workflow "none" on this server',
    ]


@pytest.mark.parametrize("given", ["{name: {$input: /name}}", "{$input: ''}", "{workflow: {}}", "{name: 3}", "7"])
def test_a_name_that_the_file_does_not_give_is_not_checked(tmp_path: Path, given: str) -> None:
    text = f"name: a\nsteps:\n  - {{id: s, action: core.workflow, input: {given}}}\n"
    workflows = _load(tmp_path, a=text)
    assert workflows.problems == ()
    assert _call_problems(workflows) == []
