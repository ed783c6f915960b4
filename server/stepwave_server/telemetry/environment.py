"""Exporters of spans and metrics, sampler and resource from OpenTelemetry's environment variables."""

import os
import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, NamedTuple, TypeVar

from opentelemetry.environment_variables import OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_EXPORTER_PROMETHEUS_HOST,
    OTEL_EXPORTER_PROMETHEUS_PORT,
    OTEL_SDK_DISABLED,
)
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

__all__ = [
    "TelemetryUnavailable",
    "disabled",
    "metric_exporters",
    "processor",
    "prometheus_address",
    "resource",
    "sampler",
    "sdk_disabled",
]

E = TypeVar("E", SpanExporter, MetricExporter)


class _Signal(NamedTuple, Generic[E]):
    """The variables and the entry points of the exporters of spans, or of those of metrics."""

    group: str
    exporter: str
    endpoint: str
    protocol: str
    base: type[E]


TRACES: _Signal[SpanExporter] = _Signal(
    "opentelemetry_traces_exporter",
    OTEL_TRACES_EXPORTER,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    SpanExporter,
)
METRICS: _Signal[MetricExporter] = _Signal(
    "opentelemetry_metrics_exporter",
    OTEL_METRICS_EXPORTER,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    MetricExporter,  # type: ignore[type-abstract]  # it is compared, and not made
)

PROMETHEUS = "prometheus"
"""The name in `OTEL_METRICS_EXPORTER` that asks for an endpoint in place of an exporter."""

PROTOCOLS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
"""Entry points of the OTLP exporters by the protocol's name in OpenTelemetry."""

PACKAGES = {
    "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "otlp_proto_http": "opentelemetry-exporter-otlp-proto-http",
}

MAX_WAITING = 1 << 15
"""Spans that may wait for export; `OTEL_BSP_MAX_QUEUE_SIZE` overrides it.

OpenTelemetry's default of 2,048 is too small when a wide wave ends thousands of spans at once.
"""


class TelemetryUnavailable(Exception):
    """Raised when the environment asks for an exporter that is missing or cannot be set up.

    Attributes:
        variable: The environment variable at fault.
    """

    def __init__(self, variable: str, message: str) -> None:
        super().__init__(f"{variable}: {message}")
        self.variable = variable


def processor() -> SpanProcessor | None:
    """Return the processor that exports spans as the environment says; `None`: it names no exporter.

    Raises:
        TelemetryUnavailable: An exporter is missing or cannot be set up.
    """
    exporters = [_exporter(TRACES, name) for name in _names(TRACES)]
    if not exporters:
        return None
    processors = [_batching(exporter) for exporter in exporters]
    if len(processors) == 1:
        return processors[0]
    several = SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call]  # the SDK left it untyped
    for one in processors:
        several.add_span_processor(one)
    return several


def metric_exporters() -> list[MetricExporter]:
    """Return the exporters of metrics that the environment names, without the Prometheus endpoint.

    Raises:
        TelemetryUnavailable: An exporter is missing or cannot be set up.
    """
    return [_exporter(METRICS, name) for name in _names(METRICS) if name != PROMETHEUS]


def prometheus_address() -> str:
    """Return where the environment asks for a Prometheus endpoint, as `HOST:PORT`; empty: it does not."""
    if PROMETHEUS not in _names(METRICS):
        return ""
    host, port = _read(OTEL_EXPORTER_PROMETHEUS_HOST), _read(OTEL_EXPORTER_PROMETHEUS_PORT)
    return f"{host or 'localhost'}:{port or 9464}"


def resource() -> Resource:
    """Return the resource of the spans. The service is called `stepwave` unless the environment names it."""
    name = OTELResourceDetector().detect().attributes.get(SERVICE_NAME)
    return Resource.create({SERVICE_NAME: name or "stepwave"})


def sampler() -> Sampler:
    """Return the sampler that `OTEL_TRACES_SAMPLER` names; by default `parentbased_always_on`."""
    return TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False).sampler


def disabled() -> bool:
    """Return whether the environment turns spans off."""
    return _is_off(TRACES)


def sdk_disabled() -> bool:
    """Return whether the environment turns OpenTelemetry off."""
    return _read(OTEL_SDK_DISABLED).lower() == "true"


def _is_off(signal: _Signal[E]) -> bool:
    return sdk_disabled() or _read(signal.exporter).lower() == "none"


def _names(signal: _Signal[E]) -> list[str]:
    """Return the names of the exporters. An endpoint without a name means `otlp`."""
    if _is_off(signal):
        return []
    chosen = _read(signal.exporter)
    if chosen:
        return _listed(chosen)
    return ["otlp"] if _read(signal.endpoint) or _read(OTEL_EXPORTER_OTLP_ENDPOINT) else []


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _exporter(signal: _Signal[E], name: str) -> E:
    variable, point_name = _otlp(signal) if name == "otlp" else (signal.exporter, name)
    point = next(iter(entry_points(group=signal.group, name=point_name)), None)
    if point is None:
        raise TelemetryUnavailable(variable, _not_installed(signal, point_name))
    try:
        return _make(signal, point)
    except Exception as error:
        raise TelemetryUnavailable(variable, f'the exporter "{name}" cannot be set up: {error}') from error


def _otlp(signal: _Signal[E]) -> tuple[str, str]:
    """Return the variable that decides the protocol of OTLP, and the protocol's entry point."""
    variable = signal.protocol
    if not _read(variable):
        variable = OTEL_EXPORTER_OTLP_PROTOCOL
    protocol = _read(variable) or "grpc"
    if protocol not in PROTOCOLS:
        raise TelemetryUnavailable(variable, f'unknown protocol "{protocol}"; there are {", ".join(PROTOCOLS)}')
    return variable, PROTOCOLS[protocol]


def _not_installed(signal: _Signal[E], name: str) -> str:
    if name in PACKAGES:
        return f"this needs {PACKAGES[name]}: pip install {PACKAGES[name]}"
    installed = ", ".join(_installed(entry_points(group=signal.group)))
    return f'no exporter "{name}" is installed; there are {installed}, none'


def _installed(points: Iterable[EntryPoint]) -> list[str]:
    return sorted({"otlp" if point.name in PACKAGES else point.name for point in points})


def _make(signal: _Signal[E], point: EntryPoint) -> E:
    kind: type[E] = point.load()
    if not issubclass(kind, signal.base):
        raise TypeError(f"it is no {signal.base.__name__}")
    if issubclass(kind, (ConsoleSpanExporter, ConsoleMetricExporter)):
        return kind(out=sys.stderr)  # standard output is for the server's address
    return kind()


def _batching(exporter: SpanExporter) -> SpanProcessor:
    most = None if _read(OTEL_BSP_MAX_QUEUE_SIZE) else MAX_WAITING
    try:
        return BatchSpanProcessor(exporter, max_queue_size=most)
    except ValueError as error:
        raise TelemetryUnavailable("OTEL_BSP_*", str(error)) from error


def _read(variable: str) -> str:
    return os.environ.get(variable, "").strip()  # OpenTelemetry treats empty as unset
