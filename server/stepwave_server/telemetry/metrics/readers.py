"""Readers of metrics: they add Stepwave's histograms to what OpenTelemetry's instruments give.

OpenTelemetry has no observable histogram, and recording a value in one of its histograms takes about as long as half a
step. So histograms are counted here, and given to the exporters as finished data.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    PeriodicExportingMetricReader,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as PrometheusMetric

from stepwave_server.telemetry.metrics.histogram import Histogram
from stepwave_server.telemetry.metrics.instruments import INSTRUMENTS, Instrument, Kind, Reading
from stepwave_server.telemetry.metrics.measures import Key

__all__ = ["ExportingReader", "HistogramSource", "PrometheusReader", "SerialRegistry"]

HISTOGRAMS = tuple(instrument for instrument in INSTRUMENTS if instrument.kind is Kind.HISTOGRAM)


class HistogramSource:
    """Makes the data of the histograms.

    Args:
        read: Returns what the metrics are read from.
        scope: The scope of the metrics: that of OpenTelemetry's instruments.
    """

    def __init__(self, read: Callable[[], Reading], scope: InstrumentationScope) -> None:
        self._read = read
        self._scope = scope
        self._start = time.time_ns()

    def metrics(self) -> list[Metric]:
        """Return the histograms that have values, since the start."""
        reading, now = self._read(), time.time_ns()
        found = ((instrument, self._points(instrument, reading, now)) for instrument in HISTOGRAMS)
        return [_metric(instrument, points) for instrument, points in found if points]

    def added_to(self, data: MetricsData, metrics: Sequence[Metric]) -> MetricsData:
        """Return data with further metrics in the scope. Exporters mix up several entries of one resource or scope."""
        return MetricsData(
            [
                replace(resource, scope_metrics=[self._extended(scope, metrics) for scope in resource.scope_metrics])
                for resource in data.resource_metrics
            ]
        )

    def _extended(self, scope: ScopeMetrics, metrics: Sequence[Metric]) -> ScopeMetrics:
        own = (scope.scope.name, scope.scope.version) == (self._scope.name, self._scope.version)
        return replace(scope, metrics=[*scope.metrics, *metrics]) if own else scope

    def _points(self, instrument: Instrument, reading: Reading, now: int) -> list[HistogramDataPoint]:
        return [
            _point(dict(zip(instrument.attributes, key, strict=True)), histogram, self._start, now)
            for key, histogram in instrument.read(reading).items()
            if isinstance(histogram, Histogram)
        ]


def _metric(instrument: Instrument, points: Sequence[HistogramDataPoint]) -> Metric:
    data = HistogramData(points, AggregationTemporality.CUMULATIVE)
    return Metric(instrument.name, instrument.description, instrument.unit, data)


def _point(attributes: Mapping[str, str], histogram: Histogram, start: int, now: int) -> HistogramDataPoint:
    counts, scale = histogram.counts.copy(), histogram.scale
    return HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=start,
        time_unix_nano=now,
        count=sum(counts),
        sum=histogram.total / scale,
        bucket_counts=counts,
        explicit_bounds=histogram.bounds,
        min=histogram.least / scale,
        max=histogram.most / scale,
    )


class ExportingReader(PeriodicExportingMetricReader):
    """Exports the metrics regularly.

    Args:
        exporter: The exporter.
        source: The histograms.
        delta: Whether the exporter wants what was added to a histogram since the last export, not since the start.
    """

    def __init__(self, exporter: MetricExporter, source: HistogramSource, *, delta: bool) -> None:
        self._source = source
        self._delta = _Delta() if delta else None
        super().__init__(exporter)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> None:
        metrics = self._source.metrics()
        if self._delta is not None:
            metrics = self._delta.since_last(metrics)
        super()._receive_metrics(self._source.added_to(metrics_data, metrics), timeout_millis, **kwargs)

    def _at_fork_reinit(self) -> None:
        """Do nothing in a forked child: the metrics are those of its parent, which goes on to export them."""


class PrometheusReader(PrometheusMetricReader):
    """Gives the metrics to Prometheus.

    Args:
        source: The histograms.
        registry: The registry that the endpoint reads.
    """

    def __init__(self, source: HistogramSource, registry: CollectorRegistry) -> None:
        self._source = source
        super().__init__(registry=registry, scope_info_enabled=False)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> None:
        super()._receive_metrics(self._source.added_to(metrics_data, self._source.metrics()), timeout_millis, **kwargs)


class SerialRegistry(CollectorRegistry):
    """A registry that is collected by one thread at a time: the reader mixes up collections that overlap."""

    def __init__(self) -> None:
        super().__init__(auto_describe=False)
        self._collecting = threading.Lock()

    def collect(self) -> Iterator[PrometheusMetric]:
        """Yield the metrics."""
        with self._collecting:
            metrics = list(super().collect())
        yield from metrics


class _Delta:
    """Subtracts what was exported before."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, Key], HistogramDataPoint] = {}

    def since_last(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Return what was added to the histograms since the last call. Histograms without new values are left out."""
        fresh = ((metric, [*self._fresh(metric)]) for metric in metrics)
        return [
            replace(metric, data=HistogramData(points, AggregationTemporality.DELTA))
            for metric, points in fresh
            if points
        ]

    def _fresh(self, metric: Metric) -> Iterator[HistogramDataPoint]:
        assert isinstance(metric.data, HistogramData)
        for point in metric.data.data_points:
            key = metric.name, tuple(map(str, (point.attributes or {}).values()))
            last, self._last[key] = self._last.get(key), point
            if last is None:
                yield point
            elif point.count > last.count:
                yield _difference(point, last)


def _difference(point: HistogramDataPoint, last: HistogramDataPoint) -> HistogramDataPoint:
    counts = [now - before for now, before in zip(point.bucket_counts, last.bucket_counts, strict=True)]
    return replace(
        point,
        start_time_unix_nano=last.time_unix_nano,
        count=sum(counts),
        sum=point.sum - last.sum,
        bucket_counts=counts,
    )
