"""The caller's span, from the metadata of a call, and the span that is current while an action runs."""

import contextvars
from collections.abc import Mapping
from typing import Self

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stepwave_server.core.model import immutable

__all__ = ["TraceParent", "current_headers", "headers_of", "variables_of", "variables_with"]

PROPAGATOR = TraceContextTextMapPropagator()
TRACEPARENT = "traceparent"


@immutable
class TraceParent:
    """A W3C trace context, as its two headers.

    Attributes:
        traceparent: Trace id, span id and flags, as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
        tracestate: The vendors' part; may be empty.
    """

    traceparent: str
    tracestate: str = ""

    @classmethod
    def parse(cls, metadata: Mapping[str, str | bytes]) -> Self | None:
        """Return the trace context in a call's metadata; `None`: there is none, or it is malformed.

        Args:
            metadata: Values by key, keys in lower case.
        """
        if TRACEPARENT not in metadata:
            return None
        fields = {key: metadata.get(key) for key in PROPAGATOR.fields}
        carrier = {key: value for key, value in fields.items() if isinstance(value, str)}
        parsed: dict[str, str] = {}
        PROPAGATOR.inject(parsed, PROPAGATOR.extract(carrier, Context()))
        return cls(parsed["traceparent"], parsed.get("tracestate", "")) if parsed else None

    def context(self) -> Context:
        """Return the context in which the caller's span is current; empty if the headers are malformed."""
        return PROPAGATOR.extract({"traceparent": self.traceparent, "tracestate": self.tracestate}, Context())


def headers_of(context: Context) -> dict[str, str]:
    """Return a trace context as headers; empty: it has no span."""
    headers: dict[str, str] = {}
    PROPAGATOR.inject(headers, context)
    return headers


def current_headers() -> dict[str, str]:
    """Return the current trace context as headers; empty: there is no span."""
    return headers_of(get_current())


def variables_of(headers: Mapping[str, str]) -> contextvars.Context:
    """Return context variables in which the span that headers name is current."""
    return variables_with(PROPAGATOR.extract(headers, Context()))


def variables_with(context: Context) -> contextvars.Context:
    """Return a copy of the context variables, with a trace context."""
    variables = contextvars.copy_context()
    variables.run(attach, context)
    return variables
