"""Explanations of runs on Temporal: what each step does or waits for, from any server."""

import asyncio
from collections.abc import Callable

from conformance.replicas import SECONDS, Replicas, Script, one_step
from stepwave import AsyncClient, State, WaitCause, Workflow, action
from stepwave._model.explanation import StepExplanation
from temporal_server import TemporalServer


async def explained(
    client: AsyncClient, run_id: str, step_id: str, until: Callable[[StepExplanation], bool]
) -> StepExplanation:
    """Return the explanation of a step once it says what is awaited: Temporal learns of attempts a little later."""
    while True:
        steps = {step.step_id: step for step in (await client.explain(run_id)).steps}
        if step_id in steps and until(steps[step_id]):
            return steps[step_id]
        await asyncio.sleep(0.01)


async def test_a_running_step_names_its_host_and_since_when_it_runs(temporal_server: TemporalServer) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        client, other = await replicas.client(script.action), await replicas.client()
        run_id = (await client.start(one_step())).run_id
        await script.begun.acquire()
        for server in (client, other):
            step = await explained(server, run_id, "s", lambda step: step.since is not None)
            assert (step.state, step.attempt, step.cause) == (State.RUNNING, 1, None)
            assert step.message.startswith("on the host ")
        script.end()
        await client.wait(run_id)
        assert (await other.explain(run_id)).steps == ()


async def test_a_running_action_is_found_at_its_line_from_any_server(temporal_server: TemporalServer) -> None:
    may_end = asyncio.Event()

    @action("act")
    async def act() -> None:
        await may_end.wait()  # here

    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        client, other = await replicas.client(act), await replicas.client()
        run_id = (await client.start(one_step())).run_id
        where = (await explained(other, run_id, "s", lambda step: step.where is not None)).where
        assert where is not None
        assert (where.file, where.text) == (__file__, "await may_end.wait()  # here")
        may_end.set()
        await client.wait(run_id)


async def test_a_step_that_no_host_can_run_waits_for_its_action(temporal_server: TemporalServer) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        server = await replicas.server()
        server.registry.add([script.action])
        client = await replicas.client_of(server)
        run_id = (await client.start(one_step())).run_id
        step = await explained(client, run_id, "s", lambda step: step.cause is not None)
        assert (step.cause, step.message) == (WaitCause.ACTION_MISSING, 'no host has the action "act"')
        assert step.since is not None
        await client.cancel(run_id)


async def test_steps_wait_for_others_for_a_barrier_and_for_an_answer(temporal_server: TemporalServer) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        client = await replicas.client(script.action)
        workflow = Workflow("waves", scheduling="wave")
        quick = workflow.step("quick", "core.echo", {"question": "go on?"})
        workflow.step("slow", "act")
        workflow.step("behind", "core.echo", depends_on=[quick])
        workflow.step("answer", "core.wait", {"question": "go on?"})
        run_id = (await client.start(workflow)).run_id
        step = await explained(client, run_id, "behind", lambda step: len(step.waits_for) == 2)
        assert (step.waits_for, step.message) == (("slow", "answer"), "the barrier: wave 0 has not ended")
        step = await explained(client, run_id, "answer", lambda step: step.cause is not None)
        assert (step.cause, step.message) == (WaitCause.EXTERNAL, '{"question":"go on?"}')
        await script.begun.acquire()
        await client.cancel(run_id)


async def test_an_interrupted_attempt_says_that_its_clean_up_is_awaited(temporal_server: TemporalServer) -> None:
    cleaning, may_end = asyncio.Event(), asyncio.Event()

    @action("act")
    async def act() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await may_end.wait()

    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        client = await replicas.client(act)
        run_id = (await client.start(one_step())).run_id
        await explained(client, run_id, "s", lambda step: step.since is not None)
        await client.cancel(run_id)
        await cleaning.wait()
        step = await explained(client, run_id, "s", lambda step: not step.message.startswith("on the host"))
        assert step.message == "it is being interrupted: its clean-up is awaited"
        may_end.set()
        await client.wait(run_id, check=False)
