"""The tracer of a run whose steps and attempts have no spans of their own, for runs with very many steps."""

import contextvars

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from stepwave_server.core.messages import StepExpanded, StepFinished, StepRetrying, StepStarted
from stepwave_server.telemetry.parent import variables_with
from stepwave_server.telemetry.spans import OpenWave, RunSpans
from stepwave_server.telemetry.tracer import Export, RunTracer

__all__ = ["WaveTracer"]


class WaveTracer(RunTracer):
    """Turns the committed events of one run into spans of the run and its waves.

    What an action does is under the span of its step's wave.
    """

    __slots__ = ("_variables",)

    def __init__(self, run_id: str, spans: RunSpans, export: Export | None) -> None:
        super().__init__(run_id, spans, export)
        self._variables: dict[int, contextvars.Context] = {}

    def attempt_context(self, step_id: str, wave: int, attempt: int) -> Context:
        """Return the context for an attempt's action, in which the span of its wave is current, sampled or not."""
        return set_span_in_context(NonRecordingSpan(self._spans.wave_context(wave)), Context())

    def attempt_variables(self, step_id: str, wave: int, attempt: int) -> contextvars.Context:
        """Return context variables in which the span of the wave is current."""
        found = self._variables.get(wave)
        if found is None:
            found = self._variables[wave] = variables_with(self.attempt_context(step_id, wave, attempt))
        return found.copy()

    def _end_wave(self, wave: OpenWave) -> None:
        self._variables.pop(wave.index, None)
        super()._end_wave(wave)

    def _step_started(self, event: StepStarted) -> None:
        """Do nothing: a step is counted at its end."""

    def _step_expanded(self, event: StepExpanded) -> None:
        """Do nothing: its steps are counted."""

    def _step_retrying(self, event: StepRetrying) -> None:
        """Do nothing: attempts have no spans."""

    def _step_finished(self, event: StepFinished) -> None:
        wave = self._waves.get(event.wave)
        if wave is not None:
            wave.add_end(event)
            wave.started_count += event.start_time is not None
        if event.start_time is None:
            self._add_unstarted(event)
