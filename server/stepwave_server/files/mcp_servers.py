"""The file of MCP servers, in TOML. Every problem is reported. Values of secrets are never in it.

```toml
[mcp_servers.files]                         # a process of this machine, over its standard input and output
command = "mcp-files"
args = ["--root", "/srv/files"]
env = {FILES_KEY = {secret = "FILES_KEY"}, LANG = "C.UTF-8"}

[mcp_servers.search]                        # streamable HTTP
url = "https://search.example.org/mcp"
headers = {Authorization = {secret = "SEARCH_AUTHORIZATION"}}
ca = "ca.pem"                               # the authority of its certificate; default: the public ones
```
"""

import os
import re
import shutil
import ssl
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from stepwave._values.toml import TOMLDecodeError, parse_toml
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.mcp import HttpServer, McpServer, SecretValue, StdioServer
from stepwave_server.actions.mcp.entry import CONNECT_SECONDS
from stepwave_server.config_values import Seconds
from stepwave_server.core.validate import SECRET_NAME
from stepwave_server.engine.secrets.store import Secrets
from stepwave_server.files.text import read_text

__all__ = ["McpServersError", "load_mcp_servers", "mcp_secret_warnings", "parse_mcp_servers"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_OWN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "last-event-id",
        "mcp-protocol-version",
        "mcp-session-id",
        "transfer-encoding",
        "upgrade",
    }
)
"""Header fields that the protocol sets."""

_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "is required",
    "list_type": "must be a list",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "greater_than": "must be more than 0",
    "less_than_equal": "must be at most an hour",
}
"""Problems by pydantic's types. None shows a value of the file: someone may have put a secret there."""


class McpServersError(ValueError):
    """Raised when a file of MCP servers is malformed, or MCP cannot be used. Lists every problem."""


def _refuse(text: str) -> PydanticCustomError:
    return PydanticCustomError("malformed", "{text}", {"text": text})


def _matches(pattern: re.Pattern[str], wanted: str) -> AfterValidator:
    """Return a check that a text has a form."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise _refuse(f"must be {wanted}")
        return text

    return AfterValidator(check)


def _to_value(value: object) -> object:
    """Return a text, or the name of a secret: `{secret = "NAME"}`."""
    if isinstance(value, dict) and value.keys() == {"secret"} and isinstance(name := value["secret"], str):
        if not SECRET_NAME.fullmatch(name):
            raise _refuse(f"the name of a secret must have the form {SECRET_NAME.pattern}")
        return SecretValue(name)
    if not isinstance(value, str):
        raise _refuse('must be a string, or {secret = "NAME"}')
    return value


def _is_header_value(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isprintable()):
        raise _refuse("must have printable ASCII characters alone")
    return value


def _is_own_header(name: str) -> str:
    if name.lower() in _OWN_HEADERS:
        raise _refuse("is a header field that the protocol sets")
    return name


def _is_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        parts, valid = urlsplit(""), False
    if not valid or not url.isascii() or any(character.isspace() for character in url):
        raise _refuse("must be a URL that begins with http:// or https://")
    if parts.username is not None:
        raise _refuse("has a user name or password: put credentials into headers")
    return url


_Value = Annotated[Any, BeforeValidator(_to_value)]
_Text = Annotated[str, Field(min_length=1)]
_Timeout = Annotated[Seconds, Field(gt=0, le=3_600)]


class _Stdio(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    command: _Text
    args: list[str] = Field(default_factory=list)
    env: dict[Annotated[str, _matches(_VARIABLE, "the name of an environment variable")], _Value] = Field(
        default_factory=dict
    )
    cwd: _Text | None = None
    connect_timeout: _Timeout = CONNECT_SECONDS

    def entry(self, name: str, folder: Path) -> McpServer:
        """Return the server."""
        return StdioServer(
            name=name,
            command=self.command,
            args=tuple(self.args),
            env=self.env,
            cwd=None if self.cwd is None else folder / self.cwd,
            connect_timeout=self.connect_timeout,
        )


class _Http(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    url: Annotated[str, AfterValidator(_is_url)]
    headers: dict[
        Annotated[str, _matches(_HEADER, "the name of a header field"), AfterValidator(_is_own_header)],
        Annotated[_Value, AfterValidator(_is_header_value)],
    ] = Field(default_factory=dict)
    ca: _Text | None = None
    connect_timeout: _Timeout = CONNECT_SECONDS

    def entry(self, name: str, folder: Path) -> McpServer:
        """Return the server."""
        return HttpServer(
            name=name,
            url=self.url,
            headers=self.headers,
            ca=None if self.ca is None else folder / self.ca,
            connect_timeout=self.connect_timeout,
        )


_KEYS = _Stdio.model_fields.keys() | _Http.model_fields.keys()


def load_mcp_servers(path: Path) -> tuple[McpServer, ...]:
    """Read a file of MCP servers. Relative paths of `cwd` and `ca` are relative to the file.

    Raises:
        McpServersError: The file is malformed, it or a file that it names cannot be read, there is no such program,
            or the package `mcp` is not installed.
    """
    text = read_text(path, McpServersError)
    servers = parse_mcp_servers(text, path)
    problems = [f"{path}: mcp_servers.{it.name}.{problem}" for it in servers if (problem := _missing(it))]
    if servers and find_spec("mcp") is None:
        problems.append(f"{path}: MCP servers need: pip install 'stepwave[mcp]'")
    if problems:
        raise McpServersError("\n".join(problems))
    return servers


def parse_mcp_servers(text: str, path: Path) -> tuple[McpServer, ...]:
    """Parse the text of a file of MCP servers.

    Args:
        text: The text.
        path: The file, for messages and relative paths.

    Raises:
        McpServersError: The text is malformed.
    """
    try:
        found = parse_toml(text)
    except TOMLDecodeError as error:
        raise McpServersError(f"{path}: {error}") from None
    problems = [f"{key}: unknown key" for key in found if key != "mcp_servers"]
    tables = found.get("mcp_servers", {})
    if not isinstance(tables, dict):
        problems.append("mcp_servers: must be a table")
        tables = {}
    servers = [server for name, table in tables.items() if (server := _server(name, table, path.parent, problems))]
    if problems:
        raise McpServersError("\n".join(f"{path}: {problem}" for problem in problems))
    return tuple(servers)


def _server(name: str, table: object, folder: Path, problems: list[str]) -> McpServer | None:
    """Return a server; `None`: its table has problems, which are added to the others."""
    place = f"mcp_servers.{name}"
    if not _NAME.fullmatch(name):
        problems.append(f"{place}: must be a name of the form {_NAME.pattern}")
        return None
    if not isinstance(table, dict):
        problems.append(f"{place}: must be a table")
        return None
    if ("command" in table) == ("url" in table):
        problems.append(f"{place}: needs a command or a url" + (", and not both" if "url" in table else ""))
        problems += [f"{place}.{key}: unknown key" for key in table if key not in _KEYS]
        return None
    try:
        return (_Stdio if "command" in table else _Http).model_validate(table).entry(name, folder)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        problems += [_problem(place, detail) for detail in details]
        return None


def _problem(place: str, detail: ErrorDetails) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"] if part != "[key]")
    return f"{place}{where}: {_WORDS.get(detail['type'], detail['msg'])}"


def _missing(server: McpServer) -> str:
    """Return which file of a server is missing; empty: none is."""
    if isinstance(server, HttpServer):
        problem = "" if server.ca is None else _unusable(server.ca)
        return f"ca: {problem}" if problem else ""
    if server.cwd is not None and not server.cwd.is_dir():
        return f"cwd: there is no folder {server.cwd}"
    path = server.env.get("PATH")
    if os.sep in server.command:
        found = shutil.which((server.cwd or Path()) / server.command)
    else:
        found = shutil.which(server.command, path=path if isinstance(path, str) else None)
    return "" if found else f"command: there is no program {server.command}"


def _unusable(ca: Path) -> str:
    """Return why an authority cannot be used; empty: it can."""
    try:
        ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        return f"{ca} has no certificate in PEM"
    except OSError as error:
        return f"{ca} cannot be read: {error.strerror}"
    return ""


def mcp_secret_warnings(servers: Iterable[McpServer], secrets: Secrets) -> list[str]:
    """Return a message for every secret of an MCP server that has no usable value."""
    found = []
    for server in servers:
        for value in _secrets_of(server.values):
            try:
                secrets.value(value.name)
            except ActionFailed as error:
                found.append(f'MCP server "{server.name}": {error.message}')
    return found


def _secrets_of(values: Mapping[str, object]) -> Iterable[SecretValue]:
    return (value for value in values.values() if isinstance(value, SecretValue))
