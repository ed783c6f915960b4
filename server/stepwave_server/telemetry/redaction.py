"""Keeps values out of spans: texts that the current context must not show are replaced in spans that end in it."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, Status
from opentelemetry.util.types import Attributes

__all__ = ["Redact", "RedactingProcessor", "current_redaction", "set_redaction"]

Redact: TypeAlias = Callable[[str], str]
"""Returns a text without the values that it must not show."""

_redact: ContextVar[Redact | None] = ContextVar("stepwave_redact", default=None)


def set_redaction(redact: Redact | None) -> None:
    """Set how texts are redacted in the current context and in copies of it; `None`: not at all."""
    _redact.set(redact)


def current_redaction() -> Redact | None:
    """Return how texts are redacted in the current context; `None`: they may be shown as they are."""
    return _redact.get()


class RedactingProcessor(SpanProcessor):
    """Hands spans on to another processor, redacted as the context says in which they end.

    The server's own tracer provider has it. A process that sets a provider of its own puts it around its processors, so
    that secrets stay out of the spans of actions.

    Args:
        inner: The other processor.
    """

    def __init__(self, inner: SpanProcessor) -> None:
        self._inner = inner

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Hand on the start of a span, which has no attributes of importance yet."""
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Hand on a span, redacted."""
        redact = current_redaction()
        self._inner.on_end(span if redact is None else _redacted_span(span, redact))

    def shutdown(self) -> None:
        """Shut down the other processor."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the other processor."""
        return self._inner.force_flush(timeout_millis)


def _redacted_span(span: ReadableSpan, redact: Redact) -> ReadableSpan:
    description = span.status.description
    return ReadableSpan(
        name=redact(span.name),
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_attributes(span.attributes, redact, span.dropped_attributes),
        events=_bounded([_event(event, redact) for event in span.events], span.dropped_events),
        links=_bounded([_link(link, redact) for link in span.links], span.dropped_links),
        kind=span.kind,
        status=Status(span.status.status_code, None if description is None else redact(description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _event(event: Event, redact: Redact) -> Event:
    attributes = _attributes(event.attributes, redact, event.dropped_attributes)
    return Event(redact(event.name), attributes, event.timestamp)


def _link(link: Link, redact: Redact) -> Link:
    return Link(link.context, _attributes(link.attributes, redact, link.dropped_attributes))


def _attributes(attributes: Attributes, redact: Redact, dropped: int) -> BoundedAttributes:
    found = BoundedAttributes(attributes=_value(attributes or {}, redact), immutable=True)
    found.dropped = dropped
    return found


def _value(value: object, redact: Redact) -> Any:
    """Return the value of an attribute, redacted at every depth."""
    match value:
        case str():
            return redact(value)
        case bytes():
            return redact(value.decode("latin-1")).encode("latin-1", errors="replace")
        case Mapping():
            return {redact(str(key)): _value(item, redact) for key, item in value.items()}
        case Sequence():
            return [_value(item, redact) for item in value]
    return value


def _bounded(items: Sequence[object], dropped: int) -> Sequence[Any]:
    bounded: BoundedList[Any] = BoundedList.from_seq(None, items)
    bounded.dropped = dropped
    return bounded
