"""Where a service of actions is, how it is reached, and the names that its actions have here."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["RemoteAction", "Runnable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteAction:
    """An action of a service, under a name of its own.

    Attributes:
        name: The name by which steps refer to it.
        remote: Its name at the service.
        description: What it does, for `ListActions`.
        input_schema: A JSON Schema of its input, as JSON text; empty: any input.
        output_schema: A JSON Schema of its output, as JSON text; empty: not known.
        idempotent: Whether to run it twice has the same effect as to run it once; false: not known.
    """

    name: str
    remote: str
    description: str = ""
    input_schema: str = ""
    output_schema: str = ""
    idempotent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Runnable:
    """A service of actions.

    Attributes:
        name: Its name in the configuration.
        address: `HOST:PORT`, whose addresses take turns, or `unix:PATH`.
        tls: Whether connections are encrypted.
        ca: The authority of its certificate, in PEM; `None`: the public ones.
        cert: The certificate that this server shows, in PEM; `None`: none.
        key: The private key of that certificate, in PEM.
        server_name: The name in the service's certificate; empty: that of the address.
        health: The service whose health is watched; empty: that of the host as a whole.
        stream: Whether it has `Stream`; otherwise it has `Invoke` alone.
        actions: Its actions that have names of their own.
    """

    name: str
    address: str
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str = ""
    health: str = ""
    stream: bool = True
    actions: tuple[RemoteAction, ...] = ()
