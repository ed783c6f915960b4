"""The spans of lists and nested workflows: each is under the span of the step that it belongs to."""

from opentelemetry import trace

from stepwave_server.core.messages import (
    AttemptExpanded,
    AttemptInterrupted,
    CancelRequested,
    StepCompleted,
    Timer,
    TimerFired,
)
from stepwave_server.core.model import SECOND, Failure, FallbackAction, ForEach, Reason, Step, Workflow
from stepwave_server.telemetry.spans import parent_id
from unit.server.telemetry.runs import NOON, Collector, Run, attribute_of, boom, parents_of, seconds_of

BODY = Workflow(name="body", steps=(Step("fetch", "echo"), Step("parse", "echo", ("fetch",))))
PAGES = Step("pages", "core.workflow", for_each=ForEach("2"), workflow=BODY)


def finish_pages(run: Run) -> None:
    for step_id in ("pages[0]/fetch", "pages[1]/fetch", "pages[0]/parse", "pages[1]/parse"):
        run.start(step_id)
        run.succeed(step_id)


def test_the_spans_of_a_list_of_workflows_are_a_tree() -> None:
    collector = Collector()
    finish_pages(Run(collector.tracer(), PAGES))
    assert parents_of(collector.spans()) == {
        "run": None,
        "wave 0": "run",
        "step pages": "wave 0",
        **{f"step pages[{item}]": "step pages" for item in range(2)},
        **{f"step pages[{item}]/{name}": f"step pages[{item}]" for item in range(2) for name in ("fetch", "parse")},
        **{
            f"attempt pages[{item}]/{name} 1": f"step pages[{item}]/{name}"
            for item in range(2)
            for name in ("fetch", "parse")
        },
    }


def test_the_span_of_a_step_that_became_several_lasts_as_long_as_they_do() -> None:
    collector = Collector()
    finish_pages(Run(collector.tracer(), PAGES))
    spans = collector.spans()
    assert seconds_of(spans["step pages"]) == (1, 9)
    assert seconds_of(spans["step pages[0]"]) == (1, 7)
    assert attribute_of(spans["step pages"], "attempts") == 0
    assert attribute_of(spans["wave 0"], "wave.steps") == 7


def test_an_attempt_that_chose_a_workflow_ends_there_and_its_step_goes_on() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("sub", "core.workflow"))
    run.start("sub")
    run.feed(AttemptExpanded("sub", 1, BODY, "null"))
    for step_id in ("sub/fetch", "sub/parse"):
        run.start(step_id)
        run.succeed(step_id)
    spans = collector.spans()
    assert seconds_of(spans["attempt sub 1"]) == (2, 3)
    assert seconds_of(spans["step sub"]) == (2, 7)
    assert parents_of(spans)["attempt sub 1"] == parents_of(spans)["step sub/fetch"] == "step sub"


def test_the_fallback_of_a_nested_workflow_has_an_attempt_of_its_own() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("sub", "core.workflow", workflow=BODY, fallback=FallbackAction("other")))
    run.start("sub/fetch")
    run.fail("sub/fetch", boom("sub/fetch"))
    run.start("sub")
    run.succeed("sub")
    spans = collector.spans()
    assert parents_of(spans)["attempt sub 1"] == "step sub"
    assert spans["step sub"].status.is_ok
    assert attribute_of(spans["step sub"], "attempts") == 1


def test_the_time_in_which_a_step_waits_to_be_completed_is_an_attempt() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("ok", "core.wait"))
    run.feed(StepCompleted("ok", "null"))
    assert seconds_of(collector.spans()["attempt ok 1"]) == (1, 2)


def test_after_a_crash_another_process_exports_exactly_the_remaining_spans_of_nested_steps() -> None:
    whole = Collector()
    run = Run(whole.tracer(), PAGES, Step("sub", "core.workflow"), Step("ok", "core.wait"), keep_going=True)
    run.start("sub")
    run.feed(AttemptExpanded("sub", 1, BODY, "null"))
    run.start("sub/fetch")
    run.fail("sub/fetch", boom("sub/fetch"))
    finish_pages(run)
    run.feed(StepCompleted("ok", "null"))
    assert run.state.finished is not None
    for crash in range(len(run.events) + 1):
        before, after = Collector(), Collector()
        before.tracer().add(run.events[:crash])
        successor = after.tracer()
        successor.replay(run.events[:crash])
        successor.add(run.events[crash:])
        exported = [*before.exporter.get_finished_spans(), *after.exporter.get_finished_spans()]
        assert [span.to_json() for span in exported] == [span.to_json() for span in whole.spans().values()]


def test_an_abandoned_run_ends_nested_spans_before_those_around_them() -> None:
    collector = Collector()
    run = Run(collector.tracer(), PAGES)
    run.start("pages[1]/fetch")
    run.tracer.abandon(NOON + 9 * SECOND, "the run broke")
    order = list(collector.spans())
    inside_out = ["attempt pages[1]/fetch 1", "step pages[1]/fetch", "step pages[1]", "step pages", "wave 0", "run"]
    assert [label for label in order if label in inside_out] == inside_out
    spans = collector.spans()
    assert not any(spans[label].status.is_ok for label in ("step pages[1]/fetch", "step pages[1]", "step pages", "run"))


def test_a_nested_workflow_that_times_out_is_an_event_of_the_run() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("sub", "core.workflow", workflow=BODY, timeout=5 * SECOND))
    run.start("sub/fetch")
    run.feed(TimerFired(Timer("own", "sub", 0)))
    run.feed(AttemptInterrupted("sub/fetch", 1, Failure(Reason.CANCELLED, "late", step_id="sub/fetch", attempt=1)))
    names = [event.name for event in collector.spans()["run"].events]
    assert names == ["stepwave.step_stopping", "stepwave.step_skipped", "exception"]
    assert not collector.spans()["step sub"].status.is_ok


def test_children_that_never_began_have_no_spans() -> None:
    collector = Collector()
    run = Run(collector.tracer(), PAGES)
    run.feed(CancelRequested())
    assert "step pages[0]/fetch" not in collector.spans()
    assert "step pages[0]" in collector.spans()


def test_the_context_of_a_nested_attempt_is_that_of_its_span() -> None:
    collector = Collector()
    tracer = collector.tracer()
    finish_pages(Run(tracer, PAGES))
    context = trace.get_current_span(tracer.attempt_context("pages[0]/fetch", 0, 1)).get_span_context()
    exported = collector.spans()["attempt pages[0]/fetch 1"].context
    assert exported is not None
    assert (context.trace_id, context.span_id) == (exported.trace_id, exported.span_id)


def test_a_step_belongs_to_the_step_that_its_path_says() -> None:
    paths = {"a": "", "a[0]": "a", "a/b": "a", "a[3]/b": "a[3]", "a/b[1]": "a/b", "a[0]/b[1]/c": "a[0]/b[1]"}
    assert {step_id: parent_id(step_id) for step_id in paths} == paths
