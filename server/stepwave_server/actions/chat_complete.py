"""`chat.complete`: asks a chat model at an endpoint that speaks the protocol of OpenAI, and streams its answer."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from stepwave._actions.action import action
from stepwave._actions.context import Answer, Context
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.outbound import Outbound
from stepwave_server.actions.outbound.bodies import is_json
from stepwave_server.actions.outbound.completion import ChatAnswer, Completion
from stepwave_server.actions.outbound.outgoing import Outgoing
from stepwave_server.actions.outbound.sse import events_in
from stepwave_server.actions.values import dump
from stepwave_server.core.info import namespace_of
from stepwave_server.core.model import Reason

if TYPE_CHECKING:
    from stepwave_server.actions.outbound.client import Incoming

__all__ = ["ChatAnswer", "chat_complete"]

END = "[DONE]"
"""The event that ends a stream."""

PATH = "/chat/completions"
EVENTS = "text/event-stream"
_OWN = ("model", "messages", "tools", "stream", "n")
"""Parameters of the protocol that are no options: they have inputs of their own, or are the action's."""


def chat_complete(outbound: Outbound) -> Callable[..., object]:
    """Return the action.

    Args:
        outbound: Sends its requests.
    """

    @action("chat.complete")
    async def complete(
        url: Annotated[
            str, Field(max_length=65_536, description="The base URL, such as https://models.example.com/v1.")
        ],
        model: Annotated[str, Field(description="The name of the model.")],
        messages: Annotated[
            list[dict[str, object]], Field(min_length=1, description="The messages, with role and content.")
        ],
        tools: Annotated[list[dict[str, object]] | None, Field(description="The tools that it may call.")] = None,
        options: Annotated[
            dict[str, object] | None,
            Field(description="Other parameters of the protocol, such as temperature; null leaves one out."),
        ] = None,
        api_key: Annotated[
            str | None, Field(description="A key for the header Authorization, which a secret may be.")
        ] = None,
        headers: Annotated[dict[str, str] | None, Field(description="Other header fields.")] = None,
        *,
        context: Context,
    ) -> AsyncIterator[str | Answer]:
        """Ask a chat model, and stream the text of its answer; not idempotent: each attempt asks again.

        The output has `text`, `refusal`, `tool_calls` (with `id`, `name` and `arguments`), `finish_reason`, `usage` and
        `model`.
        """
        content = _content(_parameters(model, messages, tools, options or {}), outbound.max_bytes)
        usual = {
            "accept": EVENTS,
            "accept-encoding": "identity",
            "content-type": "application/json",
            "idempotency-key": context.idempotency_key,
            **({} if api_key is None else {"authorization": f"Bearer {api_key}"}),
        }
        fields = usual | {name.lower(): value for name, value in (headers or {}).items()}
        namespace = namespace_of(context.idempotency_key)
        outgoing = Outgoing(namespace=namespace, method="POST", url=_endpoint(url), headers=fields, content=content)
        async with await outbound.send(outgoing) as response:
            if response.status != 200:
                raise await response.failure()
            completion = Completion(response.origin, outbound.max_bytes)
            async with aclosing(_texts(response, completion, outbound.max_bytes)) as texts:
                async for text in texts:
                    yield text
        yield Answer(completion.output())  # type: ignore[arg-type]  # it is JSON

    return complete


async def _texts(response: "Incoming", completion: Completion, max_bytes: int) -> AsyncGenerator[str, None]:
    """Read an answer, and return the parts of its text as they come.

    Raises:
        ActionFailed: It is no answer, or not a whole one.
    """
    kind = response.headers.get("content-type", EVENTS)
    if is_json(kind):  # the endpoint does not stream
        text = completion.add((await response.read(max_bytes)).decode(errors="replace"))
        if text:
            yield text
        return
    if not kind.lower().startswith(EVENTS):
        message = f"{response.origin} answered {kind.partition(';')[0]}, which is no stream of events"
        raise ActionFailed(Reason.ACTION_ERROR, message, retryable=True)
    async with aclosing(events_in(response.parts(), max_bytes)) as events:
        async for event in events:
            if event.strip() == END:
                return
            text = completion.add(event)
            if text:
                yield text
    if completion.finish_reason is None:
        message = f"{response.origin} ended the stream before the answer was complete"
        raise ActionFailed(Reason.UNAVAILABLE, message, retryable=True)


def _parameters(
    model: str,
    messages: list[dict[str, object]],
    tools: list[dict[str, object]] | None,
    options: Mapping[str, object],
) -> dict[str, object]:
    """Return the parameters of the request.

    Raises:
        ActionFailed: An option has an input of its own.
    """
    taken = [name for name in _OWN if name in options]
    if taken:
        raise ActionFailed(Reason.INVALID_INPUT, f"options: {', '.join(taken)} cannot be set there")
    found = {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    found |= {"tools": tools or None, **options}
    return {name: value for name, value in found.items() if value is not None}


def _content(parameters: Mapping[str, object], max_bytes: int) -> bytes:
    text = dump(parameters, max_bytes)
    assert isinstance(text, str), "the value is no blob"
    return text.encode()


def _endpoint(url: str) -> str:
    """Return the URL of the endpoint. A query of the base URL stays at its end."""
    base, mark, query = url.partition("?")
    base = base.rstrip("/")
    return f"{base if base.endswith(PATH) else base + PATH}{mark}{query}"
