"""`stepwave graph`: of files, runs and named workflows, as Mermaid and as a drawing."""

import json
from pathlib import Path

import pytest

from integration.cli.shell import Shell
from stepwave.cli.commands.graph import GraphFormat, _default

PLAN = """\
flowchart TD
  %% greeting
  n0["hello<br/>shout"]
  n1["twice<br/>core.echo"]
  n0 --> n1
"""


def test_the_graph_of_a_file_needs_no_server(local_shell: Shell) -> None:
    done = local_shell.run("graph", "flows/greeting.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, PLAN, "")


def test_the_graph_of_standard_input(local_shell: Shell) -> None:
    text = (local_shell.folder / "flows" / "greeting.yaml").read_text()
    assert local_shell.run("graph", "-", stdin=text).stdout == PLAN


def test_a_drawing_has_boxes_and_lines(local_shell: Shell) -> None:
    lines = local_shell.run("graph", "flows/greeting.yaml", "--output", "text", COLUMNS="60").stdout.splitlines()
    assert lines[0] == "greeting"
    assert [line.strip() for line in lines if "hello" in line or "▼" in line] == ["│ hello │", "▼"]


def test_the_graph_of_a_run_has_its_states(shell: Shell) -> None:
    shell.run("run", "failing", "--run-id", "graphed")
    for name in ("graphed", "graph", "@last"):
        text = shell.run("graph", name).stdout
        assert "%% graphed: failing  failed" in text
        assert "<br/>failed" in text
        assert "  class n0 failed\n" in text


def test_the_graph_of_an_exported_run_is_that_of_the_run(shell: Shell, tmp_path: Path) -> None:
    shell.run("run", "greeting", "--input", '{"name": "ann"}', "--run-id", "drawn")
    shell.run("export", "drawn", "--to", str(tmp_path / "run.json"))
    assert Shell().run("graph", str(tmp_path / "run.json")).stdout == shell.run("graph", "drawn").stdout


def test_the_graph_of_a_workflow_in_json(tmp_path: Path) -> None:
    (tmp_path / "flow.json").write_text(json.dumps({"name": "one", "steps": [{"id": "a", "action": "core.echo"}]}))
    assert 'n0["a<br/>core.echo"]' in Shell(folder=tmp_path).run("graph", "flow.json").stdout


def test_an_export_that_cannot_be_read_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"stepwave_export": 99}')
    done = Shell(folder=tmp_path).run("graph", "run.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "version 99 of the format" in done.stderr


def test_the_name_of_a_workflow_goes_before_the_prefix_of_a_run(shell: Shell) -> None:
    shell.run("run", "greeting", "--input", '{"name": "ann"}', "--run-id", "greeting_1")
    assert shell.run("graph", "greeting").stdout == PLAN
    assert "%% greeting_1: greeting  succeeded" in shell.run("graph", "greeting_").stdout


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("none.yaml", "cannot read none.yaml"),
        ("greting", 'no workflow "greting" on this server; did you mean "greeting"?'),
        ("greting", 'no run\'s id begins with "greting"'),
        ("@first", "@first names no run"),
    ],
)
def test_what_is_not_there_exits_with_2(shell: Shell, argument: str, message: str) -> None:
    done = shell.run("graph", argument)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize(
    ("after", "message"),
    [("z", '-: step "a" depends on the unknown step "z"'), ("a", '-: step "a" is in a cycle of dependencies')],
)
def test_a_workflow_without_a_graph_exits_with_2(local_shell: Shell, after: str, message: str) -> None:
    text = f"name: one\nsteps: [{{id: a, action: core.echo, depends_on: [{after}]}}]\n"
    done = local_shell.run("graph", "-", stdin=text)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)


class _Stream:
    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(("terminal", "chosen"), [(True, GraphFormat.TEXT), (False, GraphFormat.MERMAID)])
def test_a_terminal_gets_the_drawing_and_a_pipe_the_text_of_mermaid(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, chosen: GraphFormat
) -> None:
    monkeypatch.setattr("stepwave.cli.commands.graph.output_stream", lambda: _Stream(terminal))
    assert _default() is chosen
