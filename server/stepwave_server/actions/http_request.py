"""`http.request`: sends a request over HTTP, and answers with the response."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from stepwave._actions.action import action
from stepwave._actions.context import Context
from stepwave._values.payload import Blob
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.outbound import Outbound
from stepwave_server.actions.outbound.bodies import value_of
from stepwave_server.actions.outbound.outgoing import Outgoing, Value
from stepwave_server.actions.values import dump
from stepwave_server.core.info import namespace_of
from stepwave_server.core.model import Reason

__all__ = ["HttpAnswer", "http_request"]

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that have the same effect when a request is sent twice (RFC 9110, section 9.2.2)."""


class HttpAnswer(TypedDict):
    """The output of `http.request`, unless the body is bytes: these are the whole output then."""

    status: int
    headers: dict[str, str]
    body: object


Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


def http_request(outbound: Outbound) -> Callable[..., object]:
    """Return the action.

    Args:
        outbound: Sends its requests.
    """

    @action("http.request")
    async def request(
        url: Annotated[str, Field(max_length=65_536, description="The URL: http or https, without credentials.")],
        method: Annotated[Method, Field(description="The method.")] = "GET",
        headers: Annotated[
            dict[str, str] | None,
            Field(
                description="Header fields. A secret may fill one. Another origin gets none that a secret may be in."
            ),
        ] = None,
        query: Annotated[dict[str, Value] | None, Field(description="Parameters to add to the URL's query.")] = None,
        json: Annotated[object, Field(description="A body of JSON; null: none.")] = None,
        body: Annotated[str | None, Field(description="A body of text.")] = None,
        bearer: Annotated[
            str | None, Field(description="A token for the header Authorization, which a secret may be.")
        ] = None,
        accept_status: Annotated[
            list[Annotated[int, Field(ge=400, le=599)]] | None,
            Field(description="Statuses of 400 and above that are an answer, and no failure."),
        ] = None,
        max_redirects: Annotated[
            int, Field(ge=0, le=20, description="Redirects to follow; 0: a redirect is an answer.")
        ] = 5,
        *,
        context: Context,
    ) -> object:
        """Send an HTTP request, and answer with its status, headers and body; as idempotent as its method is.

        The output has `status`, `headers` and `body`: JSON or text, as the content type says. A body of bytes is the
        whole output. A status of 400 and above is a failure. With POST and PATCH, all attempts of the step send the
        same header `Idempotency-Key`.
        """
        content, usual = _content(json, body, outbound.max_bytes)
        if method not in IDEMPOTENT:
            usual["idempotency-key"] = context.idempotency_key
        if bearer is not None:
            usual["authorization"] = f"Bearer {bearer}"
        outgoing = Outgoing(
            namespace=namespace_of(context.idempotency_key),
            method=method,
            url=url,
            headers=_merged(usual, headers or {}),
            query=query or {},
            content=content,
            max_redirects=max_redirects,
        )
        async with await outbound.send(outgoing) as response:
            if response.status >= 400 and response.status not in (accept_status or ()):
                raise await response.failure()
            data = await response.read(outbound.max_bytes)
            value = value_of(data, response.headers.get("content-type", ""), response.origin)
            return _answer(response.status, response.headers, value)

    return request


def _answer(status: int, headers: Mapping[str, str], body: object) -> HttpAnswer | Blob:
    """Return the output. Bytes are the whole of it: JSON cannot hold them."""
    return body if isinstance(body, Blob) else HttpAnswer(status=status, headers=dict(headers), body=body)


def _content(json: object, body: str | None, max_bytes: int) -> tuple[bytes | None, dict[str, str]]:
    """Return the body of the request, and the header fields that belong to it.

    Raises:
        ActionFailed: There are two bodies.
    """
    if json is not None and body is not None:
        raise ActionFailed(Reason.INVALID_INPUT, "give json or body, not both")
    if body is not None:
        return body.encode(errors="surrogatepass"), {"content-type": "text/plain; charset=utf-8"}
    if json is None:
        return None, {}
    text = dump(json, max_bytes)
    assert isinstance(text, str), "the value is from JSON"
    return text.encode(), {"content-type": "application/json"}


def _merged(usual: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return header fields: those given, and the usual ones that are not among them."""
    names = {name.lower() for name in given}
    return {**{name: value for name, value in usual.items() if name not in names}, **given}
