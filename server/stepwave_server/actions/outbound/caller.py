"""The sender of the requests of built-in actions. The HTTP library is imported with the first one."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.outbound.addresses import AllowList
from stepwave_server.actions.outbound.outgoing import Outgoing
from stepwave_server.actions.threads import run_in_thread
from stepwave_server.core.model import MAX_PAYLOAD_BYTES, Reason

if TYPE_CHECKING:
    from stepwave_server.actions.outbound.client import HttpClient, Incoming

__all__ = ["Outbound"]


class Outbound:
    """Sends requests of built-in actions. Nothing is opened before the first one.

    It belongs to the event loop of the first request.

    Args:
        allowed: The closed addresses that are open.
        max_bytes: Bound on a response, without its compression.

    Attributes:
        max_bytes: See above.
    """

    def __init__(self, allowed: AllowList = AllowList(), *, max_bytes: int = MAX_PAYLOAD_BYTES) -> None:  # noqa: B008 - immutable
        self.max_bytes = max_bytes
        self._allowed = allowed
        self._client: HttpClient | None = None
        self._opening = asyncio.Lock()

    async def send(self, outgoing: Outgoing) -> AbstractAsyncContextManager["Incoming"]:
        """Return a context that sends a request, and gives the response. Its end closes the response.

        In the context, a broken connection raises `ActionFailed`, too.

        Raises:
            ActionFailed: The certificates of authorities cannot be read.
        """
        client = self._client or await self._open()
        return client.send(outgoing)

    async def _open(self) -> "HttpClient":
        async with self._opening:
            if self._client is None:
                self._client = await run_in_thread(_new_client, self._allowed)
        return self._client

    async def close(self) -> None:
        """Close all connections. A later request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def _new_client(allowed: AllowList) -> "HttpClient":
    """Return a client. The import and the certificates take a while: call it on a thread.

    Raises:
        ActionFailed: The certificates cannot be read.
    """
    from stepwave_server.actions.outbound.client import HttpClient

    try:
        return HttpClient(allowed)
    except OSError as error:
        message = f"the certificates of authorities cannot be read: {error.strerror} (SSL_CERT_FILE, SSL_CERT_DIR)"
        raise ActionFailed(Reason.INTERNAL, message) from None
