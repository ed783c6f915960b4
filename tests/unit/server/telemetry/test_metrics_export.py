"""Metrics from OpenTelemetry's environment variables: over OTLP, to the console, or for Prometheus."""

import os
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.metrics.v1 import metrics_pb2

from stepwave_server.core.info import Load
from stepwave_server.core.model import SECOND
from stepwave_server.telemetry import Metrics, TelemetryUnavailable, prometheus_address

Requests: TypeAlias = queue.Queue[metrics_service_pb2.ExportMetricsServiceRequest]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


class _Servicer(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self) -> None:
        self.requests: Requests = queue.Queue()

    def Export(  # noqa: N802 - the contract's name
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, context: object
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        self.requests.put(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Requests]:
    """An OTLP collector at `OTEL_EXPORTER_OTLP_ENDPOINT`. Returns the queue of its requests."""
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = _Servicer()
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated so
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    yield servicer.requests
    server.stop(None).wait()


def _started() -> Metrics:
    metrics = Metrics.from_environment()
    assert metrics is not None
    metrics.start(lambda: Load(runs=7))
    return metrics


def _metrics(request: metrics_service_pb2.ExportMetricsServiceRequest) -> dict[str, metrics_pb2.Metric]:
    scopes = [scope for resource in request.resource_metrics for scope in resource.scope_metrics]
    assert {scope.scope.name for scope in scopes} == {"stepwave"}
    return {metric.name: metric for scope in scopes for metric in scope.metrics}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_METRICS_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "console"},
    ],
)
def test_without_an_exporter_there_are_no_metrics(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Metrics.from_environment() is None


def test_an_endpoint_without_an_exporter_means_otlp(collector: Requests) -> None:
    metrics = _started()
    metrics.measures.action("echo").waits(SECOND)
    metrics.shutdown()
    found = _metrics(collector.get(timeout=10))
    assert found["stepwave.run.in_flight"].sum.data_points[0].as_int == 7
    wait = found["stepwave.attempt.wait"]
    [point] = wait.histogram.data_points
    assert (wait.unit, point.count, point.sum, point.attributes[0].value.string_value) == ("s", 1, 1.0, "echo")
    assert sum(point.bucket_counts) == 1
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1


@pytest.mark.parametrize(("preference", "counts"), [("cumulative", [1, 3]), ("delta", [1, 2])])
def test_a_histogram_is_exported_as_the_environment_prefers(
    preference: str, counts: list[int], collector: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    metrics = _started()
    metrics.measures.action("echo").waits(SECOND)
    metrics.provider.force_flush()
    for _ in range(2):
        metrics.measures.action("echo").waits(3 * SECOND)
    metrics.provider.force_flush()
    histograms = [_metrics(collector.get(timeout=10))["stepwave.attempt.wait"].histogram for _ in counts]
    assert [histogram.data_points[0].count for histogram in histograms] == counts
    assert histograms[1].data_points[0].sum == (7 if preference == "cumulative" else 6)
    metrics.shutdown()


def test_what_actions_measure_is_exported_in_the_same_way(collector: Requests) -> None:
    metrics = _started()
    metrics.provider.get_meter("stepwave").create_counter("mine").add(3)
    metrics.shutdown()
    assert _metrics(collector.get(timeout=10))["mine"].sum.data_points[0].as_int == 3


def test_the_environment_can_ask_for_a_prometheus_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    assert prometheus_address() == "127.0.0.1:0"


def test_without_a_host_and_a_port_the_endpoint_is_at_their_standard_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp,prometheus")
    assert prometheus_address() == "localhost:9464"


def test_metrics_that_are_turned_off_and_asked_for_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with pytest.raises(TelemetryUnavailable, match="OTEL_SDK_DISABLED: it turns metrics off"):
        Metrics.from_environment("127.0.0.1:0")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"OTEL_METRICS_EXPORTER": "paper"}, 'OTEL_METRICS_EXPORTER: no exporter "paper" is installed; there are '),
        (
            {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "smoke"},
            'OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: unknown protocol "smoke"',
        ),
    ],
)
def test_an_exporter_that_is_missing_is_named(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TelemetryUnavailable, match=message):
        Metrics.from_environment()
