"""Defects that repeat while a run is being ended, and defects before its first event."""

import asyncio
import sqlite3
from contextlib import closing

import grpc
import pytest

from integration.server.build import (
    check_sequences,
    end_of,
    finished,
    flow,
    kinds_of,
    state_of,
    states,
    step,
)
from integration.server.controlled_actions import ControlledActions
from integration.server.faults import ALWAYS, CHAIN, WIDE, Faults, ends, failed_internally
from integration.server.raw_client import RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from stepwave_server.app import Server
from stepwave_server.core.messages import (
    AttemptInterrupted,
    RunFinished,
    RunStarted,
    StopRequested,
)
from stepwave_server.core.model import State

pytestmark = pytest.mark.one_server("the defects are put into its engine and its journal")


@pytest.mark.parametrize("step_id", ["bad", "c"])
async def test_a_run_ends_although_its_defect_repeats_while_it_is_being_ended(
    client: RawClient, controlled: ControlledActions, faults: Faults, step_id: str
) -> None:
    faults.in_encoding(ends(step_id), ALWAYS)
    watching = asyncio.create_task(client.run(WIDE, run_id="live"))
    await controlled.wait_started("bad", "b", "c")
    controlled.release(step_id)
    events = await watching
    check_sequences(events)
    others = {"bad", "b", "c"} - {step_id}
    assert states(events) == dict.fromkeys(others, "cancelled") | {"next": "skipped"}
    assert failed_internally(end_of(events))
    counts = end_of(events).counts
    assert (counts.cancelled, counts.skipped, counts.running, counts.pending) == (3, 1, 0, 0)
    assert await client.result("live") == end_of(events)


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_step_without_an_end_event_is_left_out_of_the_pages_of_steps(
    client: RawClient, controlled: ControlledActions, faults: Faults, size: int
) -> None:
    faults.in_encoding(ends("b"), ALWAYS)
    controlled.release("b")
    events = await client.run(WIDE, run_id="live")
    token = ""
    found: list[run_pb2.StepResult] = []
    while True:
        request = pb.ListStepResultsRequest(run_id="live", page_size=size, page_token=token)
        page = await client.stub.ListStepResults(request)
        found += page.step_results
        token = page.next_page_token
        if not token:
            break
    assert [result.step_id for result in found] == ["bad", "c", "next"]
    assert {result.step_id: result for result in found} == finished(events)


@pytest.mark.parametrize("unable", [StopRequested, AttemptInterrupted])
async def test_a_run_that_the_core_cannot_end_gets_an_end_for_every_step(
    client: RawClient, controlled: ControlledActions, faults: Faults, unable: type
) -> None:
    faults.in_encoding(ends("bad"))
    faults.in_deciding(lambda given: isinstance(given, unable), ALWAYS)
    controlled.release("bad")
    events = await client.run(CHAIN, run_id="live")
    check_sequences(events)
    assert states(events) == {"first": "succeeded", "bad": "cancelled", "next": "skipped"}
    assert failed_internally(end_of(events))
    started, ended = (kinds_of(events).count(kind) for kind in ("wave_started", "wave_finished"))
    assert started == ended == 2


async def test_calls_about_a_run_that_cannot_be_ended_fail_and_other_runs_continue(
    client: RawClient, controlled: ControlledActions, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.in_encoding(lambda event: isinstance(event, RunFinished) and event.state is not State.CANCELLED, ALWAYS)
    controlled.release("bad")
    refused = await refusal(client.run(CHAIN, run_id="live"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "RUN_BROKEN")
    assert "keeps run live from being ended" in caplog.text
    await client.start(WIDE, run_id="other")
    await client.cancel("other")
    assert state_of(end_of(await client.events("other")).state) == "cancelled"


async def test_a_run_that_breaks_before_its_first_event_is_refused_and_leaves_its_id_free(
    client: RawClient, controlled: ControlledActions, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.in_encoding(lambda event: isinstance(event, RunStarted))
    refused = await refusal(client.start(CHAIN, run_id="live"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "RUN_BROKEN")
    assert "broke run live before its first event" in caplog.text
    assert (await refusal(client.get("live"))).reason == "RUN_NOT_FOUND"
    controlled.release("bad")
    assert state_of(end_of(await client.run(CHAIN, run_id="live")).state) == "succeeded"


@pytest.mark.parametrize("serve", ["sqlite"], indirect=True)
async def test_a_run_that_breaks_before_its_first_event_leaves_nothing_on_the_disk(
    server: Server, client: RawClient, faults: Faults
) -> None:
    faults.in_encoding(lambda event: isinstance(event, RunStarted))
    await refusal(client.start(CHAIN, run_id="live"))
    await client.run(flow(step("a")), run_id="after")
    place = server.settings.journal.removeprefix("sqlite:")
    with closing(sqlite3.connect(place)) as file:
        assert file.execute("SELECT run_id FROM runs").fetchall() == [("after",)]
