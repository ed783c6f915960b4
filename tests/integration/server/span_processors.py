"""Span processors and a sampler of tests: they fail, record calls, or answer as the test says."""

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult

__all__ = ["CallRecorder", "FailingProcessor", "FixedSampler", "SpanRecorder"]


class FailingProcessor(SpanProcessor):
    """Raises at the start or at the end of every span."""

    def __init__(self, where: str, error: BaseException) -> None:
        self._where = where
        self._error = error

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self._where == "start":
            raise self._error

    def on_end(self, span: ReadableSpan) -> None:
        if self._where == "end":
            raise self._error


class SpanRecorder(SpanProcessor):
    """Adds an attribute to every span at its start, and records starts and ends."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        span.set_attribute("team", "blue")
        self.started.append(span.name)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


class FixedSampler(Sampler):
    """Gives the same answer to every question, or raises it, and counts the questions."""

    def __init__(self, answer: object) -> None:
        self.asked = 0
        self._answer = answer

    def should_sample(self, *given: object, **named: object) -> SamplingResult:
        self.asked += 1
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer  # type: ignore[return-value]  # what is wrong with some of them

    def get_description(self) -> str:
        return "a fixed answer"


class CallRecorder(SpanProcessor):
    """Records the calls to it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def shutdown(self) -> None:
        self.asked.append("shutdown")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.asked.append("flush")
        return True
