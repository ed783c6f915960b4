"""Waits of steps on Temporal: shown to watchers, and by `GetRun`."""

import asyncio

from conformance.replicas import SECONDS, Replicas, Script, first, one_step
from stepwave import AsyncClient, StepFinished, StepProgress, StepWaiting, WaitCause, Workflow
from temporal_server import TemporalServer


async def test_a_step_waits_for_a_host_with_its_action_and_goes_on_when_there_is_one(
    temporal_server: TemporalServer,
) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        server = await replicas.server()
        server.registry.add([script.action])  # a run may call it, and no host serves it
        client = await replicas.client_of(server)
        run_id = (await client.start(one_step())).run_id
        async with client.watch(run_id) as events:
            (waiting,) = await first(events, StepWaiting)
            message = 'no host has the action "act"'
            assert (waiting.step_id, waiting.cause, waiting.message) == ("s", WaitCause.ACTION_MISSING, message)
            run = await client.get(run_id)
            assert run.missing_actions == ("act",)
            assert [(it.cause, it.message, it.step_ids) for it in run.waiting] == [
                (WaitCause.ACTION_MISSING, message, ("s",))
            ]
            await replicas.server(script.action)
            (begun,) = await first(events, StepProgress)
            assert (begun.fraction, begun.message) == (None, "")
            assert (await client.get(run_id)).waiting == ()
            script.end()
            await first(events, StepFinished)


async def test_a_step_waits_for_busy_hosts(temporal_server: TemporalServer) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server, slots=1) as replicas:
        client = await replicas.client(script.action)
        workflow = Workflow("two")
        workflow.step("a", "act")
        workflow.step("b", "act")
        run_id = (await client.start(workflow)).run_id
        await script.begun.acquire()
        async with client.watch(run_id) as events:
            (waiting,) = await first(events, StepWaiting)
            message = 'the hosts of "act" are busy'
            assert (waiting.cause, waiting.message) == (WaitCause.CONCURRENCY, message)
            run = await client.get(run_id)
            assert [(it.cause, it.message, it.step_count) for it in run.waiting] == [
                (WaitCause.CONCURRENCY, message, 1)
            ]
            assert run.missing_actions == ()
            script.end()
            script.end()
            await first(events, StepFinished, count=2)


async def waiting_steps(client: AsyncClient, run_id: str) -> dict[str, WaitCause]:
    """Return what steps of a run wait for, as a new watcher sees it for two steps."""
    async with client.watch(run_id) as events:
        return {it.step_id: it.cause for it in await first(events, StepWaiting, count=2)}


async def test_a_step_waits_for_a_place_of_the_run_or_for_an_answer_on_any_server(
    temporal_server: TemporalServer,
) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        client, other = await replicas.client(script.action), await replicas.client()
        workflow = Workflow("bounded", max_parallelism=1)
        workflow.step("answer", "core.wait")
        workflow.step("a", "act")
        workflow.step("b", "act")
        run_id = (await client.start(workflow)).run_id
        await script.begun.acquire()
        for server in (client, other):
            assert await waiting_steps(server, run_id) == {
                "answer": WaitCause.EXTERNAL,
                "b": WaitCause.CONCURRENCY,
            }
            groups = {it.step_ids: it.message for it in (await server.get(run_id)).waiting}
            assert groups == {
                ("answer",): "it waits to be completed from outside",
                ("b",): "the workflow's max_parallelism is 1",
            }
        script.end()
        script.end()
        await client.complete_step(run_id, "answer", "yes")
        await client.wait(run_id)
