"""Invalid requests: all problems are reported at once, each with its field, and nothing is invoked."""

from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from integration.server.build import bind, flow, step, text
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal, workflow_refusal
from stepwave.v1 import event_pb2, payload_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb

pytestmark = pytest.mark.no_engine("requests are checked before an engine takes them")

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture(autouse=True)
async def nothing_is_invoked(controlled: ControlledActions) -> AsyncIterator[None]:
    yield
    assert controlled.invoked == []


@pytest.mark.parametrize(
    ("bad", "field", "problem"),
    [
        (flow(), "workflow.steps", "a workflow needs at least one step"),
        (flow(step("a"), name=""), "workflow.name", "must not be empty"),
        (flow(step("a"), name="no spaces"), "workflow.name", "malformed name"),
        (flow(step("")), "workflow.steps[0].id", "must not be empty"),
        (flow(step("a.b")), "workflow.steps[0].id", 'malformed name "a.b": want [A-Za-z_][A-Za-z0-9_-]{0,127}'),
        (flow(step("1a")), "workflow.steps[0].id", 'malformed name "1a"'),
        (flow(step("a[0]")), "workflow.steps[0].id", "malformed name"),
        (flow(step("é")), "workflow.steps[0].id", "malformed name"),
        (flow(step("a" * 129)), "workflow.steps[0].id", "malformed name"),
        (flow(step("a\n")), "workflow.steps[0].id", "malformed name"),
        (flow(step("a"), step("b"), step("a")), "workflow.steps[2].id", '"a" is the id of steps[0] already'),
        (flow(step("a"), step("b", after=["x"])), "workflow.steps[1].depends_on[0]", 'unknown step "x"'),
        (
            flow(step("search"), step("b", after=["serach"])),
            "workflow.steps[1].depends_on[0]",
            'did you mean "search"?',
        ),
        (flow(step("a", after=["a"])), "workflow.steps[0].depends_on[0]", 'step "a" depends on itself'),
        (
            flow(step("a", after=["b"]), step("b", after=["a"])),
            "workflow.steps[0].depends_on",
            "dependency cycle: a → b → a",
        ),
        (flow(step("a", "")), "workflow.steps[0].action", "must not be empty"),
        (flow(step("a", "nop")), "workflow.steps[0].action", 'unknown action "nop"; did you mean "noop"?'),
        (flow(step("a", "zzz")), "workflow.steps[0].action", 'unknown action "zzz"'),
        (flow(step("a", bindings=[bind("", "x")])), "workflow.steps[0].bindings[0].step.id", 'unknown step "x"'),
        (flow(step("a", bindings=[bind("", "a")])), "workflow.steps[0].bindings[0].step.id", "depends on itself"),
        (
            flow(step("a", bindings=[bind("x", "input")])),
            "workflow.steps[0].bindings[0].target",
            'it must be empty or begin with "/"',
        ),
        (
            flow(step("a", bindings=[bind("/~2", "input")])),
            "workflow.steps[0].bindings[0].target",
            '"~" must be followed by 0 or 1',
        ),
        (
            flow(step("a", bindings=[bind("", "input", "x")])),
            "workflow.steps[0].bindings[0].input",
            "malformed JSON Pointer",
        ),
        (
            flow(step("a"), step("b", bindings=[bind("", "a", "x")])),
            "workflow.steps[1].bindings[0].step.path",
            "malformed JSON Pointer",
        ),
        (flow(step("a", bindings=[workflow_pb2.Binding()])), "workflow.steps[0].bindings[0]", "has no source"),
        (flow(step("a", given=text("{"))), "workflow.steps[0].input.json", "is not JSON"),
        (flow(step("a", given=text(""))), "workflow.steps[0].input.json", "is not JSON"),
        (flow(step("a", given=text("NaN"))), "workflow.steps[0].input.json", "NaN is not allowed"),
        (flow(step("a", given=text("[Infinity]"))), "workflow.steps[0].input.json", "Infinity is not allowed"),
        (flow(step("a", given=text("1 2"))), "workflow.steps[0].input.json", "is not JSON"),
        (flow(step("a", given=text("[" * 5_000))), "workflow.steps[0].input.json", "nested too deeply"),
        (flow(step("a", given=payload_pb2.Payload())), "workflow.steps[0].input", "has no value"),
        (
            flow(step("a", given="x" * (1 << 20))),
            "workflow.steps[0].input",
            "bytes are more than the 1,048,576 allowed",
        ),
        (
            flow(step("a", bindings=[bind("", "input", default=text("{"))])),
            "workflow.steps[0].bindings[0].default.json",
            "is not JSON",
        ),
        (flow(step("a", timeout=-1)), "workflow.steps[0].timeout", "must be positive, got -1 s"),
        (flow(step("a", timeout=0)), "workflow.steps[0].timeout", "must be positive, got 0 s"),
        (flow(step("a"), timeout=-0.5), "workflow.timeout", "must be positive, got -0.5 s"),
        (flow(step("a"), outputs=["b"]), "workflow.outputs[0]", 'unknown step "b"'),
        (flow(step("a"), labels={"": "x"}), "workflow.labels['']", "keys need 1 to 256 characters"),
        (
            flow(step("a"), labels={f"l{i}": "" for i in range(65)}),
            "workflow.labels",
            "65 labels are more than the 64 allowed",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value[:1].islower() and "[" not in value else None,
)
async def test_a_malformed_workflow_is_refused(
    client: RawClient, bad: workflow_pb2.Workflow, field: str, problem: str
) -> None:
    refused = await workflow_refusal(client, bad)
    assert (refused.code, refused.reason) == (INVALID, "INVALID_ARGUMENT")
    assert refused.fields == [field]
    assert problem in refused.description(field)
    assert field in refused.message


@pytest.mark.parametrize(
    "duration",
    [
        Duration(seconds=1, nanos=-1),
        Duration(nanos=1_000_000_000),
        Duration(seconds=-1, nanos=1),
        Duration(seconds=400_000_000_000),
        Duration(seconds=(1 << 63) - 1),
    ],
    ids=["signs", "nanos", "signs again", "beyond 10,000 years", "beyond everything"],
)
async def test_an_impossible_duration_is_refused(client: RawClient, duration: Duration) -> None:
    bad = flow(step("a"))
    bad.timeout.CopyFrom(duration)
    bad.steps[0].timeout.CopyFrom(duration)
    assert sorted((await workflow_refusal(client, bad)).fields) == ["workflow.steps[0].timeout", "workflow.timeout"]


async def test_all_problems_come_in_one_answer(client: RawClient) -> None:
    bad = flow(
        step("1", "nop", after=["lost"]),
        step("b", given=text("{"), timeout=-1, after=["c"]),
        step("c", after=["b"], bindings=[bind("x", "gone")]),
        name="",
        timeout=-1,
        outputs=["nobody"],
    )
    refused = await workflow_refusal(client, bad, input=text("nul"), run_id="not an id")
    assert sorted(refused.fields) == [
        "input.json",
        "run_id",
        "workflow.name",
        "workflow.outputs[0]",
        "workflow.steps[0].action",
        "workflow.steps[0].depends_on[0]",
        "workflow.steps[0].id",
        "workflow.steps[1].depends_on",
        "workflow.steps[1].input.json",
        "workflow.steps[1].timeout",
        "workflow.steps[2].bindings[0].step.id",
        "workflow.steps[2].bindings[0].target",
        "workflow.timeout",
    ]


async def test_problems_of_the_call_and_of_the_workflow_come_together(client: RawClient) -> None:
    request = pb.ExecuteWorkflowRequest(
        workflow=flow(step("a", "nop")),
        run_id="no id",
        namespace="other",
        kinds=[event_pb2.EventKind.ValueType(99)],
    )
    request.reconnect_window.seconds = -1
    refused = await refusal(client.stub.ExecuteWorkflow(request).read())
    assert refused.code is INVALID
    assert sorted(refused.fields) == ["kinds", "namespace", "reconnect_window", "run_id", "workflow.steps[0].action"]


async def test_more_problems_than_an_answer_holds_are_counted(client: RawClient) -> None:
    """With all problems, the status would be longer than the metadata that clients accept."""
    bad = flow(*(step(f"step{i}", "noop", after=[f"an-unknown-step-of-a-rather-long-name-{i}"]) for i in range(500)))
    refused = await workflow_refusal(client, bad)
    assert refused.code is INVALID
    assert len(refused.violations) > 20
    assert refused.violations[0][0] == "workflow.steps[0].depends_on[0]"
    assert "and " in refused.message
    assert "more" in refused.message


async def test_problems_of_expressions_lists_and_nested_workflows_are_reported_at_their_places(
    client: RawClient,
) -> None:
    inner = flow(step("c", "nop", bindings=[workflow_pb2.Binding(item="")]), step("d", after=["a"]))
    bad = flow(step("a"), step("b", after=["a"]), workflow_pb2.Step(id="s", workflow=inner), step("e"), step("f"))
    bad.input_schema = '{"type":"text"}'
    bad.steps[1].when = 'deps["aa"].output.x ='
    bad.steps[3].when = 'deps["a"].output == 1'
    bad.steps[4].for_each.items.json = "{}"
    refused = await workflow_refusal(client, bad)
    assert refused.code is INVALID
    assert sorted(refused.fields) == [
        "workflow.input_schema",
        "workflow.steps[1].when",
        "workflow.steps[2].workflow.steps[0].action",
        "workflow.steps[2].workflow.steps[0].bindings[0].item",
        "workflow.steps[2].workflow.steps[1].depends_on[0]",
        "workflow.steps[3].when",
        "workflow.steps[4].for_each.items",
    ]


@pytest.mark.parametrize("length", [500, 5_000, 500_000])
async def test_a_very_long_problem_still_arrives(client: RawClient, length: int) -> None:
    refused = await workflow_refusal(client, flow(step("→" * length, "noop", after=["é" * length])))
    assert refused.code is INVALID
    assert refused.fields == ["workflow.steps[0].id", "workflow.steps[0].depends_on[0]"]


async def test_every_step_of_a_longer_cycle_is_on_its_path(client: RawClient) -> None:
    ring = [step(f"s{i}", after=[f"s{(i + 1) % 5}"]) for i in range(5)]
    refused = await workflow_refusal(client, flow(step("free"), *ring))
    assert refused.description("workflow.steps[1].depends_on") == "dependency cycle: s0 → s1 → s2 → s3 → s4 → s0"


async def test_an_unknown_dependency_is_never_called_a_cycle(client: RawClient) -> None:
    refused = await workflow_refusal(client, flow(step("a", after=["x"]), step("b", after=["a"])))
    assert refused.fields == ["workflow.steps[0].depends_on[0]"]
    assert "cycle" not in refused.message


async def test_a_huge_cycle_is_found_without_recursion(client: RawClient) -> None:
    ring = flow(*(step(f"s{i}", after=[f"s{(i + 1) % 20_000}"]) for i in range(20_000)))
    refused = await workflow_refusal(client, ring)
    assert refused.description("workflow.steps[0].depends_on").startswith("dependency cycle: s0 → s1 → ")


async def test_too_many_steps_are_refused(serve: Serve, connect: Connect) -> None:
    refused = await workflow_refusal(connect(await serve(max_steps=3)), flow(*(step(f"s{i}") for i in range(4))))
    assert refused.description("workflow.steps") == "4 steps are more than the 3 allowed"


async def test_too_many_edges_are_refused(serve: Serve, connect: Connect) -> None:
    wide = flow(step("a"), *(step(f"s{i}", after=["a"]) for i in range(4)))
    refused = await workflow_refusal(connect(await serve(max_edges=3)), wide)
    assert refused.description("workflow.steps") == "4 dependencies are more than the 3 allowed"


async def test_a_message_over_the_limit_is_refused_by_name(client: RawClient) -> None:
    large = flow(*(step(f"s{i}", given="x" * 900_000) for i in range(4)))
    refused = await refusal(client.start(large))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    assert "3,145,728 allowed" in refused.message


async def test_a_message_far_over_the_limit_is_cut_off(client: RawClient) -> None:
    large = flow(*(step(f"s{i}", given="x" * 900_000) for i in range(12)))
    assert (await refusal(client.start(large))).code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("run_id", ["-a", "a b", "a/b", "é", "x" * 129, "a\n"])
async def test_a_malformed_run_id_is_refused(client: RawClient, run_id: str) -> None:
    refused = await workflow_refusal(client, flow(step("a")), run_id=run_id)
    assert (refused.code, refused.fields) == (INVALID, ["run_id"])


@pytest.mark.parametrize(
    "name",
    ["GetRun", "GetResult", "ListStepResults", "ListRunLogs", "CancelRun", "DeleteRun", "ExplainRun", "WatchRun"],
)
async def test_calls_about_a_run_require_its_id(client: RawClient, name: str) -> None:
    request = getattr(pb, f"{name}Request")()
    call = getattr(client.stub, name)(request)
    refused = await refusal(call.read() if name == "WatchRun" else call)
    assert (refused.code, refused.violations) == (INVALID, [("run_id", "must not be empty")])


async def test_a_call_without_a_workflow_is_refused(client: RawClient) -> None:
    for refused in (
        await refusal(client.stub.StartRun(pb.StartRunRequest())),
        await refusal(client.stub.ExecuteWorkflow(pb.ExecuteWorkflowRequest()).read()),
        await refusal(client.stub.PlanWorkflow(pb.PlanWorkflowRequest())),
    ):
        assert (refused.code, refused.fields) == (INVALID, ["workflow"])


@pytest.mark.parametrize("token", ["x", "bm90IGpzb24=", "WzEsMl0=", "WyJ4Il0=", "é"])
async def test_an_invalid_page_token_is_refused(client: RawClient, token: str) -> None:
    refused = await refusal(client.stub.ListRuns(pb.ListRunsRequest(page_token=token)))
    assert (refused.code, refused.fields) == (INVALID, ["page_token"])


async def test_a_run_input_that_is_not_json_is_refused(client: RawClient) -> None:
    refused = await workflow_refusal(client, flow(step("a")), input=text("{'a': 1}"))
    assert (refused.code, refused.fields) == (INVALID, ["input.json"])
