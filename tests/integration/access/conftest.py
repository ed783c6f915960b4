"""Servers that ask callers who they are, and what callers show them."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import grpc
import pytest
import trustme

from integration.access.calls import Answer, answer_of
from stepwave import AsyncClient
from stepwave.v1 import orchestrator_pb2_grpc
from stepwave_server.access.tokens import hash_of
from stepwave_server.app import Server
from stepwave_server.config import Settings

ROLES = ("viewer", "runner", "admin")

TOKENS = {f"{role}-{namespace}": {namespace: role} for role in ROLES for namespace in ("default", "research")}
TOKENS["nobody"] = {}
TOKENS["operator"] = {"*": "admin"}


class Serve(Protocol):
    """Starts a server."""

    async def __call__(self, *, actions: Iterable[object] = (), **settings: object) -> Server: ...


class Call(Protocol):
    """Makes one call, and returns how it ended."""

    async def __call__(self, method: str, *, token: str = "", **fields: object) -> Answer: ...


def access_text(tokens: Mapping[str, Mapping[str, str]] = TOKENS, extra: str = "") -> str:
    """Return an access file with two namespaces. The token of each name is the name itself."""
    lines = ["[namespaces.default]", "[namespaces.research]"]
    for name, roles in tokens.items():
        held = ", ".join(f'"{namespace}" = "{role}"' for namespace, role in roles.items())
        lines += ["[[tokens]]", f'name = "{name}"', f'sha256 = "{hash_of(name)}"', f"roles = {{{held}}}"]
    return "\n".join([*lines, extra, ""])


@pytest.fixture
def access(tmp_path: Path) -> Path:
    path = tmp_path / "access.toml"
    path.write_text(access_text())
    return path


@pytest.fixture
async def serve(access: Path) -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def start(*, actions: Iterable[object] = (), **settings: object) -> Server:
            usual: dict[str, object] = {"listen": "127.0.0.1:0", "entry_points": False, "access": access}
            server = Server(Settings.model_validate({**usual, **settings}), actions=actions)
            return await stack.enter_async_context(server)

        yield start


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve()


@pytest.fixture
async def call(server: Server) -> AsyncIterator[Call]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)

        async def make(method: str, *, token: str = "", **fields: object) -> Answer:
            async with asyncio.timeout(30):
                return await answer_of(stub, method, token, fields)

        yield make


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Mapping[str, Path]:
    """The settings with a server's certificate, and with the authority that signed it."""
    return write_certificate(authority, tmp_path)


def write_certificate(authority: trustme.CA, folder: Path) -> Mapping[str, Path]:
    """Write a new certificate for this machine, and return the settings of a server with it."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    paths = {"tls_cert": folder / "server.pem", "tls_key": folder / "server.key"}
    issued.private_key_pem.write_to_path(paths["tls_key"])
    paths["tls_cert"].write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return paths


def encrypted_client(server: Server, folder: Path, **options: object) -> AsyncClient:
    """Return a client that trusts the authority in a folder."""
    return AsyncClient(server.address, tls_ca=folder / "ca.pem", connect_timeout=1, **options)  # type: ignore[arg-type]  # as the client checks
