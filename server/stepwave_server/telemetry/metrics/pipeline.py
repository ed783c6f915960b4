"""The pipeline of a process's metrics: what is recorded, OpenTelemetry's instruments, exporters and the endpoint."""

import logging
import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from wsgiref.simple_server import WSGIServer

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import start_http_server

from stepwave_server.core.info import Load
from stepwave_server.telemetry import environment
from stepwave_server.telemetry.environment import TelemetryUnavailable
from stepwave_server.telemetry.metrics.histogram import Histogram
from stepwave_server.telemetry.metrics.instruments import INSTRUMENTS, Instrument, Kind, Reading
from stepwave_server.telemetry.metrics.measures import Measures
from stepwave_server.telemetry.metrics.readers import ExportingReader, HistogramSource, PrometheusReader, SerialRegistry
from stepwave_server.telemetry.pipeline import SCOPE, run_with_timeout

__all__ = ["Metrics"]

logger = logging.getLogger(__name__)

LISTEN = "metrics_listen"
"""The setting that asks for the endpoint."""


class Metrics:
    """The metrics of a process. Nothing is recorded without one.

    Args:
        exporters: The exporters.
        listen: Where to serve the Prometheus endpoint, `HOST:PORT`; port 0 picks one; empty: nowhere.
        resource: The resource of the metrics; by default from the environment.

    Attributes:
        measures: The numbers that the metrics are made of.
        address: Where the endpoint is served; empty: it is not.
        provider: The provider of meters. What actions measure with it is exported in the same way.
    """

    def __init__(
        self, exporters: Iterable[MetricExporter] = (), *, listen: str = "", resource: Resource | None = None
    ) -> None:
        self.measures = Measures()
        self.address = ""
        self._listen = listen
        self._registry = SerialRegistry()
        self._endpoint: tuple[WSGIServer, threading.Thread] | None = None
        self._observe: Callable[[], Load] = Load
        self._load: Load | None = None
        self._closed = False
        resource = resource or environment.resource()
        source = HistogramSource(self._last_reading, SCOPE)
        readers: list[MetricReader] = [ExportingReader(it, source, delta=_wants_delta()) for it in exporters]
        if listen:
            readers.append(PrometheusReader(source, self._registry))
        self.provider = MeterProvider(readers, resource, shutdown_on_exit=False)
        self._make_instruments()

    @classmethod
    def from_environment(cls, listen: str = "") -> "Metrics | None":
        """Return metrics as OpenTelemetry's `OTEL_*` variables say; `None`: nothing asks for them.

        Args:
            listen: Where to serve the Prometheus endpoint; empty: nowhere.

        Raises:
            TelemetryUnavailable: An exporter is missing or cannot be set up, or OpenTelemetry is turned off.
        """
        if listen and environment.sdk_disabled():
            raise TelemetryUnavailable("OTEL_SDK_DISABLED", f"it turns metrics off, and {LISTEN} asks for them")
        exporters = environment.metric_exporters()
        return cls(exporters, listen=listen) if exporters or listen else None

    def start(self, load: Callable[[], Load]) -> None:
        """Begin to serve the endpoint.

        Args:
            load: Returns what the process does now. Called on threads of exporters.

        Raises:
            TelemetryUnavailable: The address cannot be bound.
        """
        self._observe = load
        if not self._listen:
            return
        host, _, port = self._listen.rpartition(":")
        try:
            self._endpoint = start_http_server(int(port), host.strip("[]"), self._registry)
        except (OSError, OverflowError) as error:
            raise TelemetryUnavailable(LISTEN, f"cannot listen at {self._listen}: {error}") from error
        self.address = f"{host}:{self._endpoint[0].server_port}"
        logger.info("metrics: http://%s/metrics", self.address)

    def shutdown(self, timeout: float = 5.0) -> None:
        """Export a last time and shut down, within `timeout` seconds. Does nothing if it is shut down. Blocks."""
        if self._closed:
            return
        self._closed = True
        if self._endpoint is not None:
            server, thread = self._endpoint
            self._endpoint = None
            server.shutdown()
            thread.join()
            server.server_close()
        export = partial(self.provider.shutdown, timeout_millis=timeout * 1_000)
        if not run_with_timeout(timeout, export, "the export of metrics could not be shut down"):
            logger.warning("metrics were lost: their export took longer than %g s", timeout)

    def _reading(self) -> Reading:
        """Return what the metrics are read from. One collection reads the load once. Called on threads of exporters."""
        self.measures.fold()
        if self._load is None:
            self._load = self._observe()
        return Reading(self.measures, self._load)

    def _last_reading(self) -> Reading:
        """Return what the last metrics of a collection, the histograms, are read from."""
        reading, self._load = self._reading(), None
        return reading

    def _make_instruments(self) -> None:
        meter = self.provider.get_meter(SCOPE.name, SCOPE.version)
        for instrument in INSTRUMENTS:
            if instrument.kind is not Kind.HISTOGRAM:
                _make(meter, instrument, partial(self._observations, instrument))

    def _observations(self, instrument: Instrument, options: CallbackOptions) -> Iterable[Observation]:
        for key, value in instrument.read(self._reading()).items():
            if not isinstance(value, Histogram):
                yield Observation(value, dict(zip(instrument.attributes, key, strict=True)))


def _make(meter: Meter, instrument: Instrument, observe: Callable[[CallbackOptions], Iterable[Observation]]) -> None:
    """Make an observable instrument."""
    make = {
        Kind.COUNTER: meter.create_observable_counter,
        Kind.GAUGE: meter.create_observable_gauge,
        Kind.UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
    }[instrument.kind]
    make(instrument.name, [observe], instrument.unit, instrument.description)


def _wants_delta() -> bool:
    """Return whether the environment asks for the change since the last export in place of the sum."""
    preference = os.environ.get(OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, "").strip().upper()
    return preference in {"DELTA", "LOWMEMORY"}
