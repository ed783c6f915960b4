"""The observers of the committed events of one run: its tracer, its measures, and the log of its end."""

import logging
from collections.abc import Sequence

from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import Event, RunFinished
from stepwave_server.core.model import SECOND, State
from stepwave_server.telemetry.metrics import RunMeasures
from stepwave_server.telemetry.tracer import RunTracer

__all__ = ["RunTelemetry"]

logger = logging.getLogger(__name__)


class RunTelemetry:
    """Observes the committed events of one run. It never raises, because it must not break its run.

    Attributes:
        tracer: Makes its spans; `None`: it is not traced.

    Args:
        key: The run.
        measures: Makes numbers of its events; `None`: nothing is measured.
    """

    __slots__ = ("_key", "_measures", "tracer")

    def __init__(self, key: RunKey, tracer: RunTracer | None = None, measures: RunMeasures | None = None) -> None:
        self._key = key
        self._measures = measures
        self.tracer = tracer

    def add(self, events: Sequence[Event]) -> None:
        """Add the run's next committed events, in order."""
        if self.tracer is not None:
            self.tracer.add(events)
        if self._measures is not None:
            self._measures.add(events)
        if events and isinstance(last := events[-1], RunFinished):
            self._log_end(last)

    def replay(self, events: Sequence[Event]) -> None:
        """Add events that an earlier process has committed, in order. They are neither exported nor counted."""
        if self.tracer is not None:
            self.tracer.replay(events)
        if self._measures is not None:
            self._measures.replay(events)

    def abandon(self, time: int, message: str) -> None:
        """Note that the run will have no more events, at a time in nanoseconds since the epoch."""
        if self.tracer is not None:
            self.tracer.abandon(time, message)

    def _log_end(self, event: RunFinished) -> None:
        """Log one line: the state, the duration and the number of steps by state. Payloads stay out of it."""
        if not logger.isEnabledFor(logging.INFO):
            return
        state, seconds = event.state.name.lower(), (event.time - event.start_time) / SECOND
        extra = {"run_id": self._key.run_id, "state": state, "duration": seconds}
        if self.tracer is not None and self.tracer.trace_id:
            extra["trace_id"] = self.tracer.trace_id
        logger.info("run %s after %.3f s; steps: %s", state, seconds, _counts_text(event), extra=extra)


def _counts_text(event: RunFinished) -> str:
    """Return the number of steps by state, without states that have none."""
    counts = zip(State, event.counts, strict=True)
    return ", ".join(f"{count:,} {state.name.lower()}" for state, count in counts if count) or "none"
