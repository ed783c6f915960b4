"""Spans of runs, waves, steps and attempts: made from events, exported as OpenTelemetry's environment variables say."""

from stepwave_server.telemetry.environment import TelemetryUnavailable
from stepwave_server.telemetry.parent import TraceParent
from stepwave_server.telemetry.pipeline import Telemetry
from stepwave_server.telemetry.tracer import RunTracer

__all__ = ["RunTracer", "Telemetry", "TelemetryUnavailable", "TraceParent"]
