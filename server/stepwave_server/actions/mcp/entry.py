"""Where an MCP server is: the command that starts it, or its URL."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

__all__ = ["CONNECT_SECONDS", "HttpServer", "McpServer", "ReadSecrets", "SecretValue", "StdioServer", "Value"]

CONNECT_SECONDS = 30.0
"""How long the start of a server and the handshake may take, by default."""


@dataclass(frozen=True, slots=True)
class SecretValue:
    """The value of a secret of this process, which is read when a session is opened.

    Attributes:
        name: The name of the secret.
    """

    name: str


Value: TypeAlias = str | SecretValue

ReadSecrets: TypeAlias = Callable[[Iterable[str]], Awaitable[dict[str, str]]]
"""Returns the values of secrets by name. Raises `ActionFailed` if one has no usable value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioServer:
    """A server that is a process of this machine, and speaks over its standard input and output.

    Attributes:
        name: Its name in the configuration.
        command: The program, which is looked up in `PATH` unless it is a path.
        args: Its arguments.
        env: Its environment variables, beside a few of this process, such as `PATH` and `HOME`.
        cwd: Its working directory; `None`: that of this process.
        connect_timeout: How long its start and the handshake may take, in seconds.
    """

    name: str
    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, Value] = field(default_factory=dict)
    cwd: Path | None = None
    connect_timeout: float = CONNECT_SECONDS

    @property
    def values(self) -> Mapping[str, Value]:
        """The values that may be secrets."""
        return self.env


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpServer:
    """A server that is reached over streamable HTTP.

    Attributes:
        name: Its name in the configuration.
        url: Its URL, with `http` or `https`.
        headers: Header fields of all requests to it.
        ca: The authority of its certificate, in PEM; `None`: the public ones.
        connect_timeout: How long the handshake may take, in seconds.
    """

    name: str
    url: str
    headers: Mapping[str, Value] = field(default_factory=dict)
    ca: Path | None = None
    connect_timeout: float = CONNECT_SECONDS

    @property
    def values(self) -> Mapping[str, Value]:
        """The values that may be secrets."""
        return self.headers


McpServer: TypeAlias = StdioServer | HttpServer
