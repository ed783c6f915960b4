"""Named workflows on the command line: `stepwave workflows`, their runs, and `stepwave serve --check`."""

import json
from pathlib import Path

import pytest

from integration.cli.shell import Shell, serving

SEARCH = """\
name: search
input_schema: >-
  {"type": "object", "required": ["query"], "properties": {"query": {"type": "string"}, "limit": {}}}
steps:
  - {id: a, action: core.echo}
"""
ACTIONS = """\
from stepwave import action
print("imported")
@action
def greet() -> None: ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a folder of workflows and a module of actions."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "search.yaml").write_text(SEARCH)
    (tmp_path / "acts.py").write_text(ACTIONS)
    return tmp_path


def test_named_workflows_are_listed_with_their_input_and_digest(folder: Path) -> None:
    with serving("--workflows", "flows", folder=folder) as (address, _):
        lines = Shell(address).run("workflows").stdout.splitlines()
        (listed,) = json.loads(Shell(address).run("workflows", "--output", "json").stdout)
    assert lines[0].split() == ["WORKFLOW", "STEPS", "INPUT", "DIGEST"]
    assert lines[1].split() == ["search", "1", "query,", "limit?", listed["digest"][:12]]
    assert listed["input_schema"]["required"] == ["query"]


def test_a_workflow_without_a_schema_takes_anything(shell: Shell) -> None:
    rows = [line.split()[:3] for line in shell.run("workflows").stdout.splitlines()]
    assert ["greeting", "2", "anything"] in rows


def test_a_named_workflow_runs_from_another_folder(folder: Path) -> None:
    with serving("--workflows", "flows", folder=folder) as (address, _):
        done = Shell(address).run("run", "search", "--input", '{"query": "x"}', "--output", "result")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"a": {"query": "x"}})


def test_an_input_that_its_schema_refuses_exits_with_2_and_names_the_place(folder: Path) -> None:
    with serving("--workflows", "flows", folder=folder) as (address, _):
        named = Shell(address).run("run", "search", "--input", '{"query": 3}')
    local = Shell(folder=folder).run("run", "flows/search.yaml", "--local", "--input", '{"query": 3}')
    for done in (named, local):
        assert (done.returncode, done.stdout) == (2, "")
        assert "input/query: 3 is not of type 'string'" in done.stderr


SUMMARY = "ok: 8 actions, 1 named workflow, address 127.0.0.1:50051"


def test_a_check_prints_what_a_server_would_have_and_starts_none(folder: Path) -> None:
    shell = Shell(folder=folder)
    options = ("--actions", "acts", "--workflows", "flows", "--journal", "sqlite:journal.db")
    done = shell.run("serve", "--check", *options)
    assert (done.returncode, done.stdout) == (0, f"{SUMMARY}, journal journal.db\n")
    assert done.stderr == "imported\n"
    assert not (folder / "journal.db").exists()


def test_a_check_reports_all_problems_of_all_files(folder: Path) -> None:
    (folder / "flows" / "more.yaml").write_text(SEARCH)
    (folder / "flows" / "other.yaml").write_text("name: other\nsteps: [{id: a, action: shot}, {id: b, action: 3}]\n")
    (folder / "flows" / "third.yaml").write_text("name: third\nsteps: [{id: a, action: gret}]\n")
    (folder / "limits.yaml").write_text("limits: 3\n")
    done = Shell(folder=folder).run(
        "serve", "--check", "--actions", "acts", "--workflows", "flows", "--limits", "limits.yaml"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "imported",
        "limits.yaml:1:1: limits: expected a list of limits, got the number 3",
        "flows/other.yaml:2:48: steps[1].action: expected a string, got the number 3",
        'flows/search.yaml:1:7: name: the workflow "search" is in flows/more.yaml, too',
        'flows/third.yaml:2:25: steps[0].action: unknown action "gret"; did you mean "greet"?',
    ]


def test_a_check_without_its_actions_still_checks_the_workflows(folder: Path) -> None:
    (folder / "flows" / "other.yaml").write_text("name: other\nsteps: [{id: a, action: greet, depends_on: [b]}]\n")
    done = Shell(folder=folder).run("serve", "--check", "--actions", "none_such", "--workflows", "flows")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("no module named 'none_such'")
    assert second == 'flows/other.yaml:2:45: steps[0].depends_on[0]: unknown step "b"'


def test_a_check_warns_of_a_limit_without_an_action(folder: Path) -> None:
    (folder / "limits.yaml").write_text("limits: [{actions: geet, concurrency: 2}]\n")
    done = Shell(folder=folder).run("serve", "--check", "--limits", "limits.yaml")
    assert (done.returncode, done.stdout) == (0, "ok: 7 actions, 0 named workflows, 1 limit, address 127.0.0.1:50051\n")
    assert done.stderr.startswith("warning: ")
    assert "geet" in done.stderr


def test_a_check_reports_the_problems_of_a_secrets_file_and_no_others(folder: Path) -> None:
    (folder / "secrets.toml").write_text('[secrets.KEY]\nvalue = "sk-live-1234"\n')
    (folder / "flows" / "other.yaml").write_text(
        "name: other\nsteps: [{id: a, action: greet, input: {name: {$secret: KEY}}}]\n"
    )
    options = ("--actions", "acts", "--workflows", "flows", "--secrets", "secrets.toml")
    done = Shell(folder=folder).run("serve", "--check", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "imported",
        "secrets.toml: secrets.KEY.actions: is required",
        "secrets.toml: secrets.KEY.value: unknown key",
    ]


def test_a_named_workflow_is_checked_for_its_secrets(folder: Path) -> None:
    (folder / "secrets.toml").write_text('[secrets.KEY]\nactions = ["gret"]\n')
    (folder / "flows" / "other.yaml").write_text(
        "name: other\nsteps: [{id: a, action: greet, input: {name: {$secret: KEY}}}]\n"
    )
    options = ("--actions", "acts", "--workflows", "flows", "--secrets", "secrets.toml")
    done = Shell(folder=folder).run("serve", "--check", *options)
    problem = "the secret KEY is not available to the action greet in the namespace default"
    assert done.returncode == 2
    assert done.stderr.splitlines()[1].endswith(f"steps[0].bindings[0].secret: {problem}")


def test_a_check_does_not_wait_for_changes(folder: Path) -> None:
    done = Shell(folder=folder).run("serve", "--check", "--reload")
    assert (done.returncode, done.stderr) == (2, "--check starts no server: leave out --reload\n")


def test_a_broken_folder_keeps_a_server_from_starting(folder: Path) -> None:
    (folder / "flows" / "more.yaml").write_text(SEARCH)
    done = Shell(folder=folder).run("serve", "--workflows", "flows", "--listen", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'flows/search.yaml:1:7: name: the workflow "search" is in flows/more.yaml, too\n'
