"""Envoy with the shipped configuration, in front of the servers of a test."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from integration.deploy.tools import DEPLOY, system_tool
from integration.durable.server_process import free_address
from integration.server.raw_client import GUARD

__all__ = ["envoy"]

ENDPOINT = """\
              - endpoint:
                  address:
                    socket_address: {address: 127.0.0.1, port_value: 50051}    # the server
"""


@asynccontextmanager
async def envoy(folder: Path, *servers: str) -> AsyncIterator[str]:
    """Run Envoy, and yield its address.

    Args:
        folder: Where its configuration is written.
        servers: The addresses of the servers. Each is an endpoint.
    """
    address = free_address()
    config = folder / "envoy.yaml"
    config.write_text(_config(address, servers), "utf-8")
    options = ["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"]
    command = [system_tool("envoy"), "-c", str(config), *options]
    process = await asyncio.create_subprocess_exec(*command, cwd=DEPLOY)
    try:
        await _wait_until_it_listens(process, address)
        yield address
    finally:
        process.kill()
        await process.wait()


def _config(address: str, servers: Sequence[str]) -> str:
    """Return the shipped configuration with other addresses."""
    config = (DEPLOY / "envoy.yaml").read_text("utf-8")
    endpoints = "".join(ENDPOINT.replace("50051", _port(server)) for server in servers)
    for shipped, own in {ENDPOINT: endpoints, "port_value: 8080": f"port_value: {_port(address)}"}.items():
        assert config.count(shipped) == 1
        config = config.replace(shipped, own)
    return config


def _port(address: str) -> str:
    return address.rpartition(":")[2]


async def _wait_until_it_listens(process: Process, address: str) -> None:
    host, _, port = address.partition(":")
    async with asyncio.timeout(GUARD):
        while process.returncode is None:
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                return
            await asyncio.sleep(0.01)  # it only logs this before it is true
    raise AssertionError(f"Envoy exits with {process.returncode}")
