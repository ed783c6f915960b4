"""Limits after a restart: resumed attempts are counted again, and wait again if necessary."""

from pathlib import Path

from integration.durable.restarts import Restarts
from integration.server.build import finished, flow, states, step
from stepwave.v1 import orchestrator_pb2 as pb


async def test_resumed_attempts_are_limited_again(restarts: Restarts, tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: [{actions: controlled, concurrency: 2}]")
    async with restarts.start(limits=limits) as first:
        for run_id in ("a", "b", "c"):
            await first.client.start(flow(step(run_id, "controlled")), run_id=run_id)
        await first.controlled.wait_started("a", "b")
    limits.write_text("limits: [{actions: controlled, concurrency: 1}]")
    async with restarts.start(limits=limits) as second:
        for step_id in ("a", "b", "c"):
            await second.controlled.wait_started(step_id)
            listed = await second.client.stub.ListActions(pb.ListActionsRequest(page_size=1_000))
            (limit,) = next(it for it in listed.actions if it.name == "controlled").limits
            assert limit.in_flight == 1
            second.controlled.release(step_id)
        for run_id, attempts in {"a": 2, "b": 2, "c": 1}.items():
            events = await second.client.events(run_id)
            assert states(events) == {run_id: "succeeded"}
            assert finished(events)[run_id].attempts == attempts
