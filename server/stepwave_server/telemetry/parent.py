"""The caller's span, as it comes in a call's metadata and is kept with the run."""

from collections.abc import Mapping
from typing import Self

from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stepwave_server.core.model import immutable

__all__ = ["TraceParent"]

PROPAGATOR = TraceContextTextMapPropagator()


@immutable
class TraceParent:
    """A W3C trace context in the form of its headers.

    Attributes:
        traceparent: Trace id, span id and flags, as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
        tracestate: What vendors add; often empty.
    """

    traceparent: str
    tracestate: str = ""

    @classmethod
    def parse(cls, metadata: Mapping[str, str | bytes]) -> Self | None:
        """Return the context that a call's metadata carries; `None` if there is none, or it is malformed.

        Args:
            metadata: Values by key, keys in lower case.
        """
        given = {key: metadata.get(key) for key in PROPAGATOR.fields}
        carrier = {key: value for key, value in given.items() if isinstance(value, str)}
        kept: dict[str, str] = {}
        PROPAGATOR.inject(kept, PROPAGATOR.extract(carrier, Context()))
        return cls(kept["traceparent"], kept.get("tracestate", "")) if kept else None

    def context(self) -> Context:
        """Return the context in which the caller's span is the current one; an empty one if it is malformed."""
        return PROPAGATOR.extract({"traceparent": self.traceparent, "tracestate": self.tracestate}, Context())
