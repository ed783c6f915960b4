"""Secrets from the command line: what a server and the commands print does not have the value."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.cli.shell import Shell

VALUE = "sk-live-9f8e7d6c5b4a"
TOOLS = """
import logging
from stepwave import action

@action("tools.call")
async def call(key: str) -> str:
    logging.getLogger("library").warning("calling with %s", key)
    return f"called with {key}"

@action("tools.fail")
def fail(key: str) -> None:
    raise ConnectionError(f"https://host/?key={key} cannot be reached")
"""
FLOW = """
name: calls
failure_policy: continue
steps:
  - {id: call, action: tools.call, input: {key: {$secret: KEY}}}
  - {id: fail, action: tools.fail, input: {key: {$secret: KEY}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "secrets.toml").write_text('folder = "values"\n[secrets.KEY]\nactions = ["tools.*"]\n')
    (tmp_path / "values").mkdir()
    (tmp_path / "values" / "KEY").write_text(f"{VALUE}\n")
    return tmp_path


def _shown(shell: Shell, *arguments: str, **environment: str) -> Iterator[str]:
    """Yield what a run and the commands that show it print."""
    for command in (("run", "flow.yaml", *arguments), ("run", "flow.yaml", "--output", "json", *arguments)):
        done = shell.run(*command, **environment)
        assert done.returncode == 1
        yield done.stdout + done.stderr


def test_a_server_and_its_clients_print_the_name_in_place_of_the_value(folder: Path) -> None:
    options = ("--listen", "127.0.0.1:0", "--actions", "tools", "--secrets", "secrets.toml", "--log-level", "debug")
    with Shell(folder=folder).start("serve", *options) as server:
        address = server.wait_for_output(":").strip()
        shell = Shell(address, folder=folder)
        shown = [*_shown(shell)]
        shown += [shell.run(command, "@last").stdout for command in ("result", "logs", "report", "why", "export")]
        server.process.terminate()
        _, _, log = server.end()
    assert [text for text in (*shown, log) if VALUE in text] == []
    assert "called with [secret KEY]" in shown[0]
    assert "https://host/?key=[secret KEY] cannot be reached" in shown[0]
    assert "calling with [secret KEY]" in log


def test_a_run_without_a_server_uses_the_file_of_the_environment(folder: Path) -> None:
    shown = [*_shown(Shell(folder=folder), "--actions", "tools", STEPWAVE_SECRETS="secrets.toml")]
    assert [text for text in shown if VALUE in text] == []
    assert "called with [secret KEY]" in shown[0]


def test_a_malformed_file_keeps_a_server_from_starting(folder: Path) -> None:
    (folder / "secrets.toml").write_text(f'[secrets]\nKEY = "{VALUE}"\n[vault]\n')
    shell = Shell(folder=folder)
    for done in (
        shell.run("serve", "--secrets", "secrets.toml", "--listen", "127.0.0.1:0"),
        shell.run("run", "flow.yaml", "--actions", "tools", STEPWAVE_SECRETS="secrets.toml"),
    ):
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [
            "secrets.toml: secrets.KEY: must be a table",
            "secrets.toml: vault: unknown key",
        ]
