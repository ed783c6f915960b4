"""The trace context of calls."""

import subprocess
import sys

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from stepwave._transport.channel import trace_metadata

TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
SPAN_ID = 0x00F067AA0BA902B7


def span(state: TraceState | None = None, flags: int = 1) -> NonRecordingSpan:
    return NonRecordingSpan(
        SpanContext(TRACE_ID, SPAN_ID, is_remote=False, trace_flags=TraceFlags(flags), trace_state=state)
    )


def test_without_a_span_there_is_no_metadata() -> None:
    assert trace_metadata() == ()


def test_a_callers_span_is_sent_as_w3c_trace_context() -> None:
    with trace.use_span(span()):
        assert trace_metadata() == (("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)


def test_a_span_that_is_not_sampled_has_that_flag() -> None:
    with trace.use_span(span(flags=0)):
        assert trace_metadata()[0][1].endswith("-00")


def test_the_trace_state_goes_along() -> None:
    with trace.use_span(span(TraceState([("vendor", "x")]))):
        assert trace_metadata()[1] == ("tracestate", "vendor=x")


def test_opentelemetry_is_not_imported_for_it() -> None:
    code = (
        "import sys\n"
        "from stepwave._transport.channel import trace_metadata\n"
        "assert trace_metadata() == ()\n"
        "assert 'opentelemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
