"""Runs with lists, nested workflows and steps that wait, on servers that are killed."""

import asyncio

from integration.durable.restarts import Restarts, RunningServer
from integration.durable.resuming_watchers import complete, open_channel
from integration.durable.server_process import ServerProcess, StepControl
from integration.server.build import (
    bind,
    check_sequences,
    end_of,
    finished,
    flow,
    items,
    payload,
    state_of,
    states,
    step,
    value_of,
)
from integration.server.raw_client import GUARD, RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2, workflow_pb2
from stepwave.v1.event_pb2 import RunEvent

BODY = flow(step("fetch", "controlled", given={}), step("parse", "controlled", given={}, after=["fetch"]), name="body")


async def test_a_list_goes_on_after_a_kill_and_no_finished_child_runs_again(
    process: ServerProcess, control: StepControl
) -> None:
    await process.start()
    client = RawClient(process.address)
    try:
        await client.start(flow(step("pages", over=items(1, 2, 3, at_once=2), body=BODY)), run_id="run")
        control.release("run", "pages[0]/fetch")
        control.release("run", "pages[0]/parse")
        control.release("run", "pages[1]/fetch")
        await control.wait_started("run", "pages[1]/parse")
        await control.wait_started("run", "pages[2]/fetch")
        await process.restart()
        await control.wait_started("run", "pages[1]/parse", attempt=2)
        for step_id in ("pages[1]/parse", "pages[2]/fetch", "pages[2]/parse"):
            control.release("run", step_id)
        events = await _events(client, "run")
    finally:
        await client.close()
    check_sequences(events)
    assert value_of(end_of(events).outputs["pages"]) == [{"parse": f"pages[{item}]/parse"} for item in range(3)]
    ran = {step_id: process.side_effects.attempts("run", step_id) for step_id in finished(events) if "/" in step_id}
    assert ran == {
        "pages[0]/fetch": [1],
        "pages[0]/parse": [1],
        "pages[1]/fetch": [1],
        "pages[1]/parse": [1, 2],
        "pages[2]/fetch": [1, 2],
        "pages[2]/parse": [1],
    }


async def _events(client: RawClient, run_id: str) -> list[RunEvent]:
    """Watch a run to its end, with a channel that may still have to reconnect."""
    async with asyncio.timeout(GUARD):
        response = client.stub.WatchRun(pb.WatchRunRequest(run_id=run_id), wait_for_ready=True)
        return [event async for message in response for event in message.events if event.sequence]


async def test_a_wait_survives_kills_and_its_completion_may_be_repeated_over_them(process: ServerProcess) -> None:
    await process.start()
    workflow = flow(
        step("ok", "core.wait"), step("more", "core.wait", over=items(1, 2)), step("end", "echoes", after=["ok"])
    )
    async with open_channel(process.address) as channel:
        client = RawClient(process.address)
        await client.start(workflow, run_id="run")
        await process.restart()
        await complete(channel, "run", "ok")
        await complete(channel, "run", "more[1]")
        await process.restart()
        for step_id in ("ok", "more[1]", "more[0]"):
            await complete(channel, "run", step_id)
        events = await _events(client, "run")
        await client.close()
        assert value_of(end_of(events).outputs["end"]) == {"ok": "ok"}
        assert value_of(end_of(events).outputs["more"]) == ["more[0]", "more[1]"]
        await process.restart()
        await complete(channel, "run", "ok")
    assert {event.step_started.attempt for event in events if event.HasField("step_started")} == {1}


async def test_another_outcome_of_a_completed_step_is_refused_after_a_restart(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(flow(step("ok", "core.wait"), step("more", "core.wait")), run_id="run")
        await _complete(first, "ok", "yes")
    async with restarts.start() as second:
        await _complete(second, "ok", "yes")
        refused = await refusal(_complete(second, "ok", "no"))
        assert refused.reason == "STEP_COMPLETED"
        await _complete(second, "more", "yes")
    async with restarts.start() as third:
        await _complete(third, "more", "yes")
        assert (await refusal(_complete(third, "more", "no"))).reason == "STEP_COMPLETED"


async def _complete(running: RunningServer, step_id: str, value: object) -> None:
    request = pb.CompleteStepRequest(run_id="run", step_id=step_id, output=payload(value))
    await running.client.stub.CompleteStep(request)


async def test_the_timeout_of_a_wait_counts_the_time_between_servers(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(flow(step("ok", "core.wait", timeout=0.3)), run_id="run")
        async with first.client.watch("run") as watch:
            await watch.until("step_started", "ok")
    await asyncio.sleep(0.4)  # the time of the timeout
    async with restarts.start() as second:
        events = await second.client.events("run")
    assert finished(events)["ok"].failure.cause == run_pb2.FAILURE_CAUSE_ATTEMPT_TIMEOUT


async def test_a_nested_workflow_keeps_its_deadline_over_a_restart(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(flow(step("sub", body=BODY, timeout=0.3)), run_id="run")
        await first.controlled.wait_started("sub/fetch")
    await asyncio.sleep(0.4)  # the time of the timeout
    async with restarts.start() as second:
        events = await second.client.events("run")
        assert second.controlled.invoked == []
    assert states(events) == {"sub/fetch": "cancelled", "sub/parse": "skipped", "sub": "failed"}


async def test_a_workflow_that_an_action_chose_goes_on_and_is_not_chosen_again(restarts: Restarts) -> None:
    chosen = {
        "name": "w",
        "steps": [
            {"id": "x", "action": "controlled", "input": {"json": "{}"}},
            {"id": "y", "action": "core.echo", "dependsOn": ["x"]},
        ],
    }
    async with restarts.start() as first:
        await first.client.start(flow(step("sub", "core.workflow", given={"workflow": chosen})), run_id="run")
        await first.controlled.wait_started("sub/x")
    async with restarts.start() as second:
        second.controlled.release_all()
        events = await second.client.events("run")
    assert value_of(end_of(events).outputs["sub"]) == {"y": {"x": "sub/x"}}
    assert finished(events)["sub"].attempts == 1
    assert sum(event.HasField("step_expanded") for event in events) == 1


async def test_a_rerun_after_a_restart_keeps_finished_children(restarts: Restarts) -> None:
    binding = bind("/value", "input", "/nowhere")
    workflow = flow(
        step(
            "pages",
            "controlled",
            given={},
            bindings=[workflow_pb2.Binding(target="/value", item="/v")],
            over=items({"v": 1}, {}, {"v": 3}),
        ),
        step("other", "controlled", given={}, bindings=[binding]),
        failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE,
    )
    async with restarts.start() as first:
        first.controlled.release_all()
        assert states(await first.client.run(workflow, given={}, run_id="first"))["pages"] == "failed"
    async with restarts.start() as second:
        rerun = pb.Rerun(run_id="first", from_failed=True)
        await second.client.stub.StartRun(pb.StartRunRequest(rerun=rerun, run_id="second"))
        events = await second.client.events("second")
        assert second.controlled.invoked == []
    async with restarts.start() as third:
        again = pb.Rerun(run_id="second", from_failed=True)
        await third.client.stub.StartRun(pb.StartRunRequest(rerun=again, run_id="third"))
        later = await third.client.events("third")
    assert {step_id for step_id, end in finished(events).items() if end.reused_from} == {"pages[0]", "pages[2]"}
    assert {step_id for step_id, end in finished(later).items() if end.reused_from} == {"pages[0]", "pages[2]"}
    assert state_of(end_of(later).state) == "failed"
