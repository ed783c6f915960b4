"""Numbers keep their digits on every path through a server; texts that parsers read differently are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from grpc import StatusCode

from integration.server.build import bind, end_of, fallback_to, finished, flow, step, text
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal, workflow_refusal
from stepwave import JSON, Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import payload_pb2, workflow_pb2

DIGITS = "[1.10,0.1234567890123456789,1E2,-0,1e-7,1.0,9007199254740993,123456789012345678901234567890]"
GIVEN = text(DIGITS)
WHOLE = f'{{"n":{DIGITS}}}'


@action
async def untouched(input: JSON) -> JSON:
    return input


@action
def changed(n: list[float]) -> object:
    return {"n": n, "sum": n[5] + 1}


@action
async def emitting(input: JSON, context: Context) -> None:
    context.emit(input)


@pytest.fixture
async def client(serve: Serve, connect: Connect, tmp_path: Path) -> RawClient:
    (tmp_path / "yaml.yaml").write_text(f"name: yaml\nsteps: [{{id: s, action: untouched, input: {DIGITS}}}]\n")
    (tmp_path / "json.json").write_text(
        f'{{"name": "json", "steps": [{{"id": "s", "action": "untouched", "input": {DIGITS}}}]}}'
    )
    return connect(await serve(untouched, changed, emitting, workflows=tmp_path))


def _fallback(value: payload_pb2.Payload) -> workflow_pb2.Fallback:
    return workflow_pb2.Fallback(value=value)


FIRST = step("first", "untouched", given=text(WHOLE))
PATHS = {
    "own input": flow(step("s", "untouched", given=GIVEN)),
    "own input echoed": flow(step("s", "core.echo", given=GIVEN)),
    "run's input": flow(step("s", "untouched")),
    "run's input bound": flow(step("s", "untouched", bindings=[bind("", "input")])),
    "part of an output": flow(FIRST, step("s", "untouched", bindings=[bind("", "first", "/n")])),
    "default": flow(FIRST, step("s", "untouched", bindings=[bind("", "first", "/no", default=GIVEN)])),
    "fallback": flow(step("s", "core.fail", given={"message": "no"}, fallback=_fallback(GIVEN))),
    "fallback's input": flow(step("s", "core.fail", given={"message": "no"}, fallback=fallback_to("untouched", GIVEN))),
}


@pytest.mark.parametrize("path", PATHS)
async def test_a_value_that_is_passed_on_keeps_its_text(client: RawClient, path: str) -> None:
    events = await client.run(PATHS[path], given=GIVEN, run_id="r")
    assert _compact(finished(events)["s"].output.json) == DIGITS
    assert _compact((await client.result("r")).outputs["s"].json) == DIGITS


async def test_the_input_and_the_output_of_an_export_keep_their_texts(client: RawClient) -> None:
    await client.run(PATHS["run's input"], given=GIVEN, run_id="r")
    definition, *events = [part async for part in client.stub.ExportRun(pb.ExportRunRequest(run_id="r"))]
    assert definition.definition.input.json == DIGITS
    assert _compact(finished([event for part in events for event in part.events])["s"].output.json) == DIGITS


@pytest.mark.parametrize("name", ["yaml", "json"])
async def test_a_number_of_a_workflow_file_keeps_its_text(client: RawClient, name: str) -> None:
    await client.stub.StartRun(pb.StartRunRequest(workflow_name=name, run_id="r"))
    assert end_of(await client.events("r")).outputs["s"].json == DIGITS


async def test_echo_answers_with_the_very_text(client: RawClient) -> None:
    given = text('{"a" : "\\u0041\\/", "n":[ 1.10 ]}')
    events = await client.run(flow(step("s", "core.echo")), given=given)
    assert finished(events)["s"].output.json == given.json


async def test_the_outputs_of_dependencies_keep_their_texts(client: RawClient) -> None:
    events = await client.run(flow(FIRST, step("s", "untouched", after=["first"])))
    assert _compact(finished(events)["s"].output.json) == f'{{"first":{WHOLE}}}'


async def test_a_binding_beside_other_values_keeps_all_texts(client: RawClient) -> None:
    own = step("s", "untouched", given=text('{"a":2.50}'), bindings=[bind("/b", "input")])
    assert _compact(finished(await client.run(flow(own), given=GIVEN))["s"].output.json) == f'{{"a":2.50,"b":{DIGITS}}}'


async def test_what_an_action_does_not_change_keeps_its_text(client: RawClient) -> None:
    events = await client.run(flow(step("s", "changed")), given=text('{"n":[1.10,1E2,1e-7,0.50,1.0,2.50]}'))
    assert finished(events)["s"].output.json == '{"n":[1.10,1E2,1e-7,0.50,1.0,2.50],"sum":3.5}'


async def test_an_emitted_chunk_keeps_its_text(client: RawClient) -> None:
    events = await client.run(flow(step("s", "emitting")), given=GIVEN)
    assert [event.step_chunk.payload.json for event in events if event.HasField("step_chunk")] == [DIGITS]


def _compact(json_text: str) -> str:
    return json_text.replace(" ", "")


FIELDS: dict[str, Callable[[payload_pb2.Payload], workflow_pb2.Workflow]] = {
    "workflow.steps[0].input": lambda bad: flow(step("s", given=bad)),
    "workflow.steps[0].bindings[0].default": lambda bad: flow(
        step("s", bindings=[bind("", "input", "/x", default=bad)])
    ),
    "workflow.steps[0].fallback.value": lambda bad: flow(step("s", fallback=_fallback(bad))),
    "workflow.steps[0].fallback.action.input": lambda bad: flow(step("s", fallback=fallback_to("noop", bad))),
    "workflow.steps[0].fallback.action.bindings[0].default": lambda bad: flow(
        step(
            "s",
            fallback=workflow_pb2.Fallback(
                action=workflow_pb2.FallbackAction(action="noop", bindings=[bind("", "input", "/x", default=bad)])
            ),
        )
    ),
}
REFUSED = {
    '{"a":[0,1e400]}': 'holds the number 1e400, which is beyond the range of a double, at "/a/1"',
    '{"a":[{"b":1,"c":2,"b":1}]}': 'holds the key "b" twice, in the object at "/a/0"',
}


@pytest.mark.no_engine("requests are checked before an engine takes them")
@pytest.mark.parametrize("bad", REFUSED)
@pytest.mark.parametrize("field", FIELDS)
async def test_a_bad_payload_of_a_workflow_is_refused_with_its_place(client: RawClient, field: str, bad: str) -> None:
    refused = await workflow_refusal(client, FIELDS[field](text(bad)))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert refused.violations == [(f"{field}.json", REFUSED[bad])]


@pytest.mark.no_engine("requests are checked before an engine takes them")
@pytest.mark.parametrize("bad", REFUSED)
async def test_a_bad_input_of_a_run_is_refused_with_its_place(client: RawClient, bad: str) -> None:
    refused = await workflow_refusal(client, flow(step("s")), input=text(bad))
    assert refused.violations == [("input.json", REFUSED[bad])]


@pytest.mark.no_engine("requests are checked before an engine takes them")
@pytest.mark.parametrize("bad", REFUSED)
async def test_a_bad_input_of_a_named_workflow_is_refused_with_its_place(client: RawClient, bad: str) -> None:
    refused = await refusal(client.stub.StartRun(pb.StartRunRequest(workflow_name="yaml", input=text(bad))))
    assert refused.violations == [("input.json", REFUSED[bad])]
