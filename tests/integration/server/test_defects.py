"""Defects and hostile values inside the server: they break one run or one step, never the server."""

import time
from collections.abc import Callable, Sequence

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from integration.server.build import bind, end_of, finished, flow, reason_of, state_of, step, text, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal
from stepwave import Blob, Context, action
from stepwave_server.core.info import RunKey
from stepwave_server.journal import Ended, MemoryJournal
from stepwave_server.wire.events.encode import Record

PART = step("part", "noop", bindings=[bind("/x", "input", "/n/0")])
INSIDE = step("inside", "noop", given={"n": 1}, bindings=[bind("/x", "input", "/n")])


@pytest.mark.parametrize("digits", [f"-0.{'1' * 2_000}", "1e308", "1e-9999"], ids=["long", "large", "small"])
async def test_no_number_in_a_binding_breaks_a_run(client: RawClient, digits: str) -> None:
    events = await client.run(flow(PART, INSIDE), given=text(f'{{"n":[{digits}]}}'))
    assert set(finished(events)) == {"part", "inside"}


@pytest.mark.parametrize("digits", ["1e9999", f"1e{'9' * 30}"], ids=["large", "huge"])
async def test_a_number_with_too_many_digits_is_refused(client: RawClient, digits: str) -> None:
    refused = await refusal(client.run(flow(PART, INSIDE), given=text(f'{{"n":[{digits}]}}'), run_id="bad"))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert (await refusal(client.get("bad"))).code is StatusCode.NOT_FOUND


@pytest.mark.parametrize("depth", range(900, 1_000, 11))
async def test_no_nesting_depth_in_a_binding_breaks_a_run(client: RawClient, depth: int) -> None:
    part = step("part", "noop", bindings=[bind("/x", "input", "/n")])
    inside = step("inside", "noop", given={"n": 1}, bindings=[bind("/x", "part", "/n")])
    given = text(f'{{"n":{"[" * depth}{"]" * depth}}}')
    try:
        events = await client.run(flow(part, inside), given=given)
    except AioRpcError as error:
        assert error.code() is StatusCode.INVALID_ARGUMENT  # noqa: PT017 - either is right
    else:
        assert set(finished(events)) == {"part", "inside"}


@pytest.mark.parametrize("content_type", ["\ud800", "x" * 100_000, "a/b\n"], ids=["surrogate", "long", "newline"])
async def test_a_blob_of_an_invalid_type_fails_its_step(serve: Serve, connect: Connect, content_type: str) -> None:
    @action
    async def bad() -> Blob:
        return Blob(b"data", content_type)

    failure = finished(await connect(await serve(bad)).run(flow(step("s", "bad"))))["s"].failure
    assert reason_of(failure) == "action_error"
    assert "content type" in failure.message


async def test_progress_that_does_not_fit_a_message_does_no_harm(serve: Serve, connect: Connect) -> None:
    @action
    def odd(context: Context) -> str:
        context.progress(0.5, "\ud800")
        return "done"

    events = await connect(await serve(odd)).run(flow(step("s", "odd")))
    assert value_of(finished(events)["s"].output) == "done"


class _Faulty(MemoryJournal):
    """A journal that fails for one run, from a sequence number on."""

    def __init__(self, good: int) -> None:
        super().__init__(time.time_ns)
        self._good = good

    def append(
        self, key: RunKey, records: Sequence[Record], committed: Callable[[], None], ended: Ended | None = None
    ) -> None:
        if key.run_id == "bad":
            if self._good <= 0:
                raise OSError("the disk is full")
            self._good -= len(records)
        super().append(key, records, committed, ended)


@pytest.mark.one_server("the defects are put into its journal")
@pytest.mark.parametrize("good", [0, 1, 4])
async def test_a_defect_of_the_server_breaks_one_run_and_no_other(
    serve: Serve, connect: Connect, controlled: ControlledActions, caplog: pytest.LogCaptureFixture, good: int
) -> None:
    server = await serve(journal=_Faulty(good), max_attempts=4)
    client = connect(server)
    await client.start(flow(step("a", "controlled"), step("b", after=["a"])), run_id="other")
    await controlled.wait_started("a")
    refused = await refusal(
        client.run(flow(*(step(f"s{i}", after=["s0"] if i else []) for i in range(50))), run_id="bad")
    )
    assert (refused.code, refused.reason) == (StatusCode.INTERNAL, "RUN_BROKEN")
    assert "the disk is full" in caplog.text
    controlled.release("a")
    assert state_of(end_of(await client.events("other")).state) == "succeeded"
    assert server.engine.attempts_in_flight == 0
    assert state_of(end_of(await client.run(flow(step("c")))).state) == "succeeded"
