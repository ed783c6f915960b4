"""Explanations of runs from an earlier server: an action is missing, or the run is paused."""

from integration.durable.restarts import Restarts
from integration.server.build import flow, state_of, step
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import WaitCause

BLOCKED = flow(step("blocked", "controlled"), step("next", after=["blocked"]))
ASK = pb.ExplainRunRequest(run_id="live")


async def _leave_running(restarts: Restarts) -> None:
    """Leave a run whose step is running to the next server."""
    async with restarts.start() as first:
        await first.client.start(BLOCKED, run_id="live")
        await first.controlled.wait_started("blocked")


async def test_a_step_whose_action_is_missing_names_it(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(without="controlled") as second:
        response = await second.client.stub.ExplainRun(ASK)
    blocked, following = response.steps
    assert (blocked.cause, blocked.message) == (
        WaitCause.WAIT_CAUSE_ACTION_MISSING,
        'this server has no action "controlled"',
    )
    assert (state_of(blocked.state), blocked.attempt, blocked.HasField("since")) == ("running", 1, True)
    assert list(following.waits_for_step_ids) == ["blocked"]


async def test_a_paused_run_is_explained(restarts: Restarts) -> None:
    await _leave_running(restarts)
    async with restarts.start(recover="pause") as second:
        response = await second.client.stub.ExplainRun(ASK)
    assert response.run.paused
    assert response.steps[0].message == "it was running when its server stopped"
    assert not response.steps[0].HasField("since")
