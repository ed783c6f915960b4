"""Calls and a drain while a run meets a defect: they wait for what is being committed."""

import asyncio

import pytest

from integration.server.build import (
    check_sequences,
    end_of,
    flow,
    sequences,
    state_of,
    states,
    step,
)
from integration.server.controlled_actions import ControlledActions
from integration.server.faults import WIDE, Faults, ends, failed_internally
from integration.server.fixture_types import Connect, Serve, eventually
from integration.server.raw_client import RawClient
from integration.server.slow_journal import SlowJournal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2

pytestmark = pytest.mark.one_server("the defects are put into its engine and its journal")


async def test_calls_about_a_run_that_has_just_broken_return_its_state_afterwards(
    serve: Serve, connect: Connect, controlled: ControlledActions, faults: Faults
) -> None:
    """The calls return after what was being committed: they never see state that is not committed."""
    journal = SlowJournal()
    server = await serve(journal=journal)
    client = connect(server)
    faults.in_encoding(ends("bad"))
    starting = asyncio.create_task(client.start(WIDE, run_id="live"))
    await journal.wait_pending()
    journal.commit()
    await starting
    await controlled.wait_started("bad", "b", "c")
    controlled.release("b")
    await journal.wait_pending()
    controlled.release("bad")
    await eventually(lambda: faults.count == 1)
    asking = [
        asyncio.create_task(client.get("live")),
        asyncio.create_task(_listed(client)),
        asyncio.create_task(_explained(client)),
        asyncio.create_task(_stepped(client)),
        asyncio.create_task(client.start(WIDE, run_id="live")),
    ]
    watching = asyncio.create_task(client.events("live"))
    await eventually(lambda: server.engine.watchers == 1)
    journal.commit_promptly()
    answers = await asyncio.gather(*asking)
    events = await watching
    committed = sequences(journal.committed)
    check_sequences(events)
    assert committed == sequences(events)
    assert states(events)["b"] == "succeeded"
    assert failed_internally(end_of(events))
    for run in answers:
        assert run.counts.succeeded == 1
        assert run.last_sequence <= events[-1].sequence


async def _listed(client: RawClient) -> run_pb2.Run:
    (run,) = (await client.stub.ListRuns(pb.ListRunsRequest())).runs
    return run


async def _explained(client: RawClient) -> run_pb2.Run:
    return (await client.stub.ExplainRun(pb.ExplainRunRequest(run_id="live"))).run


async def _stepped(client: RawClient) -> run_pb2.Run:
    """Return a run with the counts of its listed steps."""
    response = await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="live"))
    succeeded = sum(state_of(result.state) == "succeeded" for result in response.step_results)
    return run_pb2.Run(counts=run_pb2.StateCounts(succeeded=succeeded))


async def test_a_draining_server_ends_a_broken_run_first(serve: Serve, connect: Connect, faults: Faults) -> None:
    """Appended events are not committed yet when the drain begins."""
    journal = SlowJournal()
    server = await serve(journal=journal)
    client = connect(server)
    faults.in_encoding(ends("bad"))
    starting = asyncio.create_task(client.start(flow(step("bad"), step("b", "controlled")), run_id="live"))
    await journal.wait_pending()
    journal.commit()
    await starting
    await eventually(lambda: faults.count == 1)
    draining = asyncio.create_task(server.drain())
    await eventually(lambda: server.engine.draining)
    journal.commit_promptly()
    await draining
    assert failed_internally(end_of(journal.committed))
