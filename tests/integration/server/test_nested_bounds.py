"""Large nested workflows, and checks that take long: what is bounded, and what does not block the event loop."""

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from integration.server.build import finished, flow, kind_of, payload, reason_of, states, step, text, value_of
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal
from stepwave import Context, action
from stepwave.v1 import run_pb2, workflow_pb2
from stepwave_server.core.model import Step
from stepwave_server.engine.evaluation import expressions
from stepwave_server.engine.evaluation.syntax import parse
from stepwave_server.wire.workflows import submitted
from stepwave_server.wire.workflows import workflow as workflows
from stepwave_server.wire.workflows.input_schema import schema_problem

KIB = 1 << 10
TEXTS = '{"type": "string"}'


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, threading.Thread]:
    """The threads on which schemas were checked and expressions compiled, by their texts."""
    seen: dict[str, threading.Thread] = {}

    def noting(work: Callable[[str], object]) -> Callable[[str], object]:
        def note(given: str) -> object:
            seen[given] = threading.current_thread()
            return work(given)

        return note

    monkeypatch.setattr(expressions, "_compiled", expressions._Compiled())  # earlier tests filled it
    submitted._remembered.cache_clear()
    monkeypatch.setattr(workflows, "schema_problem", noting(schema_problem))
    monkeypatch.setattr(expressions, "parse", noting(parse))
    return seen


def _with_schema(schema: str = TEXTS, given: object = "x") -> workflow_pb2.Step:
    """Return a step with a workflow that has a schema."""
    nested = flow(step("inner"))
    nested.input_schema = schema
    return workflow_pb2.Step(id="outer", workflow=nested, input=payload(given))


def _conditions() -> Iterable[workflow_pb2.Step]:
    """Return steps with conditions that take long to compile."""
    return [workflow_pb2.Step(id=f"s{i}", action="noop", when=f"{i} + {'1 + ' * 100}1 > 0") for i in range(20)]


def _off_loop(threads: dict[str, threading.Thread]) -> bool:
    assert threads
    return threading.main_thread() not in threads.values()


@pytest.mark.no_engine("it watches where the checks run")
async def test_the_schema_of_a_nested_workflow_is_checked_on_a_thread(
    client: RawClient, threads: dict[str, threading.Thread]
) -> None:
    await client.run(flow(_with_schema()))
    assert _off_loop(threads)


@pytest.mark.no_engine("it watches where the checks run")
async def test_the_schema_of_an_added_workflow_is_checked_on_a_thread(
    client: RawClient, threads: dict[str, threading.Thread]
) -> None:
    await client.open()
    await client.add(_with_schema(), seal=True)
    assert _off_loop(threads)


@pytest.mark.no_engine("it watches where the checks run")
@pytest.mark.parametrize("key", ["inputSchema", "input_schema", "input\\u0053chema"])
async def test_the_schema_of_a_chosen_workflow_is_checked_on_a_thread(
    client: RawClient, threads: dict[str, threading.Thread], key: str
) -> None:
    chosen = f'{{"workflow": {{"name": "x", "{key}": "{{}}", "steps": [{{"id": "a", "action": "noop"}}]}}}}'
    events = await client.run(flow(workflow_pb2.Step(id="a", action="core.workflow", input=text(chosen))))
    assert states(events) == {"a/a": "succeeded", "a": "succeeded"}
    assert _off_loop(threads)


@pytest.mark.no_engine("it watches where the checks run")
async def test_long_expressions_are_compiled_on_a_thread(
    client: RawClient, threads: dict[str, threading.Thread]
) -> None:
    await client.run(flow(*_conditions()))
    assert _off_loop(threads)


@pytest.mark.no_engine("it watches where the checks run")
async def test_long_expressions_of_added_steps_are_compiled_on_a_thread(
    client: RawClient, threads: dict[str, threading.Thread]
) -> None:
    await client.open()
    await client.add(*_conditions(), seal=True)
    await client.events("open")
    assert _off_loop(threads)


@pytest.mark.no_engine("it watches where the checks run")
async def test_a_large_nested_workflow_is_read_on_a_thread(client: RawClient, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[threading.Thread] = []
    read = workflows.parse_step

    def note(message: workflow_pb2.Step, path: str, parsed: workflows.Parsed, depth: int = 0) -> Step:
        seen.append(threading.current_thread())
        return read(message, path, parsed, depth)

    monkeypatch.setattr(workflows, "parse_step", note)
    nested = flow(*(step(f"s{i}") for i in range(1_001)))
    await client.run(flow(workflow_pb2.Step(id="a", workflow=nested)))
    assert len(seen) > 1_000
    assert threading.main_thread() not in seen


@pytest.mark.one_server("Temporal takes less: tests/conformance/test_bounds.py")
async def test_a_named_workflow_that_is_too_large_for_an_event_fails_its_step(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    steps = [{"id": f"s{i}", "action": "noop", "input": "x" * 900 * KIB} for i in range(2)]
    (tmp_path / "big.json").write_text(json.dumps({"name": "big", "steps": steps}))
    client = connect(await serve(workflows=tmp_path))
    small = workflow_pb2.Step(id="small", action="core.workflow", input=payload({"name": "big", "input": 1}))
    large = workflow_pb2.Step(id="large", action="core.workflow")
    large.input.CopyFrom(payload({"name": "big", "input": "y" * 900 * KIB}))
    results = finished(await client.run(flow(small, large, failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE)))
    assert value_of(results["small"].output) == {"s0": None, "s1": None}
    assert reason_of(results["large"].failure) == "resource_exhausted"
    assert "2,500,000 are allowed" in results["large"].failure.message


async def test_text_that_utf_8_cannot_hold_reaches_a_chosen_workflow(client: RawClient) -> None:
    chosen = '{"workflow": {"name": "x", "steps": [{"id": "a", "action": "core.echo"}]}, "input": "\\ud800"}'
    events = await client.run(flow(workflow_pb2.Step(id="a", action="core.workflow", input=text(chosen))))
    assert finished(events)["a/a"].output.json == '"\\ud800"'


async def test_a_nested_workflow_refuses_an_input_that_does_not_match_its_schema(client: RawClient) -> None:
    schema = '{"properties": {"n": {"type": "integer"}}}'
    refused = finished(await client.run(flow(_with_schema(schema, {"n": "many"}))))["outer"]
    assert (reason_of(refused.failure), refused.failure.cause) == ("invalid_input", run_pb2.FAILURE_CAUSE_INPUT)
    assert refused.failure.message == "its workflow refuses its input: input/n: 'many' is not of type 'integer'"
    assert states(await client.run(flow(_with_schema(schema, {"n": 1})))) == {
        "outer/inner": "succeeded",
        "outer": "succeeded",
    }


async def test_a_nested_workflow_checks_an_input_that_it_has_by_default(client: RawClient) -> None:
    outer = _with_schema()
    outer.ClearField("input")
    assert states(await client.run(flow(outer), given=1)) == {"outer": "failed"}


async def test_a_workflow_of_a_list_checks_each_item(client: RawClient) -> None:
    outer = _with_schema()
    outer.ClearField("input")
    outer.for_each.items.CopyFrom(payload(["x", 1]))
    workflow = flow(outer, failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE)
    ended = states(await client.run(workflow))
    assert ended == {"outer[1]": "failed", "outer[0]/inner": "succeeded", "outer[0]": "succeeded", "outer": "failed"}


async def test_a_chosen_workflow_refuses_an_input_that_does_not_match_its_schema(client: RawClient) -> None:
    chosen = {"workflow": {"name": "x", "inputSchema": TEXTS, "steps": [{"id": "a", "action": "noop"}]}, "input": 1}
    events = await client.run(flow(workflow_pb2.Step(id="a", action="core.workflow", input=payload(chosen))))
    failure = finished(events)["a"].failure
    assert reason_of(failure) == "invalid_input"
    assert failure.message == "the workflow refuses its input: input: 1 is not of type 'string'"
    assert list(states(events)) == ["a"]


async def test_the_check_of_a_nested_input_is_bounded(client: RawClient) -> None:
    schema = '{"items": {"anyOf": [' + '{"type": "string"}, ' * 1_000 + "true]}}"
    failure = finished(await client.run(flow(_with_schema(schema, list(range(100))))))["outer"].failure
    assert reason_of(failure) == "resource_exhausted"


def _large(step_id: str, *sizes: int) -> workflow_pb2.Step:
    """Return a step with a workflow whose steps have inputs of these sizes, in KiB."""
    steps = [step(f"s{index}", given="x" * (size * KIB)) for index, size in enumerate(sizes)]
    return workflow_pb2.Step(id=step_id, workflow=flow(*steps))


@action("grow")
async def grow(context: Context, sizes: list[list[int]]) -> None:
    """Add a step for each list, with a workflow whose steps have inputs of its sizes, in KiB."""
    plan = [
        {
            "id": f"g{index}",
            "workflow": {
                "name": "large",
                "steps": [
                    {"id": f"s{i}", "action": "noop", "input": "x" * (size * KIB)} for i, size in enumerate(each)
                ],
            },
        }
        for index, each in enumerate(sizes)
    ]
    await context.add_steps(plan)


@pytest.mark.one_server("Temporal takes less: tests/conformance/test_bounds.py")
async def test_added_steps_with_large_workflows_come_in_events_that_a_message_holds(
    serve: Serve, connect: Connect
) -> None:
    client = connect(await serve(grow))
    await client.open(step("planner", "grow", given={"sizes": [[900], [900], [900], [900]]}))
    async with client.watch("open") as watch:
        await watch.until("step_finished", "planner")
        await client.add(seal=True)
        events = await watch.rest()
    assert [kind_of(event) for event in events].count("steps_added") == 5
    assert states(events)["g3"] == "succeeded"


@pytest.mark.one_server("Temporal takes less: tests/conformance/test_bounds.py")
async def test_an_added_step_that_no_event_could_hold_is_refused(client: RawClient) -> None:
    await client.open()
    refused = await refusal(client.add(step("a"), _large("b", 1_000, 1_000, 50)))
    assert refused.fields == ["steps[1]"]
    assert "are more than the 2,097,152 allowed" in refused.description("steps[1]")
    await client.add(_large("b", 1_000, 1_000), seal=True)
    assert list(states(await client.events("open"))) == ["b/s0", "b/s1", "b"]


@pytest.mark.one_server("Temporal takes less: tests/conformance/test_bounds.py")
async def test_a_list_with_many_fixed_items_counts_with_them_in_an_event(client: RawClient) -> None:
    def of_list(step_id: str) -> workflow_pb2.Step:
        items = payload(["x" * 900 * KIB])
        return workflow_pb2.Step(id=step_id, action="noop", for_each=workflow_pb2.ForEach(items=items))

    await client.open()
    await client.add(of_list("a"), of_list("b"), of_list("c"), seal=True)
    added = [event.steps_added for event in await client.events("open") if event.HasField("steps_added")]
    assert [len(event.steps) for event in added] == [1, 1, 1]
