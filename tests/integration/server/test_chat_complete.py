"""`chat.complete` against a real service that speaks the protocol: streams, tool calls, and all that may break."""

import asyncio
import json
from pathlib import Path

import pytest

from integration.server.build import finished, flow, payload, reason_of, retry, state_of, step, value_of
from integration.server.fixture_types import Connect, Serve
from integration.server.http_service import Exchange, Handler, HttpService, answer, as_json
from integration.server.raw_client import RawClient
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2, workflow_pb2
from stepwave.v1.event_pb2 import RunEvent

PATH = "/v1/chat/completions"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"

pytestmark = pytest.mark.parametrize("serve", ["memory"], indirect=True)


@pytest.fixture
async def client(serve: Serve, connect: Connect) -> RawClient:
    return connect(await serve(http_allow="127.0.0.1"))


def asking(service: HttpService, **given: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "Hi"}]
    return {"url": service.url("/v1"), "model": "small", "messages": messages, **given}


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return event({"model": "small-1", "choices": [choice], "usage": None})


def streamed(*parts: bytes, end: bool = True) -> Handler:
    """Return a handler that streams parts; without an end, the connection then dies."""

    async def handle(exchange: Exchange) -> None:
        await exchange.send(HEAD)
        for part in parts:
            await exchange.send_chunk(part)
        if not end:
            raise ConnectionResetError
        await exchange.send_chunk(b"")

    return handle


async def ask(client: RawClient, service: HttpService, **given: object) -> list[RunEvent]:
    return await client.run(flow(step("s", "chat.complete", given=asking(service, **given))))


def output(events: list[RunEvent]) -> dict[str, object]:
    result = finished(events)["s"]
    assert state_of(result.state) == "succeeded", result.failure
    value = value_of(result.output)
    assert isinstance(value, dict)
    return value


def failure(events: list[RunEvent]) -> run_pb2.Failure:
    result = finished(events)["s"]
    assert state_of(result.state) == "failed"
    assert dict(result.failure.details) == {}, "a failure that is expected has no traceback"
    return result.failure


def chunks(events: list[RunEvent]) -> list[object]:
    return [value_of(event.step_chunk.payload) for event in events if event.HasField("step_chunk")]


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_tokens_are_chunks_and_the_output_has_the_usage(client: RawClient, service: HttpService) -> None:
    parts = (delta(role="assistant", content=""), delta(content="Good "), delta(content="day"), delta("stop"))
    service.handlers[PATH] = streamed(*parts, event({"choices": [], "usage": USAGE}), DONE)
    events = await ask(client, service)
    assert chunks(events) == ["Good ", "day"]
    assert output(events) == {
        "text": "Good day",
        "refusal": None,
        "tool_calls": [],
        "finish_reason": "stop",
        "usage": USAGE,
        "model": "small-1",
    }


async def test_a_request_has_the_parameters_and_the_options(client: RawClient, service: HttpService) -> None:
    service.handlers[PATH] = streamed(delta("stop", content="x"), DONE)
    tools = [{"type": "function", "function": {"name": "search"}}]
    options = {"temperature": 0.50, "stream_options": None}
    await ask(client, service, tools=tools, options=options, headers={"X-Team": "red"}, api_key="sk-1")
    (sent,) = service.requests
    assert json.loads(sent.body) == {
        "model": "small",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "tools": tools,
        "temperature": 0.5,
    }
    assert (sent.method, sent.headers["authorization"], sent.headers["x-team"]) == ("POST", "Bearer sk-1", "red")


async def test_usage_is_asked_for(client: RawClient, service: HttpService) -> None:
    service.handlers[PATH] = streamed(delta("stop", content="x"), DONE)
    await ask(client, service)
    assert json.loads(service.requests[0].body)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("base", ["/v1/", "/v1/chat/completions", "/v1?version=2"])
async def test_the_url_is_the_base_or_the_endpoint(client: RawClient, service: HttpService, base: str) -> None:
    service.handlers[PATH] = streamed(delta("stop", content="x"), DONE)
    output(await ask(client, service, url=service.url(base)))
    assert service.requests[0].target == PATH + ("?version=2" if "?" in base else "")


async def test_tool_calls_are_data(client: RawClient, service: HttpService) -> None:
    def call(index: int, arguments: str, **more: object) -> dict[str, object]:
        return {"index": index, "function": {"arguments": arguments, **more}, **({"id": f"c{index}"} if more else {})}

    parts = (
        delta(tool_calls=[call(0, "", name="search")]),
        delta(tool_calls=[call(0, '{"query": "fj')]),
        delta(tool_calls=[call(1, "{oops", name="broken"), call(0, 'ords", "n": 9007199254740993}')]),
        delta(tool_calls=[call(2, "", name="now")]),
        delta("tool_calls"),
    )
    service.handlers[PATH] = streamed(*parts, DONE)
    answered = output(await ask(client, service))
    assert (answered["text"], answered["finish_reason"]) == ("", "tool_calls")
    assert answered["tool_calls"] == [
        {"id": "c0", "name": "search", "arguments": {"query": "fjords", "n": 9007199254740993}},
        {"id": "c1", "name": "broken", "arguments": "{oops"},
        {"id": "c2", "name": "now", "arguments": {}},
    ]


def _call(call_id: str, arguments: object, **more: object) -> dict[str, object]:
    return {"id": call_id, "function": {"name": call_id, "arguments": arguments}, **more}


@pytest.mark.parametrize("more", [{}, {"index": None}, {"index": 0}], ids=["no index", "null", "the same"])
async def test_another_id_is_another_tool_call(
    client: RawClient, service: HttpService, more: dict[str, object]
) -> None:
    parts = [delta(tool_calls=[_call(name, f'{{"of": "{name}"}}', **more)]) for name in "ab"]
    service.handlers[PATH] = streamed(*parts, delta("tool_calls"), DONE)
    calls = output(await ask(client, service))["tool_calls"]
    assert calls == [{"id": name, "name": name, "arguments": {"of": name}} for name in "ab"]


async def test_arguments_may_be_the_object_itself(client: RawClient, service: HttpService) -> None:
    service.handlers[PATH] = streamed(delta(tool_calls=[_call("a", {"x": 1})]), delta("tool_calls"), DONE)
    assert output(await ask(client, service))["tool_calls"] == [{"id": "a", "name": "a", "arguments": {"x": 1}}]


@pytest.mark.parametrize(
    "written",
    ["[" * 150 + "]" * 150, "[" * 99 + "]" * 99, f'{{"n": {"9" * 5_000}}}'],
    ids=["deep", "too deep in the output", "a long number"],
)
async def test_arguments_that_an_output_cannot_hold_stay_a_text(
    client: RawClient, service: HttpService, written: str
) -> None:
    service.handlers[PATH] = streamed(delta(tool_calls=[_call("a", written)]), delta("tool_calls"), DONE)
    assert output(await ask(client, service))["tool_calls"] == [{"id": "a", "name": "a", "arguments": written}]


async def test_a_refusal_is_bounded(client: RawClient, service: HttpService) -> None:
    service.handlers[PATH] = streamed(*[delta(refusal="x" * 100_000)] * 11, delta("stop"), DONE)
    assert reason_of(failure(await ask(client, service))) == "resource_exhausted"


async def test_a_refusal_is_in_the_output(client: RawClient, service: HttpService) -> None:
    service.handlers[PATH] = streamed(delta(refusal="I will "), delta(refusal="not."), delta("stop"), DONE)
    found = output(await ask(client, service))
    assert (found["text"], found["refusal"]) == ("", "I will not.")


async def test_the_text_of_a_content_in_parts_is_the_text(client: RawClient, service: HttpService) -> None:
    content = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    service.handlers[PATH] = streamed(delta(content=content), delta("stop"), DONE)
    assert output(await ask(client, service))["text"] == "Hello"


@pytest.mark.parametrize(
    ("said", "reason", "retryable"),
    [
        ({"error": {"message": "no", "code": "401"}}, "unauthorized", False),
        ({"error": {"message": "no", "code": "429"}}, "rate_limited", True),
        ({"message": "no", "code": 503}, "unavailable", True),
    ],
    ids=["401", "429", "without error"],
)
async def test_the_code_of_an_error_in_a_stream_gives_the_reason(
    client: RawClient, service: HttpService, said: dict[str, object], reason: str, retryable: bool
) -> None:
    service.handlers[PATH] = streamed(event(said))
    found = failure(await ask(client, service))
    assert (reason_of(found), found.retryable) == (reason, retryable)
    assert found.message.endswith("answered an error: no")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_frames_may_be_split_anywhere(client: RawClient, service: HttpService, end: bytes) -> None:
    frames = b"\xef\xbb\xbf: keep-alive\n\nevent: x\nid: 7\n" + delta(content="fjörd \\ \U0001f30a") + b":\n\n"
    whole = (frames + delta("stop") + DONE).replace(b"\n", end)
    service.handlers[PATH] = streamed(*(whole[at : at + 1] for at in range(len(whole))))
    assert output(await ask(client, service))["text"] == "fjörd \\ \U0001f30a"


async def test_comments_keep_a_stream_alive(client: RawClient, service: HttpService) -> None:
    service.handlers[PATH] = streamed(b": wait\n\n", delta(content="a"), b": wait\n\n", delta("stop"), DONE)
    assert chunks(await ask(client, service)) == ["a"]


async def test_an_endpoint_that_does_not_stream_is_an_answer_all_the_same(
    client: RawClient, service: HttpService
) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Good day", "tool_calls": [call]}
    whole = {"model": "m", "choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE}
    service.handlers[PATH] = as_json(whole)
    events = await ask(client, service)
    assert chunks(events) == ["Good day"]
    assert output(events) == {
        "text": "Good day",
        "refusal": None,
        "tool_calls": [{"id": "c", "name": "now", "arguments": {}}],
        "finish_reason": "stop",
        "usage": USAGE,
        "model": "m",
    }


# What may break.


async def test_a_rate_limit_is_a_failure_with_its_wait(client: RawClient, service: HttpService) -> None:
    service.handlers[PATH] = as_json({"error": {"message": "slow down"}}, 429, {"Retry-After": "3"})
    found = failure(await ask(client, service))
    assert (reason_of(found), found.retryable, found.retry_after.seconds) == ("rate_limited", True, 3)
    assert "slow down" in found.message


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        ({"message": "so it is", "code": 429}, "rate_limited", True),
        ({"message": "so it is", "code": "rate_limit_exceeded"}, "rate_limited", True),
        ({"message": "so it is", "type": "invalid_request_error"}, "invalid_input", False),
        ({"message": "so it is", "type": "server_error", "code": None}, "unavailable", True),
        ("so it is", "unavailable", True),
    ],
)
async def test_an_error_in_mid_stream_is_a_failure(
    client: RawClient, service: HttpService, error: object, reason: str, retryable: bool
) -> None:
    service.handlers[PATH] = streamed(delta(content="Good "), event({"error": error}))
    found = failure(await ask(client, service))
    assert (reason_of(found), found.retryable) == (reason, retryable)
    assert found.message.endswith("answered an error: so it is")


@pytest.mark.parametrize("end", [True, False], ids=["ends", "dies"])
async def test_a_stream_that_breaks_off_is_unavailable(client: RawClient, service: HttpService, end: bool) -> None:
    service.handlers[PATH] = streamed(delta(content="Good "), end=end)
    found = failure(await ask(client, service))
    assert (reason_of(found), found.retryable) == ("unavailable", True)


async def test_another_attempt_asks_again(client: RawClient, service: HttpService) -> None:
    whole, broken = streamed(delta("stop", content="Good day"), DONE), streamed(delta(content="Go"), end=False)

    async def handle(exchange: Exchange) -> None:
        await (broken if len(service.requests) == 1 else whole)(exchange)

    service.handlers[PATH] = handle
    twice = step("s", "chat.complete", given=asking(service), retry=retry(2))
    assert output(await client.run(flow(twice)))["text"] == "Good day"


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (answer(200, b"<html>", {"Content-Type": "text/html"}), "answered text/html, which is no stream of events"),
        (answer(200, b"{", {"Content-Type": "application/json"}), "answered malformed JSON"),
        (answer(302, headers={"Location": "/elsewhere"}), "answered 302 Found"),
        (streamed(b"data: {oops\n\n"), "answered malformed JSON"),
        (streamed(b"data: [1]\n\n"), "answered what is no chat completion"),
        (streamed(event({"choices": 7})), "answered what is no chat completion"),
        (streamed(event({"choices": [{"delta": {"tool_calls": [{"index": "x"}]}}]})), "what is no chat completion"),
    ],
    ids=range(7),
)
async def test_what_is_no_completion_is_a_failure(
    client: RawClient, service: HttpService, handler: Handler, message: str
) -> None:
    service.handlers[PATH] = handler
    found = failure(await ask(client, service))
    assert reason_of(found) == "action_error"
    assert message in found.message


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (as_json({"detail": "Not authenticated"}), "answered no completion: Not authenticated"),
        (as_json({"message": "Hello from a proxy"}), "answered no completion: Hello from a proxy"),
        (as_json({"choices": []}), "answered no completion"),
        (as_json({"choices": [{"index": 0}]}), "answered no completion"),
        (streamed(DONE), "answered no completion"),
        (streamed(event({"choices": [], "usage": USAGE}), DONE), "answered no completion"),
        (streamed(delta(role="assistant", content=""), DONE), "answered no completion"),
    ],
    ids=range(7),
)
async def test_an_answer_without_a_completion_is_a_failure(
    client: RawClient, service: HttpService, handler: Handler, message: str
) -> None:
    service.handlers[PATH] = handler
    found = failure(await ask(client, service))
    assert (reason_of(found), found.retryable) == ("action_error", True)
    assert found.message.endswith(message)


async def test_an_error_with_the_status_200_is_a_failure_with_its_message(
    client: RawClient, service: HttpService
) -> None:
    service.handlers[PATH] = as_json({"error": {"message": "no such model", "type": "not_found_error"}})
    found = failure(await ask(client, service))
    assert (reason_of(found), found.retryable) == ("not_found", False)
    assert found.message.endswith("answered an error: no such model")


async def test_an_empty_text_with_a_reason_for_its_end_is_an_answer(client: RawClient, service: HttpService) -> None:
    service.handlers[PATH] = streamed(delta("length"), DONE)
    assert output(await ask(client, service))["finish_reason"] == "length"


async def test_an_event_without_an_end_is_bounded(client: RawClient, service: HttpService) -> None:
    async def pour(exchange: Exchange) -> None:
        await exchange.send(HEAD)
        while True:
            await exchange.send_chunk(b"data: " + b"x" * 100_000)

    service.handlers[PATH] = pour
    found = failure(await ask(client, service))
    assert (reason_of(found), found.retryable) == ("resource_exhausted", False)


async def test_an_answer_without_an_end_is_bounded(client: RawClient, service: HttpService) -> None:
    async def pour(exchange: Exchange) -> None:
        await exchange.send(HEAD)
        while True:
            await exchange.send_chunk(delta(content="x" * 100_000))

    service.handlers[PATH] = pour
    assert reason_of(failure(await ask(client, service))) == "resource_exhausted"


@pytest.mark.parametrize("name", ["model", "messages", "tools", "stream", "n"])
async def test_an_option_with_an_input_of_its_own_is_refused(
    client: RawClient, service: HttpService, name: str
) -> None:
    found = failure(await ask(client, service, options={name: 1}))
    assert (reason_of(found), found.message) == ("invalid_input", f"options: {name} cannot be set there")


async def test_a_closed_address_is_refused(serve: Serve, connect: Connect, service: HttpService) -> None:
    found = failure(await ask(connect(await serve()), service))
    assert (reason_of(found), found.retryable, service.connections) == ("unauthorized", False, 0)


async def test_a_cancel_closes_the_stream(client: RawClient, service: HttpService) -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.send(HEAD)
        await exchange.send_chunk(delta(content="Good "))

    service.handlers[PATH] = hang
    async with client.execute(flow(step("s", "chat.complete", given=asking(service))), run_id="run") as stream:
        await stream.until("step_chunk")
        await client.stub.CancelRun(pb.CancelRunRequest(run_id="run"))
        await stream.rest()
    await asyncio.wait_for(service.closed.wait(), 10)


async def test_a_secret_is_the_key_and_no_failure_shows_it(
    serve: Serve, connect: Connect, service: HttpService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-live-0123456789abcdef"
    monkeypatch.setenv("STEPWAVE_SECRET_KEY", key)
    file = tmp_path / "secrets.toml"
    file.write_text('[secrets.KEY]\nactions = ["chat.*"]\n')
    service.handlers[PATH] = as_json({"error": {"message": f"Incorrect API key provided: {key}"}}, 401)
    client = connect(await serve(http_allow="127.0.0.1", secrets=file))
    binding = workflow_pb2.Binding(target="/api_key", secret="KEY")
    asked = workflow_pb2.Step(id="s", action="chat.complete", input=payload(asking(service)), bindings=[binding])
    found = failure(await client.run(flow(asked)))
    assert service.requests[0].headers["authorization"] == f"Bearer {key}"
    assert reason_of(found) == "unauthorized"
    assert "[secret KEY]" in found.message
    assert key not in found.message
