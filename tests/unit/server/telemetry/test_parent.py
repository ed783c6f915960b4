"""The caller's span, from the metadata of a call."""

import pytest
from opentelemetry.trace import get_current_span

from stepwave_server.telemetry import TraceParent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_a_trace_context_is_read_from_metadata() -> None:
    metadata = {"user-agent": "x", "traceparent": GOOD, "tracestate": "a=1,b=2"}
    assert TraceParent.parse(metadata) == TraceParent(GOOD, "a=1,b=2")


def test_its_context_refers_to_the_callers_span() -> None:
    span = get_current_span(TraceParent(GOOD).context()).get_span_context()
    assert (f"{span.trace_id:032x}", f"{span.span_id:016x}") == (TRACE, SPAN)
    assert span.is_remote
    assert span.trace_flags.sampled


def test_a_later_version_is_read_as_the_known_version() -> None:
    assert TraceParent.parse({"traceparent": f"cc-{TRACE}-{SPAN}-01-more"}) == TraceParent(GOOD)


def test_a_malformed_tracestate_is_dropped_without_the_trace() -> None:
    assert TraceParent.parse({"traceparent": GOOD, "tracestate": "=,="}) == TraceParent(GOOD)


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "junk",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        GOOD.encode(),
    ],
)
def test_a_malformed_trace_context_is_none(traceparent: str | bytes) -> None:
    assert TraceParent.parse({"traceparent": traceparent}) is None


def test_without_a_trace_context_there_is_none() -> None:
    assert TraceParent.parse({"tracestate": "a=1"}) is None


def test_the_context_of_malformed_headers_has_no_span() -> None:
    assert not get_current_span(TraceParent("junk").context()).get_span_context().is_valid
