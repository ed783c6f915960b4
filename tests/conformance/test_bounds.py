"""The bounds of a run on Temporal: what is over them is refused, or ends the run with a clear failure."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from temporalio.client import Client

import stepwave_server.engine.temporal.driver as driver
from conformance.clusters import settings_for
from stepwave import AsyncClient, Context, InvalidWorkflow, LimitExceeded, State, Workflow, action
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.engine.temporal.engine import MAX_STEPS
from temporal_server import TemporalServer


@pytest.fixture
def settings(temporal_server: TemporalServer) -> Settings:
    return settings_for(temporal_server)


@action("grows")
async def grows(context: Context, number: int) -> None:
    """Add a step like this one, for ever."""
    more = Workflow("more")
    more.step(f"step{number + 1}", "grows", {"number": number + 1})
    await context.add_steps(more)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[AsyncClient]:
    async with Server(settings, actions=[grows]) as server, AsyncClient(server.address) as client:
        yield client


def wide(count: int, size: int = 0, first: int = 0) -> Workflow:
    workflow = Workflow("wide")
    for number in range(first, first + count):
        workflow.step(f"s{number}", "core.echo", "x" * size)
    return workflow


async def test_the_server_tells_its_bounds(client: AsyncClient) -> None:
    limits = (await client.server_info()).limits
    assert (limits.max_steps, limits.max_items, limits.max_payload_bytes) == (5_000, 5_000, 1 << 20)
    assert (limits.max_runs, limits.max_attempts_in_flight) == (0, 0)


async def test_more_steps_than_a_run_may_have_are_refused(client: AsyncClient) -> None:
    with pytest.raises(InvalidWorkflow, match="5,001 steps are more than the 5,000 allowed"):
        await client.start(wide(5_001))


async def test_steps_that_would_pass_the_bound_are_not_added(client: AsyncClient) -> None:
    first = Workflow("opens")
    first.step("waits", "core.wait")
    run = await client.start(first, open=True)
    with pytest.raises(InvalidWorkflow, match="5,001 steps are more than the 5,000 allowed"):
        await client.add_steps(run.run_id, wide(5_000))
    await client.cancel(run.run_id)


async def test_a_definition_over_the_bound_is_refused_with_the_bound(client: AsyncClient) -> None:
    with pytest.raises(LimitExceeded) as refused:
        await client.start(wide(4, size=600_000))
    assert "more than the 2,000,000 that a run on Temporal may have" in str(refused.value)
    assert refused.value.reason == "MESSAGE_TOO_LARGE"


async def test_added_steps_over_the_bound_are_refused_with_the_bound(client: AsyncClient) -> None:
    first = Workflow("opens")
    first.step("waits", "core.wait")
    run = await client.start(first, open=True)
    with pytest.raises(LimitExceeded) as refused:
        await client.add_steps(run.run_id, wide(4, size=600_000))
    assert "more than the 2,000,000 that a run on Temporal may have" in str(refused.value)
    await client.cancel(run.run_id)


async def test_a_payload_over_the_bound_is_refused(client: AsyncClient) -> None:
    with pytest.raises(InvalidWorkflow, match="1,048,576"):
        await client.start(wide(1, size=1_100_000))


async def test_a_run_that_grows_over_the_size_of_a_history_fails(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "MAX_HISTORY_EVENTS", 60)
    flow = Workflow("grows")
    flow.step("step0", "grows", {"number": 0})
    result = await client.run(flow, open=True, check=False, run_id=f"run-{uuid4().hex[:8]}")
    assert result.state is State.FAILED
    assert result.failures[0].reason == "resource_exhausted"
    assert "a run is ended at 60 events" in result.failures[0].message


@pytest.mark.parametrize(("steps", "seconds"), [(1, 5.0), (MAX_STEPS, 10.0)])
async def test_a_decision_that_was_lost_with_its_server_is_made_again_soon_and_a_large_run_gets_longer_for_it(
    settings: Settings, client: AsyncClient, steps: int, seconds: float
) -> None:
    run = await client.start(wide(steps))
    temporal = await Client.connect(settings.temporal_address)
    description = await temporal.get_workflow_handle(run.run_id).describe()
    timeout = description.raw_description.execution_config.default_workflow_task_timeout
    assert timeout.ToTimedelta().total_seconds() == pytest.approx(seconds, abs=0.5)
    await client.cancel(run.run_id)
