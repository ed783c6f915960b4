"""The tools of `stepwave mcp`: workflow files, and the problems of those that can be none."""

import os
from pathlib import Path

import pytest

from stepwave.cli.commands.mcp import _lines, read_tools
from stepwave.cli.exit_codes import CommandError

STEPS = "steps: [{id: a, action: core.echo}]\n"


def test_all_problems_of_the_files_are_listed_with_their_places(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: broken\nsteps: 5\n")
    (tmp_path / "named.yaml").write_text(f"name: two words\n{STEPS}")
    (tmp_path / "text.yaml").write_text(f"name: text\ninput_schema: {{type: string}}\n{STEPS}")
    with pytest.raises(CommandError) as refused:
        read_tools(tmp_path)
    broken, named, text, hint = str(refused.value).splitlines()
    assert broken.startswith(f"{tmp_path}/broken.yaml:2:8: ")
    assert named.startswith(f"{tmp_path}/named.yaml:1:7: name: malformed name 'two words'")
    assert text == f"{tmp_path}/text.yaml:2:1: input_schema: the input of a tool is an object: want `type: object`"
    assert hint == "actions and dependencies are checked once these problems are fixed"


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for file in ("a.yaml", "b.yaml"):
        (tmp_path / file).write_text(f"name: same\n{STEPS}")
    with pytest.raises(CommandError, match=rf'b\.yaml:1:7: name: the workflow "same" is in {tmp_path}/a\.yaml, too'):
        read_tools(tmp_path)


def test_a_missing_folder_and_one_without_workflow_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"^--workflows: not a folder: .*nothing$"):
        read_tools(tmp_path / "nothing")
    with pytest.raises(CommandError, match=r"^--workflows: no workflow file \(\.yaml, \.yml or \.json\) in "):
        read_tools(tmp_path)


@pytest.mark.parametrize("schema", ["{}", "{properties: {a: {type: string}}}"])
def test_a_schema_without_a_type_is_one_of_an_object(tmp_path: Path, schema: str) -> None:
    (tmp_path / "flow.yaml").write_text(f"name: flow\ninput_schema: {schema}\n{STEPS}")
    (tool,) = read_tools(tmp_path)
    assert tool.tool.input_schema["type"] == "object"


async def test_lines_are_read_as_they_come_and_what_is_not_utf8_is_replaced() -> None:
    reader, writer = os.pipe()
    lines = _lines(reader)
    for chunk, line in ((b"one\ntw", "one"), (b"o\nthr", "two"), (b"ee \xff\n", "three \ufffd")):
        os.write(writer, chunk)
        assert await anext(lines) == line
    os.write(writer, b"end")
    os.close(writer)
    assert [line async for line in lines] == ["end"]
    os.close(reader)


async def test_an_error_ends_the_lines_and_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    assert [line async for line in _lines(folder)] == [""]
    assert capsys.readouterr().err == "cannot read standard input: Is a directory\n"
    os.close(folder)
