"""Exporters, sampler and resource from OpenTelemetry's environment variables."""

import os
import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_SDK_DISABLED,
)
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

__all__ = ["TelemetryUnavailable", "disabled", "processor", "resource", "sampler"]

GROUP = "opentelemetry_traces_exporter"

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
    exporters = [_exporter(name) for name in _names()]
    if not exporters:
        return None
    processors = [_batching(exporter) for exporter in exporters]
    if len(processors) == 1:
        return processors[0]
    several = SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call]  # the SDK left it untyped
    for one in processors:
        several.add_span_processor(one)
    return several


def resource() -> Resource:
    """Return the resource of the spans. The service is called `stepwave` unless the environment names it."""
    name = OTELResourceDetector().detect().attributes.get(SERVICE_NAME)
    return Resource.create({SERVICE_NAME: name or "stepwave"})


def sampler() -> Sampler:
    """Return the sampler that `OTEL_TRACES_SAMPLER` names; by default `parentbased_always_on`."""
    return TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False).sampler


def disabled() -> bool:
    """Return whether the environment turns OpenTelemetry off."""
    return _read(OTEL_SDK_DISABLED).lower() == "true" or _read(OTEL_TRACES_EXPORTER).lower() == "none"


def _names() -> list[str]:
    """Return the names of the exporters. An endpoint without a name means `otlp`."""
    if disabled():
        return []
    chosen = _read(OTEL_TRACES_EXPORTER)
    if chosen:
        return _listed(chosen)
    return ["otlp"] if _read(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) or _read(OTEL_EXPORTER_OTLP_ENDPOINT) else []


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _exporter(name: str) -> SpanExporter:
    variable, point_name = _otlp() if name == "otlp" else (OTEL_TRACES_EXPORTER, name)
    point = next(iter(entry_points(group=GROUP, name=point_name)), None)
    if point is None:
        raise TelemetryUnavailable(variable, _not_installed(point_name))
    try:
        return _make(point)
    except Exception as error:
        raise TelemetryUnavailable(variable, f'the exporter "{name}" cannot be set up: {error}') from error


def _otlp() -> tuple[str, str]:
    """Return the variable that decides the protocol of OTLP, and the protocol's entry point."""
    variable = OTEL_EXPORTER_OTLP_TRACES_PROTOCOL
    if not _read(variable):
        variable = OTEL_EXPORTER_OTLP_PROTOCOL
    protocol = _read(variable) or "grpc"
    if protocol not in PROTOCOLS:
        raise TelemetryUnavailable(variable, f'unknown protocol "{protocol}"; there are {", ".join(PROTOCOLS)}')
    return variable, PROTOCOLS[protocol]


def _not_installed(name: str) -> str:
    if name in PACKAGES:
        return f"this needs {PACKAGES[name]}: pip install {PACKAGES[name]}"
    return f'no exporter "{name}" is installed; there are {", ".join(_installed(entry_points(group=GROUP)))}, none'


def _installed(points: Iterable[EntryPoint]) -> list[str]:
    return sorted({"otlp" if point.name in PACKAGES else point.name for point in points})


def _make(point: EntryPoint) -> SpanExporter:
    kind: type[SpanExporter] = point.load()
    if issubclass(kind, ConsoleSpanExporter):
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
