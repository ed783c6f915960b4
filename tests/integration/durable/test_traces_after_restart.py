"""One trace for a run of several servers: every span once, exported by the server that saw its end."""

from collections import Counter
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integration.durable.restarts import Restarts
from integration.server.build import flow, step
from stepwave_server.telemetry import Telemetry

CHAIN = flow(step("a"), step("b", "controlled", after=["a"]), step("c", after=["b"]))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


class Exports:
    """The exported spans of each server. Each server has its own processor, which it shuts down."""

    def __init__(self) -> None:
        self._exporters: list[InMemorySpanExporter] = []

    def next(self) -> Telemetry:
        """Return the telemetry of the next server."""
        exporter = InMemorySpanExporter()
        self._exporters.append(exporter)
        return Telemetry(SimpleSpanProcessor(exporter))

    def spans(self) -> list[Sequence[ReadableSpan]]:
        """Return the spans of every server."""
        return [exporter.get_finished_spans() for exporter in self._exporters]

    def labels(self) -> list[Counter[str]]:
        """Return the labels of the spans of each server."""
        return [Counter(map(_label, spans)) for spans in self.spans()]


def _label(span: ReadableSpan) -> str:
    """Return a label of a span, such as `attempt b 2`."""
    attributes = span.attributes or {}
    parts = [attributes.get(f"stepwave.{name}") for name in ("wave", "step_id", "attempt")]
    kind = span.name.removeprefix("stepwave.")
    match kind:
        case "wave":
            return f"wave {parts[0]}"
        case "step":
            return f"step {parts[1]}"
        case "attempt":
            return f"attempt {parts[1]} {parts[2]}"
        case _:
            return kind


@pytest.fixture
def exports() -> Exports:
    return Exports()


async def _run_over_restart(restarts: Restarts, exports: Exports) -> None:
    metadata = [("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "vendor=x")]
    async with restarts.start(telemetry=exports.next()) as first:
        first.client.execute(CHAIN, run_id="live", window=60, metadata=metadata)
        await first.controlled.wait_started("b")
    async with restarts.start(telemetry=exports.next()) as second:
        second.controlled.release("b")
        await second.client.events("live")


async def test_every_span_is_exported_once_by_the_server_that_saw_its_end(restarts: Restarts, exports: Exports) -> None:
    await _run_over_restart(restarts, exports)
    first, second = exports.labels()
    assert first == Counter(["attempt a 1", "step a", "wave 0"])
    assert second == Counter(
        ["attempt b 1", "attempt b 2", "step b", "wave 1", "attempt c 1", "step c", "wave 2", "run"]
    )


async def test_all_spans_of_a_run_are_in_its_callers_trace_with_the_right_parents(
    restarts: Restarts, exports: Exports
) -> None:
    await _run_over_restart(restarts, exports)
    spans = [span for exported in exports.spans() for span in exported]
    contexts = {_label(span): span.get_span_context() for span in spans}
    assert {f"{context.trace_id:032x}" for context in contexts.values() if context is not None} == {TRACE}
    ids = {context.span_id: label for label, context in contexts.items() if context is not None}
    assert len(ids) == len(spans), "two spans have one id"
    parents = {
        _label(span): ids.get(span.parent.span_id, f"{span.parent.span_id:016x}") for span in spans if span.parent
    }
    waves = {"a": "wave 0", "b": "wave 1", "c": "wave 2"}
    assert parents == {
        "run": SPAN,
        **dict.fromkeys(waves.values(), "run"),
        **{f"step {step_id}": wave for step_id, wave in waves.items()},
        **{f"attempt {step_id} 1": f"step {step_id}" for step_id in waves},
        "attempt b 2": "step b",
    }


async def test_the_spans_of_a_run_begin_with_the_run_and_not_with_the_server(
    restarts: Restarts, exports: Exports
) -> None:
    await _run_over_restart(restarts, exports)
    before, after = ({_label(span): span for span in spans} for spans in exports.spans())
    starts = [span.start_time for span in (after["run"], before["wave 0"], before["step a"], after["wave 1"])]
    assert None not in starts
    assert starts == sorted(start for start in starts if start is not None)
    assert after["attempt b 1"].start_time == after["wave 1"].start_time


async def test_a_run_that_had_ended_is_not_exported_again(restarts: Restarts, exports: Exports) -> None:
    async with restarts.start(telemetry=exports.next()) as first:
        await first.client.run(flow(step("a")), run_id="ended")
    async with restarts.start(telemetry=exports.next()) as second:
        await second.client.events("ended")
    assert [sum(labels.values()) for labels in exports.labels()] == [4, 0]


async def test_a_paused_run_is_exported_by_the_server_that_ends_it(restarts: Restarts, exports: Exports) -> None:
    async with restarts.start(telemetry=exports.next()) as first:
        await first.client.start(CHAIN, run_id="live")
        await first.controlled.wait_started("b")
    async with restarts.start(telemetry=exports.next(), recover="pause"):
        pass
    async with restarts.start(telemetry=exports.next()) as third:
        third.controlled.release("b")
        await third.client.events("live")
    _, second, last = exports.labels()
    assert not second
    assert last["run"] == last["wave 1"] == 1
