"""`stepwave serve` checks the file of MCP servers before it starts, and imports no MCP until a step needs it."""

import subprocess
import sys
from pathlib import Path

from integration.cli.shell import Shell
from integration.mcp.conftest import FOLDER

STDIO = '[mcp_servers.a]\ncommand = "sh"\nenv = {KEY = {secret = "NOWHERE"}}'

COLLIDING = """
from stepwave import action

@action("mcp.call")
def call() -> None: ...
"""


def check(tmp_path: Path, text: str, *arguments: str) -> tuple[int, str, str]:
    """Check a file, and return the exit code, standard output and standard error."""
    file = tmp_path / "mcp_servers.toml"
    file.write_text(text)
    shell = Shell(folder=tmp_path)
    done = shell.run("serve", "--check", "--mcp-servers", str(file), *arguments, STEPWAVE_ENTRY_POINTS="0")
    return done.returncode, done.stdout, done.stderr


def test_both_actions_are_counted_and_a_missing_secret_is_a_warning(tmp_path: Path) -> None:
    _, before, _ = check(tmp_path, "")
    code, after, warnings = check(tmp_path, STDIO)
    assert code == 0
    assert int(after.split()[1]) - int(before.split()[1]) == 2
    assert 'MCP server "a": the secret NOWHERE has no value' in warnings


def test_problems_of_the_file_are_reported_with_all_others(tmp_path: Path) -> None:
    code, _, error = check(tmp_path, '[mcp_servers.a]\ncomand = "a"', "--listen", "nowhere")
    assert code == 2
    assert "mcp_servers.a: needs a command or a url" in error
    assert "'nowhere' is not an address" in error


def test_a_name_that_an_action_has_already_is_refused_with_both_sources(tmp_path: Path) -> None:
    (tmp_path / "colliding.py").write_text(COLLIDING)
    code, _, error = check(tmp_path, STDIO, "--actions", "colliding")
    assert code == 2
    assert "two actions are named 'mcp.call': colliding:call and built-in" in error


def test_a_server_that_calls_no_tool_does_not_import_mcp() -> None:
    code = (
        "import sys, stepwave_server.app, stepwave_server.check; print(sorted({'mcp', 'httpx2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
