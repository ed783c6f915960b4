"""Telemetry from OpenTelemetry's environment variables."""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint, EntryPoints
from typing import TypeAlias

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor

from stepwave_server.core.messages import RunFinished, RunStarted
from stepwave_server.core.model import State
from stepwave_server.telemetry import Telemetry, TelemetryUnavailable, environment

FINISHED = RunFinished(2, State.SUCCEEDED, 1, (), (), 0, (), 0, (0,) * len(State))

HTTP_PACKAGE = "opentelemetry-exporter-otlp-proto-http"

INSTALLED = EntryPoints(
    EntryPoint(name, value, "opentelemetry_traces_exporter")
    for name, value in [
        ("console", "opentelemetry.sdk.trace.export:ConsoleSpanExporter"),
        ("otlp_proto_grpc", "opentelemetry.exporter.otlp.proto.grpc.trace_exporter:OTLPSpanExporter"),
        ("unusable", "opentelemetry.nowhere:Exporter"),
    ]
)

ONE_RUN = """
from stepwave_server.core.messages import RunFinished
from stepwave_server.core.model import State
from stepwave_server.telemetry import Telemetry
telemetry = Telemetry.from_environment()
tracer = telemetry.run(namespace="default", run_id="run", workflow_name="flow", parent=None)
tracer.add([RunFinished(2, State.SUCCEEDED, 1, (), (), 0, (), 0, (0,) * 6)])
telemetry.shutdown(0.5)
"""

Requests: TypeAlias = queue.Queue[trace_service_pb2.ExportTraceServiceRequest]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


def _trace_one_run(telemetry: Telemetry) -> None:
    tracer = telemetry.run(namespace="default", run_id="run", workflow_name="flow", parent=None)
    tracer.add([RunStarted(1, (), more=False, step_count=0, deadline=None, open=False), FINISHED])


class _Servicer(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.requests: Requests = queue.Queue()

    def Export(  # noqa: N802 - the contract's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.requests.put(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Requests]:
    """An OTLP collector at `OTEL_EXPORTER_OTLP_ENDPOINT`. Returns the queue of its requests."""
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = _Servicer()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated so
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    yield servicer.requests
    server.stop(None).wait()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_TRACES_EXPORTER": ""},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "None", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_SERVICE_NAME": "shop", "OTEL_TRACES_SAMPLER": "always_on"},
    ],
)
def test_without_an_exporter_there_is_no_telemetry(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Telemetry.from_environment() is None


def test_an_endpoint_without_an_exporter_means_otlp(collector: Requests) -> None:
    telemetry = Telemetry.from_environment()
    assert telemetry is not None
    _trace_one_run(telemetry)
    telemetry.shutdown()
    [of_resource] = collector.get(timeout=10).resource_spans
    assert {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}["service.name"] == "stepwave"
    [of_scope] = of_resource.scope_spans
    assert of_scope.scope.name == "stepwave"
    assert [span.name for span in of_scope.spans] == ["stepwave.run"]


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_SERVICE_NAME": "shop"},
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,region=eu"},
        {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other"},
    ],
)
def test_the_environment_names_the_service(
    variables: dict[str, str], collector: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    telemetry = Telemetry.from_environment()
    assert telemetry is not None
    _trace_one_run(telemetry)
    telemetry.shutdown()
    attributes = collector.get(timeout=10).resource_spans[0].resource.attributes
    assert {pair.key: pair.value.string_value for pair in attributes}["service.name"] == "shop"


@pytest.mark.parametrize(("ratio", "spans"), [("0", 0), ("1", 1)])
def test_the_environment_chooses_the_share_of_runs_that_are_sampled(
    ratio: str, spans: int, collector: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    telemetry = Telemetry.from_environment()
    assert telemetry is not None
    _trace_one_run(telemetry)
    telemetry.shutdown()
    assert collector.qsize() == spans


def test_the_environment_chooses_the_sampler(collector: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    telemetry = Telemetry.from_environment()
    assert telemetry is not None
    _trace_one_run(telemetry)
    telemetry.shutdown()
    assert collector.empty()


def _run_script(**variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", ONE_RUN]
    return subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=True
    )


def test_the_console_exporter_does_not_write_to_standard_output() -> None:
    done = _run_script(OTEL_TRACES_EXPORTER="console")
    assert done.stdout == ""
    assert '"name": "stepwave.run"' in done.stderr


def test_several_exporters_each_get_every_span(collector: Requests) -> None:
    done = _run_script(OTEL_TRACES_EXPORTER="console, otlp")
    assert '"name": "stepwave.run"' in done.stderr
    assert collector.get(timeout=10).resource_spans


def test_shutting_down_waits_for_a_collector_within_the_timeout() -> None:
    done = _run_script(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert "spans were lost" in done.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "jaegr"},
            'OTEL_TRACES_EXPORTER: no exporter "jaegr" is installed; there are console, otlp, unusable, none',
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            f"OTEL_EXPORTER_OTLP_PROTOCOL: this needs {HTTP_PACKAGE}: pip install {HTTP_PACKAGE}",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "morse",
            },
            'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: unknown protocol "morse"; there are grpc, http/protobuf',
        ),
        (
            {"OTEL_TRACES_EXPORTER": "unusable"},
            "OTEL_TRACES_EXPORTER: the exporter \"unusable\" cannot be set up: No module named 'opentelemetry.nowhere'",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
            "OTEL_BSP_*: max_queue_size must be a positive integer.",
        ),
    ],
)
def test_a_missing_or_broken_exporter_is_reported(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "entry_points", INSTALLED.select)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TelemetryUnavailable) as caught:
        Telemetry.from_environment()
    assert str(caught.value) == message
    assert message.startswith(caught.value.variable)


class _BlockedProcessor(SpanProcessor):
    def __init__(self) -> None:
        self.released = threading.Event()

    def shutdown(self) -> None:
        self.released.wait(60)


def test_a_blocked_export_does_not_delay_the_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    processor = _BlockedProcessor()
    started = time.monotonic()
    Telemetry(processor, resource=Resource.get_empty()).shutdown(timeout=0.05)
    assert time.monotonic() - started < 30
    assert "spans were lost" in caplog.text
    processor.released.set()
