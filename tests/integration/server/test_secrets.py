"""Secrets: an action gets the value, and nothing that a run stores or shows has it."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest

from integration.server.build import (
    bind,
    end_of,
    fallback_to,
    finished,
    flow,
    items,
    payload,
    reason_of,
    retry,
    state_of,
    step,
    value_of,
)
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal, workflow_refusal
from stepwave import ActionError, Context, Secret, Workflow, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2

VALUE = 'sk-live-9f"8e\\7d6c5b4a'
KEY = "STEPWAVE_SECRET_KEY"
INVALID = grpc.StatusCode.INVALID_ARGUMENT

FILE = """
[secrets.KEY]
actions = ["secret.*"]

[secrets.OTHER]
actions = ["elsewhere"]

[secrets.FOREIGN]
actions = ["*"]
namespaces = ["team"]
"""


class Received:
    """Actions that keep what they got, for the test alone."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self.failures = 0

    def actions(self) -> list[Callable[..., object]]:
        @action("secret.keep")
        async def keep(key: object, more: object = None) -> str:
            self.values.append(key if more is None else (key, more))
            return "kept"

        @action("secret.flaky")
        async def flaky(key: str) -> str:
            self.values.append(key)
            if len(self.values) <= self.failures:
                raise ActionError(f"no luck with {key}", retryable=True)
            return key

        @action("secret.stream")
        async def stream(key: str) -> AsyncIterator[str]:
            yield f"it is {key}"
            yield "; "

        @action("plain")
        async def plain(input: object) -> object:
            self.values.append(input)
            return input

        @action("secret.plan")
        async def plan(key: str, context: Context) -> None:
            await context.add_steps([{"id": "added", "action": "plain", "input": {"key": key}}])

        return [keep, flaky, stream, plain, plan]


@pytest.fixture
def received() -> Received:
    return Received()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
async def client(
    serve: Serve, connect: Connect, received: Received, file: Path, monkeypatch: pytest.MonkeyPatch
) -> RawClient:
    monkeypatch.setenv(KEY, VALUE)
    return connect(await serve(*received.actions(), secrets=file))


def secret(target: str = "/key", name: str = "KEY") -> workflow_pb2.Binding:
    return workflow_pb2.Binding(target=target, secret=name)


def using(action: str = "secret.keep", **more: object) -> workflow_pb2.Step:
    """Return a step that gives the secret to an action."""
    return step("s", action, bindings=[secret()], **more)  # type: ignore[arg-type]  # fields by name


async def _failure(client: RawClient, workflow: workflow_pb2.Workflow, run_id: str = "") -> tuple[str, str, bool]:
    """Run a workflow, and return the reason and the message of its failure, and whether it can be retried."""
    (failure, *_) = end_of(await client.run(workflow, run_id=run_id)).failures
    return reason_of(failure), failure.message, failure.retryable


# Values.


async def test_an_action_gets_the_value(client: RawClient, received: Received) -> None:
    events = await client.run(flow(using()))
    assert state_of(end_of(events).state) == "succeeded"
    assert received.values == [VALUE]


async def test_the_python_sdk_refers_to_a_secret(client: RawClient, received: Received) -> None:
    written = Workflow("flow")
    written.step("s", "secret.keep", {"key": Secret("KEY")})
    await client.run(written.to_proto())
    assert received.values == [VALUE]


async def test_a_secret_may_be_anywhere_in_the_input(client: RawClient, received: Received) -> None:
    given = {"key": {"list": [1.50, None]}, "more": {"big": 9007199254740993}}
    bindings = [bind("/more", "input", "/more"), secret("/key/list/1"), secret("/more/a~1b")]
    await client.run(flow(step("s", "secret.keep", given=given, bindings=bindings)), given={"more": {"n": 1}})
    assert received.values == [({"list": [1.5, VALUE]}, {"n": 1, "a/b": VALUE})]


async def test_the_whole_input_may_be_a_secret(serve: Serve, connect: Connect, received: Received, file: Path) -> None:
    file.write_text('folder = "values"\n[secrets.KEY]\nactions = ["plain"]\n')
    _write(file.parent / "values", "KEY", VALUE)
    client = connect(await serve(*received.actions(), secrets=file))
    events = await client.run(flow(step("s", "plain", bindings=[secret("")])))
    assert received.values == [VALUE]
    assert value_of(finished(events)["s"].output) == "[secret KEY]"


async def test_every_child_of_a_list_gets_the_value(client: RawClient, received: Received) -> None:
    bindings = [secret(), workflow_pb2.Binding(target="/more", item="")]
    await client.run(flow(step("s", "secret.keep", bindings=bindings, over=items(1, 2, at_once=1))))
    assert received.values == [(VALUE, 1), (VALUE, 2)]


async def test_a_step_of_a_nested_workflow_gets_the_value(client: RawClient, received: Received) -> None:
    await client.run(flow(step("outer", body=flow(using(), name="inner"))))
    assert received.values == [VALUE]


async def test_a_fallback_gets_the_value(client: RawClient, received: Received) -> None:
    fallback = workflow_pb2.Fallback(action=workflow_pb2.FallbackAction(action="secret.keep", bindings=[secret()]))
    await client.run(flow(step("s", "core.fail", fallback=fallback)))
    assert received.values == [VALUE]


async def test_a_fallback_that_takes_over_the_input_gets_its_secrets(client: RawClient, received: Received) -> None:
    received.failures = 1
    await client.run(flow(using("secret.flaky", fallback=fallback_to("secret.keep"))))
    assert received.values == [VALUE, VALUE]


async def test_each_attempt_reads_the_value_anew(
    serve: Serve, connect: Connect, received: Received, file: Path
) -> None:
    values = file.parent / "values"
    _write(values, "KEY", "first-value\n")
    file.write_text(f'folder = "values"\n{FILE}')

    @action("secret.rotate")
    async def rotate(key: str) -> str:
        received.values.append(key)
        if len(received.values) == 1:
            _write(values, "KEY", "second-value\r\n")
            raise ActionError("expired", retryable=True)
        return key

    client = connect(await serve(rotate, secrets=file))
    events = await client.run(flow(using("secret.rotate", retry=retry(2))))
    assert received.values == ["first-value", "second-value"]
    assert value_of(finished(events)["s"].output) == "[secret KEY]"


async def test_the_variable_comes_before_the_file(
    serve: Serve, connect: Connect, received: Received, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(file.parent / "values", "KEY", "in the file")
    file.write_text(f'folder = "values"\n{FILE}')
    monkeypatch.setenv(KEY, "in the variable")
    client = connect(await serve(*received.actions(), secrets=file))
    await client.run(flow(using()))
    monkeypatch.delenv(KEY)
    await client.run(flow(using()))
    assert received.values == ["in the variable", "in the file"]


def _write(folder: Path, name: str, value: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(value.encode())


# Values that cannot be used.


async def test_a_missing_value_is_named_by_its_variable(
    client: RawClient, received: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY)
    problem = "the secret KEY has no value: set the variable STEPWAVE_SECRET_KEY"
    assert await _failure(client, flow(using(retry=retry(3)))) == ("not_found", problem, False)
    assert received.values == []


async def test_a_missing_value_is_named_by_its_file(serve: Serve, connect: Connect, file: Path) -> None:
    file.write_text(f'folder = "values"\n{FILE}')
    client = connect(await serve(*Received().actions(), secrets=file))
    reason, message, _ = await _failure(client, flow(using()))
    assert reason == "not_found"
    assert message.endswith(f"or put it into the file {file.parent / 'values' / 'KEY'}")


@pytest.mark.parametrize(
    ("value", "problem"),
    [("seven77", "fewer than 8 characters"), ("a" * 65_537, "more than 65,536 bytes"), ("\udcff" * 8, "not UTF-8")],
    ids=["short", "long", "no text"],
)
async def test_a_value_that_cannot_be_kept_out_of_outputs_is_refused(
    client: RawClient, received: Received, monkeypatch: pytest.MonkeyPatch, value: str, problem: str
) -> None:
    monkeypatch.setenv(KEY, value)
    reason, message, retryable = await _failure(client, flow(using(retry=retry(3))))
    assert (reason, retryable, received.values) == ("invalid_input", False, [])
    assert problem in message
    assert value not in message


async def test_an_input_that_is_too_large_with_its_secrets_is_refused(
    client: RawClient, received: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "a" * 65_000)
    bindings = [secret(f"/key/{number}") for number in range(17)]
    workflow = flow(step("s", "secret.keep", given={"key": {}}, bindings=bindings))
    reason, message, retryable = await _failure(client, workflow)
    assert (reason, retryable, received.values) == ("resource_exhausted", False, [])
    assert message == "its input would have 1,105,000 bytes or more with its secrets, and 1,048,576 are allowed"


async def test_a_secret_that_was_withdrawn_fails_the_step(
    client: RawClient, received: Received, server_secrets: Callable[[], None]
) -> None:
    await client.open(step("first", "core.wait"), run_id="open")
    await client.add(step("s", "secret.keep", after=["first"], bindings=[secret()]), seal=True)
    server_secrets()
    await client.stub.CompleteStep(pb.CompleteStepRequest(run_id="open", step_id="first", output=payload(1)))
    (failure,) = end_of(await client.events("open")).failures
    problem = "the secret KEY is not available to the action secret.keep in the namespace default"
    assert (reason_of(failure), failure.message, failure.retryable) == ("unauthorized", problem, False)
    assert received.values == []


@pytest.fixture
def server_secrets(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Withdraw the permission for all secrets from attempts."""
    from stepwave_server.engine.secrets.store import Secrets

    return lambda: monkeypatch.setattr(Secrets, "allow", lambda *_: False)


# Permissions.


@pytest.mark.parametrize("name", ["UNKNOWN", "OTHER", "FOREIGN", "KEY"])
async def test_a_secret_that_is_not_allowed_looks_like_one_that_does_not_exist(client: RawClient, name: str) -> None:
    refused = await workflow_refusal(client, flow(step("s", "plain", bindings=[secret("/a", name)])))
    problem = f"the secret {name} is not available to the action plain in the namespace default"
    assert (refused.code, refused.reason) == (INVALID, "INVALID_ARGUMENT")
    assert refused.violations == [("workflow.steps[0].bindings[0].secret", problem)]


async def test_without_a_file_no_secret_is_available(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, VALUE)
    client = connect(await serve(*Received().actions()))
    refused = await workflow_refusal(client, flow(using()))
    assert refused.fields == ["workflow.steps[0].bindings[0].secret"]


async def test_secrets_are_checked_everywhere_in_a_workflow(client: RawClient) -> None:
    fallback = workflow_pb2.Fallback(action=workflow_pb2.FallbackAction(action="plain", bindings=[secret("/a")]))
    workflow = flow(
        step("a", "plain", bindings=[secret("/a")], over=items(1)),
        step("b", body=flow(step("x", "plain", bindings=[secret("/a")]), name="inner")),
        step("c", fallback=fallback),
        using(fallback=fallback_to("plain")),
    )
    assert (await workflow_refusal(client, workflow)).fields == [
        "workflow.steps[0].bindings[0].secret",
        "workflow.steps[1].workflow.steps[0].bindings[0].secret",
        "workflow.steps[2].fallback.action.bindings[0].secret",
        "workflow.steps[3].fallback.action.action",
    ]


@pytest.mark.parametrize("name", ["core.wait", "core.workflow", "core.echo"])
async def test_built_in_actions_get_no_secrets(client: RawClient, name: str) -> None:
    refused = await workflow_refusal(client, flow(step("s", name, bindings=[secret()])))
    assert refused.fields == ["workflow.steps[0].bindings[0].secret"]


async def test_a_nested_workflow_gets_no_secrets(client: RawClient) -> None:
    refused = await workflow_refusal(client, flow(step("s", body=flow(step("x"), name="inner"), bindings=[secret()])))
    assert refused.fields == ["workflow.steps[0].bindings[0].secret"]


async def test_added_steps_are_checked(client: RawClient) -> None:
    await client.open(step("a"))
    refused = await refusal(client.add(step("s", "plain", bindings=[secret()])))
    assert (refused.code, refused.fields) == (INVALID, ["steps[0].bindings[0].secret"])


async def test_a_workflow_that_is_chosen_during_the_run_is_checked(client: RawClient) -> None:
    inner = {
        "name": "inner",
        "steps": [{"id": "x", "action": "plain", "bindings": [{"target": "/a", "secret": "KEY"}]}],
    }
    reason, message, _ = await _failure(client, flow(step("s", "core.workflow", given={"workflow": inner})))
    assert reason == "invalid_input"
    assert "the secret KEY is not available to the action plain in the namespace default" in message


@pytest.mark.parametrize(
    ("bindings", "field"),
    [
        ([secret(name="no name")], "bindings[0].secret"),
        ([secret(name="")], "bindings[0].secret"),
        ([workflow_pb2.Binding(target="/key", secret="KEY", default=payload(1))], "bindings[0].default"),
        ([secret("/key/-")], "bindings[0].target"),
        ([secret("/key" + "/a" * 100)], "bindings[0].target"),
        ([secret("/key/a"), bind("/key", "input")], "bindings[0].target"),
        ([secret("/key"), bind("", "input")], "bindings[0].target"),
    ],
    ids=["malformed name", "no name", "default", "no place", "too deep", "replaced", "all replaced"],
)
async def test_a_binding_that_cannot_be_filled_is_refused(
    client: RawClient, bindings: list[workflow_pb2.Binding], field: str
) -> None:
    workflow = flow(step("s", "secret.keep", given={"key": []}, bindings=bindings))
    assert (await workflow_refusal(client, workflow)).fields == [f"workflow.steps[0].{field}"]


# What must not show the value.


async def test_outputs_and_failures_have_the_name_in_place_of_the_value(client: RawClient, received: Received) -> None:
    received.failures = 1
    events = await client.run(flow(using("secret.flaky", retry=retry(2))))
    retrying = [event.step_retrying for event in events if event.HasField("step_retrying")]
    assert [it.failure.message for it in retrying] == ["no luck with [secret KEY]"]
    assert value_of(finished(events)["s"].output) == "[secret KEY]"


async def test_chunks_have_the_name_in_place_of_the_value(client: RawClient) -> None:
    events = await client.run(flow(using("secret.stream")))
    chunks = [value_of(event.step_chunk.payload) for event in events if event.HasField("step_chunk")]
    assert chunks == ["it is [secret KEY]", "; "]
    assert value_of(finished(events)["s"].output) == "it is [secret KEY]; "


async def test_an_action_cannot_add_a_step_that_has_the_value(client: RawClient, received: Received) -> None:
    await client.open(using("secret.plan"))
    (failure,) = end_of(await client.events("open")).failures
    assert "step 'added' has the value of a secret in it: bind the secret KEY instead" in failure.message
    assert received.values == []


async def test_a_plan_has_the_name_alone(client: RawClient) -> None:
    response = await client.stub.PlanWorkflow(pb.PlanWorkflowRequest(workflow=flow(using())))
    assert response.plan.steps[0].bindings[0].secret == "KEY"
    assert VALUE not in str(response)


async def test_nothing_shows_the_environment(client: RawClient) -> None:
    info = await client.stub.GetServerInfo(pb.GetServerInfoRequest())
    actions = await client.stub.ListActions(pb.ListActionsRequest())
    shown = info.SerializeToString() + actions.SerializeToString()
    assert b"STEPWAVE_SECRET" not in shown
    assert json.dumps(VALUE)[1:-1].encode() not in shown


async def test_what_follows_an_attempt_is_not_redacted(
    serve: Serve, connect: Connect, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @action("other")
    async def other() -> str:
        logging.getLogger("other").warning("%s", VALUE)
        return VALUE

    monkeypatch.setenv(KEY, VALUE)
    client = connect(await serve(*Received().actions(), other, secrets=file))
    events = await client.run(flow(using(), step("after", "other", after=["s"])))
    assert value_of(finished(events)["after"].output) == VALUE
    assert [record.getMessage() for record in caplog.records if record.name == "other"] == [VALUE]
