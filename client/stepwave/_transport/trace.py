"""The caller's trace, as W3C trace context (https://www.w3.org/TR/trace-context/) in a call's metadata."""

import sys

__all__ = ["trace_metadata"]


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Return `traceparent` and `tracestate` of the caller's current span; nothing if it has none.

    OpenTelemetry is not needed, and not imported: a caller that has a span has imported it.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return ()
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return ()
    parent = ("traceparent", f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}")
    state = span.trace_state.to_header()
    return (parent, ("tracestate", state)) if state else (parent,)
