"""Makes the golden histories of this version: `python -m golden.make_temporal FOLDER` in the folder `tests`.

Each is the history of a run on Temporal and the events that servers derive from it. Every later version must derive the
same bytes, and its workflow must accept the history.
"""

import argparse
import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from conformance.decisions import derived, history_of
from integration.server.build import bind, fallback_to, flow, items, items_of, retry, step
from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave_server.app import Server
from stepwave_server.config import Settings
from temporal_server import TemporalServer
from waiting import until

__all__ = ["make"]

RUNS = ("golden-mixed", "golden-open", "golden-interrupted")
TASK_QUEUE = "golden"

CONTINUE = workflow_pb2.FAILURE_POLICY_CONTINUE
ALL_DONE = workflow_pb2.JOIN_ALL_DONE
ANY = workflow_pb2.JOIN_ANY


def _mixed() -> workflow_pb2.Workflow:
    """Return a workflow with most of what a step may have."""
    body = flow(step("in", "controlled"), step("out", "controlled", after=["in"], bindings=[bind("/value", "in")]))
    return flow(
        step("first", "controlled", given={"value": [1, 2]}),
        step("retried", "fails_first", retry=retry(3, 0.02)),
        step("saved", "fails", fallback=fallback_to("controlled", {"value": "kept"})),
        step("failed", "fails", allow_failure=True),
        step("never", after=["first"], when="size(deps.first.output) > 2"),
        step("each", "controlled", over=items_of("first"), after=["first"]),
        step("inner", body=body, over=items(1, 2, at_once=1)),
        step("any", "controlled", after=["retried", "saved"], join=ANY),
        step("slow", "stubborn", timeout=0.2, allow_failure=True),
        step("last", after=["never", "each", "inner", "any", "failed", "slow"], join=ALL_DONE),
        failure_policy=CONTINUE,
        max_parallelism=3,
    )


async def _play_mixed(client: RawClient, controlled: ControlledActions) -> None:
    run_id = "golden-mixed"
    await client.start(_mixed(), given={"x": 2**53 + 1}, run_id=run_id)
    names = ["first", "retried", "saved", "failed", "each[0]", "each[1]", "any"]
    names += [f"inner[{child}]/{part}" for child in (0, 1) for part in ("in", "out")]
    controlled.release(*names)
    await controlled.wait_started("slow/cancelled")
    controlled.release("slow")
    await client.events(run_id)


async def _play_open(client: RawClient, controlled: ControlledActions) -> None:
    run_id = "golden-open"
    await client.open(step("asks", "core.wait"), step("long", "controlled"), run_id=run_id)
    await client.add(step("more", "controlled", after=["asks"]), run_id=run_id)
    request = pb.CompleteStepRequest(run_id=run_id, step_id="asks")
    request.output.json = '"yes"'
    await client.stub.CompleteStep(request)
    await controlled.wait_started("more", "long")
    await client.add(step("late", after=["more", "long"]), run_id=run_id, seal=True)
    await client.cancel(run_id, "enough")
    await client.events(run_id)


def _interrupted() -> workflow_pb2.Workflow:
    """Return a workflow whose steps lose attempts: two by a drain, one because nobody sends its heartbeats."""
    once = step("once", "controlled", allow_failure=True)
    once.on_interrupt = workflow_pb2.ON_INTERRUPT_FAIL
    return flow(step("moved", "controlled"), once, step("silent", "silent"), failure_policy=CONTINUE)


@activity.defn(name="silent")
async def _silent(given: Any, attempt: dict[str, Any]) -> str:
    """Answer in the second attempt. The first one sends no heartbeat."""
    if attempt["attempt"] == 1:
        await asyncio.Event().wait()
    return "at last"


async def _play_interrupted(connection: Client, temporal: TemporalServer) -> None:
    controlled = ControlledActions()
    async with Worker(connection, task_queue=f"{TASK_QUEUE}:silent", activities=[_silent]):
        async with _server(temporal, controlled) as client:
            await until(partial(_started, client, _interrupted(), "golden-interrupted"))
            await controlled.wait_started("moved", "once")
        async with _server(temporal, controlled) as client:
            controlled.release("moved")
            await client.events("golden-interrupted")


async def _started(client: RawClient, workflow: workflow_pb2.Workflow, run_id: str) -> bool:
    """Start a run. Return false if an action is not known yet."""
    try:
        await client.start(workflow, run_id=run_id)
    except grpc.aio.AioRpcError:
        return False
    return True


@asynccontextmanager
async def _server(temporal: TemporalServer, controlled: ControlledActions) -> AsyncIterator[RawClient]:
    settings = Settings(
        listen="127.0.0.1:0",
        entry_points=False,
        engine="temporal",
        temporal_address=temporal.address,
        temporal_task_queue=TASK_QUEUE,
        temporal_heartbeat_timeout=2,
        drain_timeout=0,
    )
    async with Server(settings, actions=controlled.actions()) as server:
        client = RawClient(server.address)
        yield client
        await client.close()


def _neutral(part: object) -> object:
    """Leave out what is of the processes and the machine that took part: names, and traces of the stack."""
    if isinstance(part, list):
        return [_neutral(value) for value in part]
    if not isinstance(part, dict):
        return part
    if part.get("kind") == "TASK_QUEUE_KIND_STICKY":
        part = {**part, "name": "sticky"}
    return {key: _neutral(value) for key, value in part.items() if key not in ("identity", "stackTrace")}


async def make(folder: Path) -> None:
    """Make the golden histories."""
    folder.mkdir(parents=True)
    controlled = ControlledActions()
    with TemporalServer() as temporal:
        async with _server(temporal, controlled) as client:
            await _play_mixed(client, controlled)
            await _play_open(client, controlled)
        connection = await Client.connect(temporal.address)
        await _play_interrupted(connection, temporal)
        for run_id in RUNS:
            history = await history_of(connection, run_id)
            events = [b64encode(data).decode() for data in derived(list(history.events))]
            kept = {"run_id": run_id, "history": _neutral(history.to_json_dict()), "events": events}
            (folder / f"{run_id}.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    asyncio.run(make(parser.parse_args().folder))
