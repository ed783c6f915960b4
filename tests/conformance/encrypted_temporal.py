"""Temporal behind TLS: a proxy in front of its development server, and the files for its clients."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trustme

__all__ = ["EncryptedTemporal"]


class EncryptedTemporal:
    """A proxy with TLS in front of a server of Temporal, and files in a folder.

    Args:
        address: The address of Temporal, which is plain text.
        folder: The folder.

    Attributes:
        authority: The authority that signs the certificates of the proxy and its clients.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.authority = trustme.CA()
        self._host, _, self._port = address.partition(":")
        self._folder = folder
        self._connections: set[asyncio.Task[None]] = set()
        self._transports: list[asyncio.WriteTransport] = []

    @asynccontextmanager
    async def serving(self, *, clients: bool = False) -> AsyncIterator[str]:
        """Serve, and yield the address.

        Args:
            clients: Whether each client must have a certificate.
        """
        context = self._context(clients=clients)

        def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = asyncio.create_task(self._connect(reader, writer, context))
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)

        server = await asyncio.start_server(forward, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            for transport in self._transports:  # one with TLS that is closed may still wait for its client
                transport.abort()

    def trusted(self, authority: trustme.CA | None = None) -> Mapping[str, Path]:
        """Write the certificate of an authority, by default the own one, and return the setting that names it."""
        path = self._folder / "ca.pem"
        (authority or self.authority).cert_pem.write_to_path(path)
        return {"temporal_tls_ca": path}

    def client(self, authority: trustme.CA | None = None) -> Mapping[str, Path]:
        """Write a client's certificate of an authority, by default the own one, and return its settings."""
        issued = (authority or self.authority).issue_cert("client.example.org")
        certificate, key = self._folder / "client.pem", self._folder / "client.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return {"temporal_tls_cert": certificate, "temporal_tls_key": key}

    def _context(self, *, clients: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        context.set_alpn_protocols(["h2"])
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        return context

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext
    ) -> None:
        """Copy bytes both ways until a side closes the connection. A client that fails its handshake is left alone."""
        self._transports.append(writer.transport)
        try:
            await writer.start_tls(context)
        except OSError:
            return
        temporal, to_temporal = await asyncio.open_connection(self._host, int(self._port))
        self._transports.append(to_temporal.transport)
        await asyncio.gather(_copy(reader, to_temporal), _copy(temporal, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
