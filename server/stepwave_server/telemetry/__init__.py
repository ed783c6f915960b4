"""Spans of runs, waves, steps and attempts, made from events and exported by OpenTelemetry."""

from stepwave_server.telemetry.environment import TelemetryUnavailable
from stepwave_server.telemetry.parent import TraceParent
from stepwave_server.telemetry.pipeline import Telemetry
from stepwave_server.telemetry.provider import ProcessTelemetry, telemetry_of_process
from stepwave_server.telemetry.redaction import RedactingProcessor
from stepwave_server.telemetry.tracer import RunTracer

__all__ = [
    "ProcessTelemetry",
    "RedactingProcessor",
    "RunTracer",
    "Telemetry",
    "TelemetryUnavailable",
    "TraceParent",
    "telemetry_of_process",
]
