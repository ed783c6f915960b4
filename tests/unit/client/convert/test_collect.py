"""The assembly of a run's result."""

from stepwave import State
from stepwave._convert.collect import Collector
from stepwave._model.results import RunResult
from stepwave.v1 import event_pb2, payload_pb2, run_pb2, workflow_pb2
from unit.client.clients.transport import finished, run_finished


def plan(*waves: list[str]) -> event_pb2.RunEvent:
    said = [event_pb2.Wave(index=index, step_ids=ids) for index, ids in enumerate(waves)]
    return event_pb2.RunEvent(sequence=1, run_started=event_pb2.RunStarted(waves=said))


def workflow(**depends_on: list[str]) -> workflow_pb2.Workflow:
    steps = [workflow_pb2.Step(id=step_id, depends_on=ids) for step_id, ids in depends_on.items()]
    return workflow_pb2.Workflow(steps=steps)


def collect(*events: event_pb2.RunEvent, known: workflow_pb2.Workflow | None = None) -> RunResult:
    """Collect a run with and without converting its events, and check that the results are equal."""
    absorbed, iterated = Collector(known), Collector(known)
    absorbed.absorb(events)
    iterated.events(events)
    assert absorbed.result is not None
    assert absorbed.result == iterated.result
    return absorbed.result


def outputs(**texts: str) -> dict[str, payload_pb2.Payload]:
    return {step_id: payload_pb2.Payload(json=text) for step_id, text in texts.items()}


def test_outputs_and_steps_are_in_the_order_of_the_workflow_whatever_ended_first() -> None:
    result = collect(
        finished(2, "c"),
        finished(3, "a"),
        finished(4, "b"),
        run_finished(5, outputs=outputs(a="1", b="1", c="1")),
        known=workflow(b=[], c=[], a=[]),
    )
    assert list(result.steps) == ["b", "c", "a"]
    assert list(result.outputs) == ["b", "c", "a"]


def test_without_the_workflow_the_order_is_that_of_the_plan() -> None:
    result = collect(plan(["b", "a"], ["c"]), finished(2, "a"), finished(3, "b"), finished(4, "c"), run_finished(5))
    assert list(result.steps) == ["b", "a", "c"]


def test_a_plan_in_several_events_is_one_order() -> None:
    result = collect(plan(["b"]), plan(["a"]), finished(3, "a"), finished(4, "b"), run_finished(5))
    assert list(result.steps) == ["b", "a"]


def test_steps_outside_the_plan_come_last() -> None:
    result = collect(plan(["a"]), finished(2, "added"), finished(3, "a"), run_finished(4))
    assert list(result.steps) == ["a", "added"]


def test_steps_within_others_follow_them_by_item_and_by_declaration() -> None:
    known = workflow(pages=[], last=["pages"])
    known.steps[0].workflow.CopyFrom(workflow(fetch=[], clean=["fetch"]))
    ended = ["pages[10]", "pages[2]/clean", "pages[2]/fetch", "pages[2]", "last", "pages[10]/fetch", "pages"]
    events = [*(finished(number, step_id) for number, step_id in enumerate(ended, 2)), run_finished(9)]
    ordered = ["pages", "pages[2]", "pages[2]/fetch", "pages[2]/clean", "pages[10]", "pages[10]/fetch", "last"]
    assert list(collect(*events, known=known).steps) == ordered
    assert list(collect(plan(["pages"], ["last"]), *events).steps) == [
        *["pages", "pages[2]", "pages[2]/clean", "pages[2]/fetch", "pages[10]", "pages[10]/fetch", "last"]
    ]


def test_the_outputs_of_a_run_are_those_of_its_own_steps() -> None:
    known = workflow(pages=[])
    events = [finished(2, "pages[0]", "1"), finished(3, "pages", "[1]"), run_finished(4, outputs=outputs(pages="[1]"))]
    assert collect(*events, known=known).outputs == {"pages": [1]}


def test_omitted_outputs_are_filled_in_from_the_steps() -> None:
    result = collect(
        finished(2, "a", '"large"'),
        finished(3, "b"),
        run_finished(4, outputs=outputs(b="1"), omitted_outputs=["a"], omitted_output_count=1),
        known=workflow(a=[], b=[]),
    )
    assert result.outputs == {"a": "large", "b": 1}
    assert result.omitted_output_count == 0


def test_more_omitted_outputs_than_the_server_names_are_found_in_the_workflow() -> None:
    known = workflow(inner=[], first=["inner"], second=["inner"], third=[])
    known.steps[2].bindings.add().step.id = "third"
    result = collect(
        *(finished(number, step_id) for number, step_id in enumerate(["inner", "first", "second", "third"], 2)),
        run_finished(6, omitted_outputs=["first"], omitted_output_count=2),
        known=known,
    )
    assert list(result.outputs) == ["first", "second"]
    assert result.omitted_output_count == 0


def test_outputs_that_the_workflow_names_are_found_by_their_names() -> None:
    known = workflow(a=[], b=["a"])
    known.outputs.append("a")
    result = collect(finished(2, "a"), finished(3, "b"), run_finished(4, omitted_output_count=1), known=known)
    assert list(result.outputs) == ["a"]


def test_only_steps_that_succeeded_have_outputs() -> None:
    result = collect(
        finished(2, "a"),
        finished(3, "b", state=run_pb2.STATE_FAILED),
        run_finished(4, omitted_output_count=1),
        known=workflow(a=[], b=[]),
    )
    assert list(result.outputs) == ["a"]


def test_outputs_that_cannot_be_named_are_counted() -> None:
    result = collect(finished(2, "a"), run_finished(3, omitted_outputs=["a"], omitted_output_count=5))
    assert list(result.outputs) == ["a"]
    assert result.omitted_output_count == 4


def test_a_watch_that_began_late_has_the_outputs_and_the_steps_it_saw() -> None:
    result = collect(finished(7, "b"), run_finished(8, outputs=outputs(a="5", b="1")))
    assert result.outputs == {"b": 1, "a": 5}
    assert list(result.steps) == ["b"]


def test_there_is_no_result_before_the_end() -> None:
    collector = Collector()
    collector.absorb([finished(2, "a")])
    assert collector.result is None


def test_null_is_an_output() -> None:
    result = collect(finished(2, "a", "null"), run_finished(3, outputs=outputs(a="null")))
    assert result.outputs == {"a": None}
    assert result.steps["a"].state is State.SUCCEEDED
