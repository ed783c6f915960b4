"""Metrics of runs, steps, attempts, streams, calls and commits, made from events and exported by OpenTelemetry."""

from stepwave_server.telemetry.metrics.measures import Measures
from stepwave_server.telemetry.metrics.pipeline import Metrics
from stepwave_server.telemetry.metrics.run_measures import RunMeasures

__all__ = ["Measures", "Metrics", "RunMeasures"]
