"""Open runs over a restart: what was added is kept, and may be added again."""

import asyncio

import grpc

from integration.durable.restarts import Restarts
from integration.server.build import bind, end_of, fallback_to, kinds_of, retry, state_of, states, step
from integration.server.raw_client import GUARD, refusal
from stepwave import AsyncClient
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2

RICH = step(
    "rich",
    "controlled",
    given={"value": {"deep": [1, 2.50, "x"]}},
    bindings=[bind("/value/deep/0", "a", "/x", default=7), bind("/value/deep/1", "input", "/y", default=None)],
    timeout=60,
    total_timeout=300,
    retry=retry(3, 0.5),
    fallback=fallback_to("controlled", {"value": 1}),
    join=workflow_pb2.JOIN_ALL_DONE,
    allow_failure=True,
)


async def test_an_open_run_goes_on_after_a_restart_and_takes_the_same_steps_again(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.open(step("a", "controlled"))
        await first.client.add(RICH, step("later", after=["last"]))
        await first.controlled.wait_started("a")
    async with restarts.start() as second:
        assert (await second.client.open(step("a", "controlled"))).open
        await second.client.add(RICH, step("later", after=["last"]))
        other = await refusal(second.client.add(step("rich", "controlled")))
        assert other.violations == [("steps[0].id", 'the run has another step "rich" already')]
        await second.client.add(step("last"), seal=True)
        second.controlled.release_all()
        events = await second.client.events("open")
    assert states(events) == {"a": "succeeded", "rich": "succeeded", "last": "succeeded", "later": "succeeded"}
    assert kinds_of(events).count("steps_added") == 2


async def test_steps_of_a_run_that_has_ended_may_be_added_again_and_others_may_not(restarts: Restarts) -> None:
    async with restarts.start() as first:
        first.controlled.release_all()
        await first.client.open(step("a"))
        await first.client.add(RICH)
        await first.client.add(step("b"), seal=True)
        await first.client.events("open")
    async with restarts.start(without="controlled") as second:
        for again in [step("a")], [RICH, step("b")], []:
            assert state_of((await second.client.add(*again, seal=True)).state) == "succeeded"
        for other in step("c"), step("b", given={"other": 1}):
            refused = await refusal(second.client.add(other))
            assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_OPEN")


async def test_a_repeat_needs_no_action_that_a_later_server_lacks(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.open()
        await first.client.add(step("x", "controlled", after=["y"]))
    async with restarts.start(without="controlled") as second:
        await second.client.add(step("x", "controlled", after=["y"]))
        refused = await refusal(second.client.add(step("z", "controlled")))
        assert refused.fields == ["steps[0].action"]
        await second.client.cancel("open")


async def test_the_idle_limit_of_a_run_outlives_its_server(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.open(idle=0.2)
        await first.client.add(step("a", after=["b"]))
    async with restarts.start() as second:
        events = await second.client.events("open")
    assert state_of(end_of(events).state) == "failed"
    added, stopping = (
        next(event for event in events if event.HasField(kind)) for kind in ("steps_added", "run_stopping")
    )
    assert stopping.time.ToNanoseconds() - added.time.ToNanoseconds() >= 200_000_000


async def test_a_paused_run_takes_no_steps(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.open()
    async with restarts.start(recover="pause") as second:
        refused = await refusal(second.client.add(step("a")))
        assert refused.message == 'run "open" takes no more steps: this server keeps it paused'


async def test_an_open_run_that_was_exported_says_so_and_keeps_its_idle_limit(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.open(idle=50)
    async with restarts.start() as second:
        stream = second.client.stub.ExportRun(pb.ExportRunRequest(run_id="open"))
        [head, *_] = [response async for response in stream]
    definition = head.definition
    assert (definition.open, definition.idle_timeout.seconds) == (True, 50)


async def test_a_plan_of_the_sdk_goes_on_after_a_restart(restarts: Restarts) -> None:
    """Steps that were sent to the first server, and steps that are added while there is none, all run once."""
    async with restarts.start() as first:
        address = first.server.address
        client = AsyncClient(address)
        plan = client.compose("plan", run_id="open")
        await plan.__aenter__()
        plan.step("a", "controlled")
        await first.controlled.wait_started("a")
    plan.step("b", "controlled", depends_on=["c"])
    async with restarts.start(listen=address) as second:
        plan.step("c", "controlled", depends_on=["a"])
        second.controlled.release_all()
        async with asyncio.timeout(GUARD):
            await plan.__aexit__(None, None, None)
            await client.close()
        assert second.controlled.invoked == ["a", "c", "b"]
        events = await second.client.events("open")
    assert plan.result.outputs == {"b": "b"}
    added = [step.id for event in events if event.HasField("steps_added") for step in event.steps_added.steps]
    assert added == ["a", "b", "c"]
