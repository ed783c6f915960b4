"""Steps that wait for a place of their run (`max_parallelism`): what watchers and `GetRun` say of them."""

import pytest

from integration.server.build import flow, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import WaitCause

MESSAGE = "the workflow's max_parallelism is 1"
ONE_AT_A_TIME = flow(*[step(name, "controlled") for name in ("a", "b", "c")], max_parallelism=1)


async def _waiting(client: RawClient) -> list[tuple[str, str, int, list[str]]]:
    response = await client.stub.GetRun(pb.GetRunRequest(run_id="run"))
    return [(WaitCause.Name(it.cause), it.message, it.step_count, list(it.step_ids)) for it in response.waiting]


async def test_watchers_see_that_a_step_waits_for_a_place(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve())
    await client.start(ONE_AT_A_TIME, run_id="run")
    await controlled.wait_started("a")
    for _ in range(2):  # a late watcher sees it as well
        async with client.watch("run") as stream:
            waiting = (await stream.until("step_waiting", "c")).step_waiting
            assert (waiting.cause, waiting.message) == (WaitCause.WAIT_CAUSE_CONCURRENCY, MESSAGE)


async def test_a_late_watcher_does_not_see_that_a_step_waited(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve())
    await client.start(ONE_AT_A_TIME, run_id="run")
    controlled.release("a")
    await controlled.wait_started("b")
    async with client.watch("run") as stream:
        controlled.release_all()
        waits = [event.step_waiting.step_id for event in await stream.rest() if event.HasField("step_waiting")]
        assert set(waits) <= {"c"}


async def test_a_step_that_is_cancelled_before_it_had_a_place_waits_no_more(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve())
    workflow = flow(step("clings", "stubborn"), step("b", "controlled"), max_parallelism=1)
    await client.start(workflow, run_id="run")
    await controlled.wait_started("clings")
    await client.cancel("run")
    await controlled.wait_started("clings/cancelled")
    async with client.watch("run") as stream:
        await stream.until("step_finished", "b")
        controlled.release("clings")
        assert not any(event.HasField("step_waiting") for event in await stream.rest())


async def test_a_run_lists_the_steps_that_wait_for_its_places(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve())
    await client.start(ONE_AT_A_TIME, run_id="run")
    await controlled.wait_started("a")
    assert await _waiting(client) == [("WAIT_CAUSE_CONCURRENCY", MESSAGE, 2, ["b", "c"])]
    controlled.release_all()
    await client.events("run")
    assert await _waiting(client) == []


@pytest.mark.one_server("its max_attempts bounds all its runs")
async def test_watchers_see_what_a_step_waits_for_once_it_has_a_place_of_its_run(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve(max_attempts=1))
    await client.start(flow(step("first", "controlled")), run_id="other")
    await controlled.wait_started("first")
    names = [f"s{number}" for number in range(150)]  # more than are shown as waiting
    workflow = flow(step("opens"), *[step(name, "controlled", after=["opens"]) for name in names], max_parallelism=1)
    await client.start(workflow, run_id="run")
    async with client.watch("run") as stream:
        controlled.release("first")
        await controlled.wait_started("s0")
        await client.start(flow(step("second", "controlled")), run_id="next")  # the server's one place goes to it next
        controlled.release("s0")
        await controlled.wait_started("second")
        while (waiting := (await stream.until("step_waiting", "s1")).step_waiting).message == MESSAGE:
            pass
        assert waiting.message == "the server's max_attempts is 1"
