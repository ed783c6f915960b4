"""A secret that an action gives out in every way: what the server stores, sends, logs and exports does not have it."""

import asyncio
import io
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integration.server.build import end_of, finished, flow, reason_of, retry, state_of, step
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient
from stepwave import Blob, Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave_server.actions.logs import capture_logs
from stepwave_server.app import Server
from stepwave_server.telemetry import Telemetry

VALUE = 'sk-live-"9f8e\\7d6c5b4a-é'
PARTS = (b"sk-live-", b"7d6c5b4a")
"""The parts of the value that are written alike in all forms. One of them alone would be a leak, too."""

MARK = "[secret KEY]"


def leaks(data: bytes | str) -> list[bytes]:
    """Return the parts of the value that are in some data."""
    found = data.encode() if isinstance(data, str) else data
    return [part for part in PARTS if part in found]


def _find(key: str, found: dict[str, str]) -> str:
    return found[key]


@action("leak.everything")
async def leak(key: str, context: Context) -> AsyncIterator[object]:
    """Give the value out in every way that an action has, and answer with it."""
    context.logger.info("the key is %s", key, extra={"headers": {"Authorization": f"Bearer {key}"}})
    context.progress(0.5, "x" * 2_040 + key)
    context.emit({"key": key, key: [key, f"Bearer {key}"]})
    context.emit(Blob(key.encode(), "text/plain"))
    with trace.get_tracer("tools").start_as_current_span(
        f"call with {key}", attributes={"url": f"/?key={key}"}
    ) as span:
        span.set_attribute("list", [key, "other"])
        span.record_exception(ValueError(key))
    try:
        _find("y" * 8_000 + key, {})
    except LookupError:
        logging.getLogger("some.library").exception("a request with %r failed", {"key": key}, stack_info=True)
    await asyncio.to_thread(logging.getLogger("some.library").warning, f"on a thread: {key}")
    thread = threading.Thread(target=context.logger.warning, args=(f"without the context: {key}",))
    thread.start()
    await asyncio.to_thread(thread.join)
    yield key
    yield {"nested": [key, {key: 1}]}


@action("leak.failure")
async def leak_failure(key: str, context: Context) -> None:
    """Fail with the value, in a message and a chain of exceptions that are longer than what is kept of them."""
    try:
        _find(key, {})
    except LookupError as error:
        raise RuntimeError("z" * 2_040 + key) from error


WORKFLOW = flow(
    step("all", "leak.everything", bindings=[workflow_pb2.Binding(target="/key", secret="KEY")]),
    step(
        "failure",
        "leak.failure",
        bindings=[workflow_pb2.Binding(target="/key", secret="KEY")],
        retry=retry(2),
        allow_failure=True,
    ),
)


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_SECRET_KEY", VALUE)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return what a handler of the root logger writes, with the attributes of records."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(headers)s", defaults={"headers": ""}))
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    with capture_logs():
        yield written
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
async def server(
    serve: Serve, tmp_path: Path, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> Server:
    file = tmp_path / "secrets.toml"
    file.write_text('[secrets.KEY]\nactions = ["leak.*"]\n')
    telemetry = Telemetry(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", telemetry.provider())
    return await serve(leak, leak_failure, telemetry=telemetry, secrets=file)


async def test_events_results_and_exports_do_not_have_the_value(client: RawClient, log: io.StringIO) -> None:
    events = await client.run(WORKFLOW, run_id="r")
    assert state_of(end_of(events).state) == "succeeded"
    assert reason_of(finished(events)["failure"].failure) == "action_error"
    assert MARK in str(finished(events)["all"].output)
    assert MARK in str(finished(events)["failure"].failure)
    sent = [event.SerializeToString() for event in (*events, *await client.events("r"))]
    sent += [response.SerializeToString() async for response in client.stub.ExportRun(pb.ExportRunRequest(run_id="r"))]
    sent.append((await client.result("r")).SerializeToString())
    sent.append((await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="r"))).SerializeToString())
    sent.append((await client.stub.ListRunLogs(pb.ListRunLogsRequest(run_id="r"))).SerializeToString())
    assert [found for data in sent if (found := leaks(data))] == []
    assert log.getvalue().count(MARK) >= 4


@pytest.mark.no_engine("the same records are logged on hosts")
async def test_logs_do_not_have_the_value(client: RawClient, log: io.StringIO) -> None:
    await client.run(WORKFLOW, run_id="r")
    kept = (await client.stub.ListRunLogs(pb.ListRunLogsRequest(run_id="r"))).events
    messages = [event.step_log.message for event in kept]
    assert messages[0] == f"the key is {MARK}"
    assert messages[1].startswith(f"a request with {{'key': '{MARK}'}} failed\n")
    assert messages[2:] == [f"on a thread: {MARK}", f"without the context: {MARK}"]
    written = log.getvalue()
    assert f"stepwave.action the key is {MARK} {{'Authorization': 'Bearer {MARK}'}}" in written
    assert "KeyError: 'yyy" in written
    assert leaks(written) == []


@pytest.mark.no_engine("a process exports its spans")
async def test_spans_do_not_have_the_value(client: RawClient, exporter: InMemorySpanExporter) -> None:
    await client.run(WORKFLOW)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    call = spans[f"call with {MARK}"]
    assert dict(call.attributes or {}) == {"url": f"/?key={MARK}", "list": (MARK, "other")}
    assert (call.events[0].attributes or {})["exception.message"] == MARK
    assert [found for span in spans.values() if (found := leaks(span.to_json()))] == []


@pytest.mark.one_server("its journal is a file")
async def test_files_of_the_server_do_not_have_the_value(server: Server, client: RawClient, tmp_path: Path) -> None:
    await client.run(WORKFLOW, run_id="r")
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.suffix != ".toml")
    assert leaks(stored) == []
    assert server.settings.journal_path() is None or b"leak.failure" in stored


async def test_an_explanation_of_a_running_step_does_not_have_the_value(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()

    @action("leak.slowly")
    async def slowly(key: str, context: Context) -> None:
        context.progress(0.1, key)
        running.set()
        await go_on.wait()

    (tmp_path / "secrets.toml").write_text('[secrets.KEY]\nactions = ["leak.*"]\n')
    client = connect(await serve(slowly, secrets=tmp_path / "secrets.toml"))
    workflow = flow(step("s", "leak.slowly", bindings=[workflow_pb2.Binding(target="/key", secret="KEY")]))
    await client.start(workflow, run_id="r")
    await running.wait()
    explanation = await client.stub.ExplainRun(pb.ExplainRunRequest(run_id="r"))
    go_on.set()
    await client.events("r")
    assert leaks(explanation.SerializeToString()) == []
