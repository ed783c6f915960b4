"""Spans, metrics and the log of runs, made from events; spans and metrics are exported by OpenTelemetry."""

from stepwave_server.telemetry.environment import TelemetryUnavailable, prometheus_address
from stepwave_server.telemetry.metrics import Measures, Metrics, RunMeasures
from stepwave_server.telemetry.parent import TraceParent
from stepwave_server.telemetry.pipeline import Telemetry
from stepwave_server.telemetry.provider import ProcessTelemetry, telemetry_of_process
from stepwave_server.telemetry.redaction import RedactingProcessor
from stepwave_server.telemetry.run_telemetry import RunTelemetry
from stepwave_server.telemetry.tracer import RunTracer

__all__ = [
    "Measures",
    "Metrics",
    "ProcessTelemetry",
    "RedactingProcessor",
    "RunMeasures",
    "RunTelemetry",
    "RunTracer",
    "Telemetry",
    "TelemetryUnavailable",
    "TraceParent",
    "prometheus_address",
    "telemetry_of_process",
]
