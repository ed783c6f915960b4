"""Outcomes of spans: status, exceptions and attributes for every way in which a run can end."""

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import StatusCode

from stepwave_server.core.messages import (
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    Event,
    RunFinished,
    RunStarted,
    StepStarted,
    Timer,
    TimerFired,
    Wave,
    WaveStarted,
)
from stepwave_server.core.model import SECOND, Failure, FallbackAction, Reason, State, Step
from stepwave_server.telemetry import Telemetry
from unit.server.telemetry.runs import (
    DIAMOND,
    NOON,
    Collector,
    Run,
    Spans,
    attribute_of,
    boom,
    finish_diamond,
    seconds_of,
)


def test_a_failure_is_an_error_of_its_attempt_step_wave_and_run() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo"))
    run.start("a")
    run.fail("a", boom("a"))
    spans = collector.spans()
    assert {label: span.status.description for label, span in spans.items()} == {
        "attempt a 1": "ValueError: boom",
        "step a": "ValueError: boom",
        "wave 0": 'step "a": ValueError: boom',
        "run": 'step "a": ValueError: boom',
    }
    assert {span.status.status_code for span in spans.values()} == {StatusCode.ERROR}
    assert attribute_of(spans["run"], "failure.step_id") == "a"
    assert attribute_of(spans["step a"], "failure.reason") == "action_error"


@pytest.mark.parametrize("label", ["attempt a 1", "step a", "run"])
def test_a_failure_records_the_exception(label: str) -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo"))
    run.start("a")
    run.fail("a", boom("a"))
    [event] = collector.spans()[label].events
    assert event.name == "exception"
    assert event.timestamp == run.now
    assert dict(event.attributes or {}) == {
        "exception.type": "ValueError",
        "exception.message": "boom",
        "exception.stacktrace": "Traceback: boom",
    }


def test_a_failure_without_an_exception_is_typed_by_its_reason() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo"))
    run.start("a")
    run.fail("a", Failure(Reason.TIMEOUT, "too long", step_id="a", attempt=1))
    span = collector.spans()["step a"]
    assert dict(span.events[0].attributes or {}) == {"exception.type": "timeout", "exception.message": "too long"}
    assert dict(span.attributes or {})["error.type"] == "timeout"


def test_an_allowed_failure_is_no_error_of_the_run() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo", allow_failure=True))
    run.start("a")
    run.fail("a", boom("a"))
    spans = collector.spans()
    assert spans["step a"].status.status_code is StatusCode.ERROR
    assert spans["run"].status.status_code is StatusCode.UNSET
    assert not spans["run"].events


def test_the_run_names_the_first_failure_and_counts_the_others() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo"), Step("b", "echo"), keep_going=True)
    run.start("a", "b")
    run.fail("b", boom("b"))
    run.fail("a", boom("a"))
    assert collector.spans()["run"].status.description == 'the first of 2 failures: step "b": ValueError: boom'


def test_skipped_steps_are_events_of_the_runs_span() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo"), Step("b", "echo", ("a",)))
    run.start("a")
    run.fail("a", boom("a"))
    spans = collector.spans()
    assert "step b" not in spans
    assert "wave 1" not in spans
    event = spans["run"].events[0]
    assert event.name == "stepwave.step_skipped"
    assert dict(event.attributes or {}) == {
        "stepwave.step_id": "b",
        "stepwave.wave": 1,
        "stepwave.skip.cause": "dependency",
        "stepwave.skip.step_id": "a",
    }


def test_a_step_that_failed_before_it_started_is_an_event_of_the_runs_span() -> None:
    collector = Collector()
    Run(collector.tracer(), Step("unfit", "echo", input="null"))
    spans = collector.spans()
    assert list(spans) == ["run"]
    assert [event.name for event in spans["run"].events] == ["stepwave.step_failed", "exception"]
    assert dict(spans["run"].events[0].attributes or {})["stepwave.failure.reason"] == "invalid_input"


def test_events_of_the_runs_span_are_bounded_and_dropped_ones_are_counted() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo"), *(Step(f"s{number}", "echo", ("a",)) for number in range(1_000)))
    run.start("a")
    run.fail("a", boom("a"))
    span = collector.spans()["run"]
    assert len(span.events) == 128
    assert span.dropped_events == 1_001 - 128
    assert span.events[-1].name == "exception"


def test_a_cancelled_run_ends_every_span_and_is_no_error() -> None:
    collector = Collector()
    run = Run(collector.tracer(), *DIAMOND)
    run.start("a")
    run.succeed("a")
    run.start("b")
    run.feed(CancelRequested("enough"))
    run.interrupt("b", abandoned=True)
    spans = collector.spans()
    assert set(spans) == {"run", "wave 0", "wave 1", "step a", "step b", "attempt a 1", "attempt b 1"}
    assert {span.status.status_code for span in spans.values()} == {StatusCode.UNSET}
    assert attribute_of(spans["run"], "state") == attribute_of(spans["step b"], "state") == "cancelled"
    assert attribute_of(spans["run"], "failure.message") == "cancelled: enough"
    assert attribute_of(spans["attempt b 1"], "abandoned") is True
    assert spans["run"].events[0].name == "stepwave.run_stopping"


def test_a_timed_out_run_is_an_error_of_type_timeout() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo"))
    run.start("a")
    run.feed(TimerFired(Timer("run")))
    run.interrupt("a")
    span = collector.spans()["run"]
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "timeout"
    assert (span.status.description or "").startswith("the run took longer")


def _started_events() -> list[Event]:
    return [
        RunStarted(NOON, (Wave(0, ("a",)),), more=False, step_count=1, deadline=None, open=False),
        WaveStarted(NOON + SECOND, 0),
        StepStarted(NOON + SECOND, "a", "echo", 0, 1, NOON + 9 * SECOND, NOON),
    ]


def test_open_spans_end_with_the_run() -> None:
    collector = Collector()
    end = RunFinished(NOON + 2 * SECOND, State.CANCELLED, NOON, (), (), 0, (), 0, (0,) * len(State))
    collector.tracer().add([*_started_events(), end])
    spans = collector.spans()
    assert list(spans) == ["attempt a 1", "step a", "wave 0", "run"]
    assert {seconds_of(span)[1] for span in spans.values()} == {2}


def test_an_abandoned_run_ends_every_open_span_with_an_error() -> None:
    collector = Collector()
    tracer = collector.tracer()
    tracer.add(_started_events())
    tracer.abandon(NOON + 3 * SECOND, "a defect of the server")
    spans = collector.spans()
    assert list(spans) == ["attempt a 1", "step a", "wave 0", "run"]
    assert spans["run"].status.description == "a defect of the server"
    assert seconds_of(spans["run"]) == (0, 3)


def test_another_attempt_has_a_span_of_its_own_under_the_same_step() -> None:
    collector = Collector()
    tracer = collector.tracer()
    tracer.add([*_started_events(), StepStarted(NOON + 4 * SECOND, "a", "echo", 0, 2, NOON + 9 * SECOND, NOON)])
    tracer.abandon(NOON + 5 * SECOND, "over")
    spans = collector.spans()
    assert seconds_of(spans["attempt a 2"]) == (4, 5)
    assert seconds_of(spans["step a"]) == (1, 5)
    assert attribute_of(spans["step a"], "attempts") == 2


def _spans_with_fallback(fallback: str | FallbackAction) -> Spans:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo", fallback=fallback))
    run.start("a")
    run.fail("a", boom("a"))
    if isinstance(fallback, FallbackAction):
        run.feed(AttemptStarted("a", 2))
        run.feed(AttemptSucceeded("a", 2, "1"))
    return collector.spans()


@pytest.mark.parametrize("fallback", ["1", FallbackAction("other")])
def test_a_step_with_a_used_fallback_succeeds_and_its_own_attempt_fails(fallback: str | FallbackAction) -> None:
    spans = _spans_with_fallback(fallback)
    step = spans["step a"]
    assert step.status.status_code is StatusCode.UNSET
    assert (attribute_of(step, "state"), attribute_of(step, "fallback")) == ("succeeded", True)
    assert attribute_of(step, "original_failure.reason") == "action_error"
    assert attribute_of(step, "original_failure.message") == "ValueError: boom"
    assert spans["attempt a 1"].status.status_code is StatusCode.ERROR
    assert spans["run"].status.status_code is StatusCode.UNSET


def test_the_span_of_a_fallbacks_attempt_has_the_fallbacks_action() -> None:
    spans = _spans_with_fallback(FallbackAction("other"))
    assert attribute_of(spans["attempt a 2"], "action") == "other"
    assert attribute_of(spans["attempt a 2"], "state") == "succeeded"
    assert attribute_of(spans["step a"], "action") == "echo"


def test_a_step_that_ran_out_of_time_before_its_first_attempt_is_an_event_of_the_run() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo", total_timeout=SECOND, fallback="1"))
    run.feed(TimerFired(Timer("total", "a")))
    (event,) = collector.spans()["run"].events
    assert event.name == "stepwave.step_succeeded"
    assert (event.attributes or {})["stepwave.fallback"] is True


def test_a_step_that_falls_back_before_its_first_attempt_has_the_spans_of_its_fallback() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo", total_timeout=SECOND, fallback=FallbackAction("other")))
    run.feed(TimerFired(Timer("total", "a")))
    run.start("a")
    run.succeed("a")
    assert {"step a", "attempt a 1"} <= collector.spans().keys()


class _FailingProcessor(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("no disk")


def test_a_processor_that_raises_does_not_break_runs_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry(_FailingProcessor(), resource=Resource.get_empty())
    tracer = telemetry.run(namespace="default", run_id="run", workflow_name="flow", parent=None, create_time=NOON)
    run = Run(tracer, *DIAMOND)
    finish_diamond(run)
    assert isinstance(run.events[-1], RunFinished)
    assert [record.__dict__["run_id"] for record in caplog.records] == ["run"]
