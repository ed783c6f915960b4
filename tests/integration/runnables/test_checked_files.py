"""`stepwave serve` checks the file of runnables before it starts."""

import json
from pathlib import Path

import pytest

from integration.cli.shell import Shell
from integration.runnables.hosts import FOLDER
from stepwave_server.files.runnables import parse_runnables


def check(tmp_path: Path, text: str, *arguments: str) -> tuple[int, str, str]:
    """Check a file, and return the exit code, standard output and standard error."""
    file = tmp_path / "runnables.toml"
    file.write_text(text)
    done = Shell(folder=FOLDER).run("serve", "--check", "--runnables", str(file), *arguments, STEPWAVE_ENTRY_POINTS="0")
    return done.returncode, done.stdout, done.stderr


def count(line: str) -> int:
    """Return how many actions were found."""
    return int(line.removeprefix("ok: ").split(" ")[0])


def test_actions_elsewhere_are_counted(tmp_path: Path) -> None:
    (_, before, _) = check(tmp_path, "")
    code, after, _ = check(tmp_path, '[runnables.a]\naddress = "a:1"\nactions = ["find", "fetch"]')
    assert code == 0
    assert count(after) - count(before) == 3  # and grpc.invoke


def test_a_host_describes_itself_for_the_file(tmp_path: Path) -> None:
    described = Shell(folder=FOLDER).run(
        "host", "hosted_tools", "--listen", "127.0.0.1:50061", "--describe", STEPWAVE_ENTRY_POINTS="0"
    )
    assert described.returncode == 0, described.stderr
    code, _, error = check(tmp_path, described.stdout)
    assert code == 0, error
    (found,) = parse_runnables(described.stdout, tmp_path)
    assert (found.name, found.address) == ("hosted_tools", "127.0.0.1:50061")
    actions = {action.name: action for action in found.actions}
    assert json.loads(actions["add"].input_schema)["required"] == ["left", "right"]
    assert json.loads(actions["add"].output_schema) == {"type": "integer"}
    assert actions["add"].description == "Add two numbers."


@pytest.mark.parametrize("arguments", [(), ("--listen", "127.0.0.1:0")])
def test_a_host_cannot_describe_itself_without_an_address(arguments: tuple[str, ...]) -> None:
    done = Shell(folder=FOLDER).run("host", "hosted_tools", "--describe", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--describe needs the address that servers call" in done.stderr


def test_problems_of_the_file_are_reported_with_all_others(tmp_path: Path) -> None:
    code, _, error = check(tmp_path, '[runnables.a]\nadress = "a:1"', "--listen", "nowhere")
    assert code == 2
    assert "runnables.a.address: is required" in error
    assert "runnables.a.adress: unknown key" in error
    assert "'nowhere' is not an address" in error


def test_a_name_that_an_action_has_already_is_refused_with_both_sources(tmp_path: Path) -> None:
    code, _, error = check(tmp_path, '[runnables.a]\naddress = "a:1"\nactions = ["add"]', "--actions", "hosted_tools")
    assert code == 2
    assert "two actions are named 'add': hosted_tools:add and runnable a" in error
