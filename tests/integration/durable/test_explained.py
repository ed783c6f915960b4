"""Why a run does not move that an earlier server left: it lacks an action, or is left alone."""

from integration.durable.lives import Lives
from integration.server.build import flow, state_of, step
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import WaitCause

HELD = flow(step("held", "gated"), step("next", after=["held"]))
ASK = pb.ExplainRunRequest(run_id="live")


async def _leave_running(lives: Lives) -> None:
    """Leave a run to the next server whose step is running."""
    async with lives.next() as first:
        await first.caller.start(HELD, run_id="live")
        await first.stage.here("held")


async def test_a_step_without_its_action_names_it(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(without="gated") as second:
        response = await second.caller.stub.ExplainRun(ASK)
    held, following = response.steps
    assert (held.cause, held.message) == (WaitCause.WAIT_CAUSE_ACTION_MISSING, 'this server has no action "gated"')
    assert (state_of(held.state), held.attempt, held.HasField("since")) == ("running", 1, True)
    assert list(following.waits_for) == ["held"]


async def test_a_run_that_is_left_alone_says_so(lives: Lives) -> None:
    await _leave_running(lives)
    async with lives.next(recover="pause") as second:
        response = await second.caller.stub.ExplainRun(ASK)
    assert response.run.paused
    assert response.steps[0].message == "it was running when its server stopped"
    assert not response.steps[0].HasField("since")
