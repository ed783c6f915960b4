"""Requests over HTTP and their responses: checks of the URL and the headers, redirects, and bounds.

Redirects follow RFC 9110, section 15.4. To another origin go only header fields that say nothing about the caller.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from importlib.metadata import version

import httpx

from stepwave_server.actions.error_classification import classify_response
from stepwave_server.actions.failures import ActionFailed, cut
from stepwave_server.actions.outbound.addresses import AllowList
from stepwave_server.actions.outbound.outgoing import OF_CONNECTION, Outgoing, Value, checked_headers
from stepwave_server.actions.outbound.transport import NAMED_FAILURES, Transport, connection_failure
from stepwave_server.core.model import Reason
from stepwave_server.telemetry.redaction import current_redaction

__all__ = ["HttpClient", "Incoming"]

MAX_ERROR_BYTES = 256 << 10
"""Bytes of an error's body that are read. The longest secret is far shorter, so none is cut before it is found."""

MAX_ERROR_TEXT = 500
"""Characters of an error's body that a failure shows."""

MAX_PACKING = 64 << 10
"""Bytes by which a compressed body may be longer than the bound of what it stands for."""

PARTS_IN_A_ROW = 100
"""Parts of a body after which other tasks have a turn."""

MAX_PORT = 65_535

_GZIP = b"\x1f"  # the first byte of a member

_SCHEMES = ("http", "https")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")

_ANYWHERE = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "idempotency-key", "user-agent"})
"""Header fields that a redirect to another origin keeps, unless a secret is in them."""

_HIDDEN = OF_CONNECTION - {"content-length"} | {"keep-alive", "proxy-authenticate", "set-cookie", "content-encoding"}
"""Header fields of responses that are not shown: those of the connection, and credentials."""

_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})


@dataclass(frozen=True, slots=True)
class Incoming:
    """A response, whose body is still to be read.

    Attributes:
        status: The status.
        headers: The header fields, with names in lower case.
        origin: The origin that gave it, for messages.
    """

    status: int
    headers: Mapping[str, str]
    origin: str
    _response: httpx.Response

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """Return the parts of the body as they come, without decompression. Other tasks have a turn now and then.

        Many small parts that come together would otherwise keep the event loop.
        """
        count = 0
        async for part in self._response.aiter_raw():
            count += 1
            if count % PARTS_IN_A_ROW == 0:
                await asyncio.sleep(0)
            yield part

    async def read(self, most: int) -> bytes:
        """Return the whole body, decompressed.

        Raises:
            ActionFailed: It has more than `most` bytes, of which no more are read; or it cannot be decompressed.
        """
        data, whole = await self._read(most)
        if not whole:
            message = f"{self.origin} answered more than the {most:,} bytes allowed"
            raise ActionFailed(Reason.RESOURCE_EXHAUSTED, message)
        return data

    async def failure(self) -> ActionFailed:
        """Return the failure for a status that is no answer, with the beginning of the body."""
        try:
            data, _ = await self._read(MAX_ERROR_BYTES)
        except (ActionFailed, *NAMED_FAILURES):  # it cannot be decompressed, or breaks off
            data = b""
        classification = classify_response(self.status, self.headers)
        text = _shown(data)
        return ActionFailed(
            classification.reason,
            f"{self.origin} answered {_status_text(self.status)}{f': {text}' if text else ''}",
            retryable=classification.retryable,
            retry_after=classification.retry_after,
        )

    async def _read(self, most: int) -> tuple[bytes, bool]:
        """Return the body up to a number of bytes, and whether that is all."""
        if self._announces_more_than(most):
            return b"", False
        data, size, unpacker = bytearray(), 0, self._unpacker()
        try:
            async with aclosing(self.parts()) as parts:
                async for part in parts:
                    size += len(part)
                    data += part if unpacker is None else unpacker.unpack(part, most + 1 - len(data))
                    if len(data) > most or size > most + MAX_PACKING:
                        return bytes(data[:most]), False
                    if unpacker is not None and unpacker.ended:
                        break
        except zlib.error:
            raise self._malformed("a body that is not compressed as it says") from None
        if unpacker is not None and size and not unpacker.complete:
            raise self._malformed("a part of a compressed body")
        return bytes(data), True

    def redirected(self, outgoing: Outgoing) -> Outgoing | None:
        """Return the request that follows a redirect; `None`: it is none.

        Raises:
            ActionFailed: The target is no URL.
        """
        target = self.headers.get("location") if self.status in _REDIRECTS else None
        return None if target is None else _redirected(outgoing, self._response.request.url, target, self.status)

    def _announces_more_than(self, most: int) -> bool:
        length = self._response.headers.get("content-length", "")
        return self._response.request.method != "HEAD" and length.isdecimal() and int(length[:20]) > most

    def _unpacker(self) -> "_Unpacker | None":
        """Return what decompresses the body in bounded steps; `None`: it is not compressed."""
        encoding = self._response.headers.get("content-encoding", "identity").strip().lower()
        if encoding in {"identity", ""}:
            return None
        if encoding not in _COMPRESSED:
            raise self._malformed("a body in a compression that was not asked for")
        return _Unpacker()

    def _malformed(self, what: str) -> ActionFailed:
        return ActionFailed(Reason.ACTION_ERROR, f"{self.origin} answered {what}", retryable=True)


class _Unpacker:
    """Decompresses a body in bounded steps: of zlib, or of gzip, which may have several members (RFC 1952).

    Attributes:
        ended: Whether the body has ended. What follows is no part of it, and is not read.
    """

    def __init__(self) -> None:
        self.ended = False
        self._member = _new_member()

    @property
    def complete(self) -> bool:
        """Whether the body may end here."""
        return self._member.eof

    def unpack(self, part: bytes, most: int) -> bytes:
        """Return at most `most` bytes that the next part of the body stands for.

        Raises:
            zlib.error: It is not compressed so.
        """
        data = bytearray()
        while part and not self.ended and len(data) < most:
            if self._member.eof:
                if not part.startswith(_GZIP):
                    self.ended = True
                    break
                self._member = _new_member()
            data += self._member.decompress(part, most - len(data))
            part = self._member.unused_data
        return bytes(data)


def _new_member() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, as its header says


class HttpClient:
    """Sends requests. It has no cookies, and reads neither proxies nor credentials from the environment.

    Args:
        allowed: The closed addresses that are open.

    Raises:
        OSError: The certificates of authorities cannot be read.
    """

    def __init__(self, allowed: AllowList) -> None:
        self._transport = Transport(allowed)
        self._agent = f"stepwave/{version('stepwave')}"

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    @asynccontextmanager
    async def send(self, outgoing: Outgoing) -> AsyncIterator[Incoming]:
        """Send a request, follow its redirects, and give the response.

        Raises:
            ActionFailed: The request is malformed, its address is not allowed, or there is no whole response.
        """
        origin = ""
        for _ in range(outgoing.max_redirects + 1):
            async with self._response(outgoing) as incoming:
                following = incoming.redirected(outgoing) if outgoing.max_redirects else None
                if following is None:
                    yield incoming
                    return
            outgoing, origin = following, incoming.origin
        message = f"{origin} redirected further than the {outgoing.max_redirects} times allowed"
        raise ActionFailed(Reason.ACTION_ERROR, message)

    @asynccontextmanager
    async def _response(self, outgoing: Outgoing) -> AsyncIterator[Incoming]:
        """Send one request, and give its response."""
        request = self._request(outgoing)
        origin = _origin(request.url)
        try:
            response = await self._transport.send(request, outgoing.namespace)
            try:
                yield Incoming(response.status_code, _headers(response), origin, response)
            finally:
                await response.aclose()
        except NAMED_FAILURES as error:
            raise connection_failure(error, origin) from None

    def _request(self, outgoing: Outgoing) -> httpx.Request:
        """Return the request for the library.

        Raises:
            ActionFailed: The URL or a header field is malformed.
        """
        url = _checked_url(outgoing.url, outgoing.query)
        usual = {"accept": "*/*", "accept-encoding": "gzip, deflate", "user-agent": self._agent}
        headers = usual | checked_headers(outgoing.headers)
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        return httpx.Request(outgoing.method, url, headers=raw, content=outgoing.content)


def _checked_url(text: str, query: Mapping[str, Value]) -> httpx.URL:
    """Return a URL with more parameters in its query.

    Raises:
        ActionFailed: It is malformed, or not allowed.
    """
    try:
        url = httpx.URL(text)
        if query:
            given = b"&".join(part for part in (url.query, str(httpx.QueryParams(dict(query))).encode()) if part)
            url = url.copy_with(query=given)
    except (httpx.InvalidURL, ValueError) as error:
        raise ActionFailed(Reason.INVALID_INPUT, "the URL is malformed") from error
    if problem := _problem_of(url):
        raise ActionFailed(Reason.INVALID_INPUT, problem)
    return url


def _problem_of(url: httpx.URL) -> str:
    """Return why no request can go to a URL; empty: one can."""
    if url.scheme not in _SCHEMES:
        return f'a URL begins with http:// or https://, not "{cut(url.scheme, 20)}"'
    if not url.host:
        return "the URL has no host"
    if not _HOST.fullmatch(url.raw_host.decode("ascii")) or (url.port or 0) > MAX_PORT:
        return "the URL is malformed"
    return "the URL has a user name or password: put credentials into headers" if url.userinfo else ""


def _origin(url: httpx.URL) -> str:
    """Return the origin of a URL, for messages: the rest of it may have secrets."""
    return f"{url.scheme}://{url.netloc.decode()}"


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in _HIDDEN}


def _redirected(outgoing: Outgoing, url: httpx.URL, target: str, status: int) -> Outgoing:
    """Return the request that follows a redirect."""
    try:
        joined = url.join(target)
    except (httpx.InvalidURL, ValueError):
        message = f"{_origin(url)} redirected to a malformed URL"
        raise ActionFailed(Reason.ACTION_ERROR, message) from None
    if problem := _problem_of(joined):
        raise ActionFailed(Reason.ACTION_ERROR, f"{_origin(url)} redirected where no request can go: {problem}")
    becomes_get = outgoing.method != "HEAD" if status == 303 else outgoing.method == "POST" and status < 303
    headers = outgoing.headers
    if becomes_get:
        headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        outgoing = replace(outgoing, method="GET", content=None)
    if _origin(joined) != _origin(url):
        headers = {name: it for name, it in headers.items() if name.lower() in _ANYWHERE and not _has_secret(it)}
        if outgoing.content is not None and _has_secret(outgoing.content.decode(errors="replace")):
            message = f"{_origin(url)} redirected to {_origin(joined)}, which may not get the secret in the body"
            raise ActionFailed(Reason.UNAUTHORIZED, message)
    return replace(outgoing, url=str(joined), headers=headers, query={})


def _has_secret(text: str) -> bool:
    """Return whether a text of the attempt has a secret in it."""
    redact = current_redaction()
    return redact is not None and redact(text) != text


def _status_text(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _shown(data: bytes) -> str:
    """Return the beginning of a body for a message, on one line, without secrets; empty: it is no text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return ""
    redact = current_redaction()
    text = redact(text) if redact is not None else text
    return cut(" ".join(text.split()), MAX_ERROR_TEXT)
