"""Actions with hostile exceptions, texts, streams and values: each is recorded at once, and delays no other run."""

import asyncio
import gc
import importlib
import itertools
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from integration.server.build import end_of, finished, flow, kind_of, reason_of, state_of, step, text, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import GUARD, RawClient
from stepwave import Answer, AsyncClient, Blob, Context, Retry, StepRetrying, Workflow, action


class _Response:
    def __init__(self, status_code: int, headers: object) -> None:
        self.status_code = status_code
        self.headers = headers


class Answered(Exception):
    """Raised for an HTTP answer."""

    def __init__(self, response: object) -> None:
        super().__init__("the service refused")
        self.response = response


class Guarded(Exception):
    """An exception whose attributes cannot be read."""

    def __str__(self) -> str:
        raise SystemExit(3)

    @property
    def response(self) -> object:
        raise KeyboardInterrupt


class Disguised(Exception):
    """An object that claims to be of another class."""

    @property  # type: ignore[misc]  # what is tested
    def __class__(self) -> Any:
        raise SystemExit(3)


def _busy() -> Exception:
    return Answered(_Response(429, {"Retry-After": "9" * 400}))


@pytest.mark.parametrize(
    ("make", "name"), [(Guarded, "Guarded"), (Disguised, "Disguised"), (_busy, "Answered")], ids=lambda it: str(it)[:9]
)
async def test_an_exception_that_is_hard_to_classify_ends_its_attempt_at_once(
    serve: Serve, connect: Connect, make: Callable[[], Exception], name: str
) -> None:
    @action
    async def bad() -> None:
        raise make()

    events = await connect(await serve(bad)).run(flow(step("s", "bad", timeout=GUARD)))
    failure = finished(events)["s"].failure
    assert name in failure.message
    assert failure.details["function"].endswith("bad")


async def test_a_retry_after_beyond_every_calendar_still_gives_a_next_time(serve: Serve, connect: Connect) -> None:
    @action
    async def bad() -> None:
        raise _busy()

    server = await serve(bad)
    workflow = Workflow("busy")
    workflow.step("s", "bad", retry=Retry(max_attempts=2))
    async with AsyncClient(server.address) as sdk, sdk.run(workflow) as run:
        async for event in run:
            if isinstance(event, StepRetrying):
                assert event.next_time is not None
                assert (event.next_time - event.time).total_seconds() == pytest.approx(24 * 3600, abs=1)
                break


@pytest.fixture
def undecodable(tmp_path: Path) -> Iterator[Path]:
    """A folder of importable modules whose name is not valid text."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/f\xff")
    Path(folder).mkdir()
    sys.path.insert(0, folder)
    yield Path(folder)
    sys.path.remove(folder)
    sys.modules.pop("odd_tools", None)


@pytest.mark.one_server("the line of an action at once")
async def test_a_path_that_is_not_valid_text_is_reported_with_replacements(
    serve: Serve, connect: Connect, controlled: ControlledActions, undecodable: Path
) -> None:
    (undecodable / "odd_tools.py").write_text(
        "from stepwave import action\n"
        "@action\ndef bad() -> None:\n    raise ValueError('no')\n"
        "@action\nasync def waits(wait: object = None) -> None:\n    import asyncio; await asyncio.sleep(60)\n"
    )
    tools = importlib.import_module("odd_tools")
    server = await serve(tools.bad, tools.waits)
    client = connect(server)
    events = await client.run(flow(step("s", "bad")), run_id="odd")
    assert finished(events)["s"].failure.details["file"].endswith("/f?/odd_tools.py")
    async with AsyncClient(server.address) as sdk:
        assert (await sdk.result("odd")).steps["s"].failure is not None
        assert [run.run_id async for run in sdk.runs()] == ["odd"]
        assert {found.name for found in await sdk.actions()} >= {"bad", "waits"}
        waiting = Workflow("waiting")
        waiting.step("w", "waits")
        await sdk.start(waiting, run_id="waits")
        where = (await sdk.explain("waits")).steps[0].where
        assert where is not None
        assert where.file.endswith("/f?/odd_tools.py")


def _named(name: str) -> type[Exception]:
    kind = type("Odd", (Exception,), {})
    kind.__qualname__ = name
    return kind


async def test_text_that_utf_8_cannot_hold_is_cleaned_wherever_it_enters_an_event(
    serve: Serve, connect: Connect
) -> None:
    @action
    def odd(context: Context) -> Iterator[object]:
        context.progress(0.5, "\ud800 progress")
        context.emit("\ud800 emitted")
        yield "\ud800 chunk"
        raise _named("Odd\ud800")("\ud800 message")

    events = await connect(await serve(odd)).run(flow(step("s", "odd")))
    failure = finished(events)["s"].failure
    assert failure.message == "Odd?: ? message"
    assert failure.details["exception"] == "Odd?"
    shown = [event for event in events if kind_of(event) == "step_progress"]
    assert [event.step_progress.message for event in shown] in ([], ["? progress"])


@pytest.mark.one_server("limits by key")
async def test_a_concurrency_key_that_utf_8_cannot_hold_counts_like_any_other(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits:\n  - actions: controlled\n    per_key: {concurrency: 1}\n")
    client = connect(await serve(limits=limits))
    steps = [step(name, "controlled", given={"value": "\ud800"}) for name in ("a", "b")]
    for each in steps:
        each.concurrency_key = "/value"
    async with client.execute(flow(*steps), run_id="keyed") as run:
        waiting = await run.until("step_waiting")
        assert "for this key" in waiting.step_waiting.message


# Streams.


async def _check_prompt(client: RawClient, run_id: str) -> None:
    """Check that the server answers promptly."""
    for _ in range(20):
        await client.get(run_id)


class _WarningRecorder(logging.Handler):
    """Records the warnings of the server."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


@pytest.fixture
def warnings() -> Iterator[_WarningRecorder]:
    warnings, logger = _WarningRecorder(), logging.getLogger("stepwave_server")
    logger.addHandler(warnings)
    gc.collect()
    gc.freeze()  # a collection of all objects of a test process blocks the loop for longer than in a server
    yield warnings
    gc.unfreeze()
    logger.removeHandler(warnings)


def _endless_async(going: list[bool]) -> Callable[..., object]:
    @action("endless")
    async def endless() -> AsyncIterator[object]:
        while going:
            yield {}

    return endless


def _endless(going: list[bool]) -> Callable[..., object]:
    @action("endless")
    def endless() -> Iterator[object]:
        while going:
            yield {}

    return endless


@pytest.mark.parametrize("make", [_endless_async, _endless], ids=["async", "thread"])
async def test_a_stream_that_never_waits_lets_others_run_and_be_cancelled(
    serve: Serve, connect: Connect, warnings: _WarningRecorder, make: Callable[[list[bool]], Callable[..., object]]
) -> None:
    going = [True]
    client = connect(await serve(make(going), lag_warning=0.2))
    await client.start(flow(step("s", "endless")), run_id="endless")
    await _check_prompt(client, "endless")
    assert state_of(end_of(await client.run(flow(step("t")))).state) == "succeeded"
    await client.cancel("endless")
    going.clear()
    assert state_of(end_of(await client.events("endless")).state) in {"cancelled", "failed"}
    assert warnings.records == []


async def test_a_stream_that_never_waits_ends_by_its_timeout(serve: Serve, connect: Connect) -> None:
    @action
    async def endless() -> AsyncIterator[object]:
        for number in itertools.count():
            yield None if number % 1_000 else 1

    client = connect(await serve(endless))
    result = finished(await client.run(flow(step("s", "endless", timeout=0.1))))["s"]
    took = result.end_time.ToNanoseconds() - result.start_time.ToNanoseconds()
    assert reason_of(result.failure) == "timeout"
    assert took < 2_000_000_000


async def test_a_thread_that_emits_faster_than_the_loop_reads_delays_no_call(serve: Serve, connect: Connect) -> None:
    released = threading.Event()

    @action
    def chatty(context: Context) -> str:
        while not released.is_set():
            context.emit("x")
            context.progress(0.5, "y" * 100_000)
        return "done"

    client = connect(await serve(chatty))
    await client.start(flow(step("s", "chatty")), run_id="chatty")
    await _check_prompt(client, "chatty")
    released.set()
    assert value_of(finished(await client.events("chatty"))["s"].output) == "done"


async def test_the_output_of_a_stream_equals_the_chunks_shown(serve: Serve, connect: Connect) -> None:
    @action
    async def counting() -> AsyncIterator[list[int]]:
        seen: list[int] = []
        for number in range(3):
            seen.append(number)
            yield seen
            await asyncio.sleep(0)

    events = await connect(await serve(counting)).run(flow(step("s", "counting")))
    assert value_of(finished(events)["s"].output) == [[0], [0, 1], [0, 1, 2]]


# Cancellation that is not the server's.


async def test_a_cancelled_task_that_an_action_awaits_is_reported_as_such(serve: Serve, connect: Connect) -> None:
    @action
    async def bad() -> None:
        other = asyncio.ensure_future(asyncio.sleep(GUARD))
        other.cancel()
        await other

    failure = finished(await connect(await serve(bad)).run(flow(step("s", "bad"))))["s"].failure
    assert failure.message == "CancelledError: what the action awaited was cancelled"
    assert failure.retryable
    assert failure.details["function"].endswith("bad")


@pytest.mark.parametrize(
    ("way", "expected"),
    [("raise", "it failed: OSError: broke it"), ("answer", "it answered all the same, too late")],
)
async def test_what_an_action_raised_at_its_timeout_is_reported(
    serve: Serve, connect: Connect, controlled: ControlledActions, way: str, expected: str
) -> None:
    @action
    async def stubborn_way(context: Context) -> str:
        try:
            await controlled.wait_released(context.step_id)
        except asyncio.CancelledError:
            if way == "raise":
                raise OSError("broke it") from None
        return "late"

    events = await connect(await serve(stubborn_way)).run(flow(step("s", "stubborn_way", timeout=0.05)))
    failure = finished(events)["s"].failure
    assert (reason_of(failure), failure.details["when_interrupted"]) == ("timeout", expected)


# Values that cannot be read elsewhere.


@pytest.mark.parametrize(
    "given",
    ["1e400", "9" * 5_000, "[" * 101 + "]" * 101, "[" * 975 + "]" * 975, '{"a":-1E+999}'],
    ids=["infinity", "digits", "depth", "python's depth", "inside"],
)
async def test_an_input_that_not_every_json_parser_accepts_is_refused(client: RawClient, given: str) -> None:
    with pytest.raises(AioRpcError) as refused:
        await client.run(flow(step("s", "core.echo")), given=text(given))
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    with pytest.raises(AioRpcError) as refused:
        await client.run(flow(step("s", "core.echo", given=text(given))))
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize("value", [10**400, _nested(101)], ids=["digits", "depth"])
@pytest.mark.parametrize("way", ["value", "chunk", "answer"])
async def test_an_output_that_not_every_json_parser_accepts_fails_its_step(
    serve: Serve, connect: Connect, value: Any, way: str
) -> None:
    @action("bad")
    async def answers() -> object:
        return value

    @action("bad")
    async def streams() -> AsyncIterator[object]:
        yield Answer(value) if way == "answer" else value

    server = await serve(answers if way == "value" else streams)
    failure = finished(await connect(server).run(flow(step("s", "bad")), run_id="r"))["s"].failure
    assert "JSON cannot hold" in failure.message
    async with AsyncClient(server.address) as sdk:
        assert (await sdk.result("r")).steps["s"].failure is not None


async def test_a_blob_whose_data_is_not_bytes_fails_its_step(serve: Serve, connect: Connect) -> None:
    @action
    async def bad() -> object:
        return Blob(1 << 40)  # type: ignore[arg-type]  # what is tested

    failure = finished(await connect(await serve(bad)).run(flow(step("s", "bad"))))["s"].failure
    assert "a blob whose data is int" in failure.message
