"""The file of MCP servers: what it says, and all of its problems at once."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from stepwave_server.actions.mcp import HttpServer, McpServer, SecretValue, StdioServer
from stepwave_server.engine.secrets.store import Secrets
from stepwave_server.files import mcp_servers
from stepwave_server.files.mcp_servers import (
    McpServersError,
    load_mcp_servers,
    mcp_secret_warnings,
    parse_mcp_servers,
)

FILE = Path("/etc/stepwave/mcp_servers.toml")

COMPLETE = """
[mcp_servers.files]
command = "mcp-files"
args = ["--root", "/srv"]
env = {LANG = "C.UTF-8", KEY = {secret = "FILES_KEY"}}
cwd = "files"
connect_timeout = "1m"

[mcp_servers.search]
url = "https://search.example.org:8443/mcp?a=b"
headers = {Authorization = {secret = "SEARCH_KEY"}, Tenant = "one"}
ca = "ca.pem"
connect_timeout = 10
"""


def problems(text: str) -> list[str]:
    """Return the problems of a file, without its name."""
    with pytest.raises(McpServersError) as caught:
        parse_mcp_servers(text, FILE)
    return [line.removeprefix(f"{FILE}: ") for line in str(caught.value).splitlines()]


def loaded(folder: Path, text: str) -> tuple[McpServer, ...]:
    file = folder / "mcp_servers.toml"
    file.write_text(text)
    return load_mcp_servers(file)


def test_everything_may_be_said() -> None:
    assert parse_mcp_servers(COMPLETE, FILE) == (
        StdioServer(
            name="files",
            command="mcp-files",
            args=("--root", "/srv"),
            env={"LANG": "C.UTF-8", "KEY": SecretValue("FILES_KEY")},
            cwd=Path("/etc/stepwave/files"),
            connect_timeout=60,
        ),
        HttpServer(
            name="search",
            url="https://search.example.org:8443/mcp?a=b",
            headers={"Authorization": SecretValue("SEARCH_KEY"), "Tenant": "one"},
            ca=Path("/etc/stepwave/ca.pem"),
            connect_timeout=10,
        ),
    )


def test_a_command_or_a_url_is_enough() -> None:
    text = '[mcp_servers.a]\ncommand = "a"\n[mcp_servers.b]\nurl = "http://b/mcp"'
    assert parse_mcp_servers(text, FILE) == (
        StdioServer(name="a", command="a"),
        HttpServer(name="b", url="http://b/mcp"),
    )


def test_an_empty_file_has_no_servers() -> None:
    assert parse_mcp_servers("", FILE) == ()


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("", "mcp_servers.a: needs a command or a url"),
        ('command = "a"\nurl = "http://a"', "mcp_servers.a: needs a command or a url, and not both"),
        ('command = ""', "mcp_servers.a.command: must not be empty"),
        ('command = "a"\nheaders = {}', "mcp_servers.a.headers: unknown key"),
        ('command = "a"\nargs = "b"', "mcp_servers.a.args: must be a list"),
        ('command = "a"\nargs = ["b", 3]', "mcp_servers.a.args[1]: must be a string"),
        ('command = "a"\nenv = {"a=b" = "c"}', "mcp_servers.a.env.a=b: must be the name of an environment variable"),
        ('command = "a"\nenv = {A = 3}', 'mcp_servers.a.env.A: must be a string, or {secret = "NAME"}'),
        ('command = "a"\nenv = {A = {secrets = "B"}}', 'mcp_servers.a.env.A: must be a string, or {secret = "NAME"}'),
        (
            'command = "a"\nenv = {A = {secret = "b c"}}',
            "mcp_servers.a.env.A: the name of a secret must have the form ",
        ),
        ('command = "a"\nconnect_timeout = 0', "mcp_servers.a.connect_timeout: must be more than 0"),
        ('command = "a"\nconnect_timeout = "2h"', "mcp_servers.a.connect_timeout: must be at most an hour"),
        ('url = "ftp://a"', "mcp_servers.a.url: must be a URL that begins with http:// or https://"),
        ('url = "http://a:b"', "mcp_servers.a.url: must be a URL that begins with http:// or https://"),
        ('url = "http://b:c@a"', "mcp_servers.a.url: has a user name or password: put credentials into headers"),
        ('url = "http://a"\nheaders = {"a b" = "c"}', "mcp_servers.a.headers.a b: must be the name of a header field"),
        ('url = "http://a"\nheaders = {Host = "c"}', "mcp_servers.a.headers.Host: is a header field that the protocol"),
        ('url = "http://a"\nheaders = {A = "b\\n"}', "mcp_servers.a.headers.A: must have printable ASCII characters"),
    ],
)
def test_a_malformed_entry_is_refused_by_name(entry: str, problem: str) -> None:
    (found,) = problems(f"[mcp_servers.a]\n{entry}")
    assert found.startswith(problem)


def test_all_problems_are_named() -> None:
    tables = ["command = 3\nenv = {A = 3}", 'comand = "b"']
    text = (
        f'other = 1\n[mcp_servers.a]\n{tables[0]}\n[mcp_servers.b]\n{tables[1]}\n[mcp_servers."c d"]\nurl = "http://c"'
    )
    assert len(problems(text)) == 6


@pytest.mark.parametrize("text", ["[mcp_servers", "mcp_servers = 3", "a = " + "[" * 10_000])
def test_what_is_no_file_of_servers_is_refused(text: str) -> None:
    assert problems(text)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ('command = "no-such-program"', "mcp_servers.a.command: there is no program no-such-program"),
        ('command = "./sh"\ncwd = "."', "mcp_servers.a.command: there is no program ./sh"),
        ('command = "sh"\ncwd = "nowhere"', "mcp_servers.a.cwd: there is no folder "),
        ('url = "https://a"\nca = "ca.pem"', "mcp_servers.a.ca: "),
        ('url = "https://a"\nca = "mcp_servers.toml"', "mcp_servers.a.ca: "),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, entry: str, problem: str) -> None:
    with pytest.raises(McpServersError) as caught:
        loaded(tmp_path, f"[mcp_servers.a]\n{entry}")
    assert problem in str(caught.value)


def test_a_program_is_looked_up_in_its_own_path(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (server,) = loaded(tmp_path, f'[mcp_servers.a]\ncommand = "program"\nenv = {{PATH = "{tmp_path}"}}')
    assert isinstance(server, StdioServer)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(McpServersError, match=r"mcp_servers\.toml: cannot be read: No such file"):
        load_mcp_servers(tmp_path / "mcp_servers.toml")


def test_servers_need_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(mcp_servers, "find_spec", find_spec)
    assert loaded(tmp_path, "") == ()
    with pytest.raises(McpServersError, match=r"MCP servers need: pip install 'stepwave\[mcp\]'"):
        loaded(tmp_path, '[mcp_servers.a]\nurl = "http://a"')


def test_a_secret_without_a_value_causes_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_SECRET_SEARCH_KEY", "sk-live-0123456789abcdef")
    (warning,) = mcp_secret_warnings(parse_mcp_servers(COMPLETE, FILE), Secrets())
    assert warning.startswith('MCP server "files": the secret FILES_KEY has no value: set the variable')
