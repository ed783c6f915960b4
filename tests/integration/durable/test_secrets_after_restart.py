"""Secrets after a restart: a resumed run knows where they belong, and reads their values anew."""

from pathlib import Path

import pytest

from integration.durable.restarts import Restarts
from integration.server.build import finished, flow, retry, states, step, value_of
from stepwave import action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import payload_pb2, workflow_pb2

RECEIVED: list[str] = []


@action("secret.keep")
async def keep(key: str) -> str:
    """Keep the value for the test, and answer with it."""
    RECEIVED.append(key)
    return key


async def test_a_resumed_run_fills_in_the_new_values(
    restarts: Restarts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text('[secrets.KEY]\nactions = ["secret.*"]\n')
    secret = workflow_pb2.Binding(target="/key", secret="KEY")
    steps = [step("first", "core.wait"), step("s", "secret.keep", after=["first"], bindings=[secret], retry=retry(2))]
    monkeypatch.setenv("STEPWAVE_SECRET_KEY", "the old value")
    async with restarts.start(keep, secrets=file) as server:
        await server.client.start(flow(*steps), run_id="r")
        await server.client.watch("r").until("step_started", "first")
    monkeypatch.setenv("STEPWAVE_SECRET_KEY", "the new value")
    async with restarts.start(keep, secrets=file) as server:
        done = payload_pb2.Payload(json="null")
        await server.client.stub.CompleteStep(pb.CompleteStepRequest(run_id="r", step_id="first", output=done))
        events = await server.client.events("r")
    assert states(events) == {"first": "succeeded", "s": "succeeded"}
    assert value_of(finished(events)["s"].output) == "[secret KEY]"
    assert RECEIVED == ["the new value"]
    assert b"the new value" not in (tmp_path / "journal.db").read_bytes()
