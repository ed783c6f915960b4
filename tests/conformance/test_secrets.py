"""Secrets on Temporal: hosts fill them in, by a file of their own, and Temporal never has a value."""

import asyncio
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client

from stepwave import AsyncClient, Context, Retry, RunFailed, Workflow, action
from stepwave.v1 import workflow_pb2
from stepwave_server.app import Server
from stepwave_server.config import Settings
from temporal_server import TemporalServer
from waiting import accepts, until

VALUE = "sk-live-9f8e7d6c5b4a"


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_SECRET_KEY", VALUE)


@pytest.fixture
def settings(temporal_server: TemporalServer, tmp_path: Path) -> Settings:
    return Settings(
        listen="127.0.0.1:0",
        engine="temporal",
        temporal_address=temporal_server.address,
        temporal_task_queue=f"test-{uuid4().hex}",
        entry_points=False,
        secrets=_file(tmp_path / "server.toml", "leak"),
    )


def _file(path: Path, action_name: str) -> Path:
    path.write_text(f'[secrets.KEY]\nactions = ["{action_name}"]\n')
    return path


def _leaking() -> workflow_pb2.Workflow:
    flow = Workflow("leaking", retry=Retry(max_attempts=2, initial_backoff=0))
    flow.step("s", "leak", {"more": 1})
    message = flow.to_proto()
    message.steps[0].bindings.add(target="/key", secret="KEY")
    return message


@action("leak")
async def leak(key: str, more: int, context: Context) -> str:
    """Give the value out, fail at first, and answer with it."""
    context.progress(0.5, key)
    context.logger.info(key)
    await asyncio.sleep(0)
    if context.attempt == 1:
        raise RuntimeError(key)
    return key * more


async def test_a_history_does_not_have_the_value(temporal_server: TemporalServer, settings: Settings) -> None:
    async with Server(settings, actions=[leak]) as server, AsyncClient(server.address) as client:
        result = await client.run(_leaking())
    temporal = await Client.connect(temporal_server.address)
    history = await temporal.get_workflow_handle(result.run_id).fetch_history()
    stored = b"".join(event.SerializeToString() for event in history.events)
    assert stored.count(b"[secret KEY]") > 2
    assert VALUE.encode() not in stored
    assert result.outputs == {"s": "[secret KEY]"}


async def test_a_host_checks_its_own_file(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"secrets": _file(tmp_path / "host.toml", "other")})
    async with Server(settings) as server, Server(other, actions=[leak]), AsyncClient(server.address) as client:
        await until(partial(accepts, client, _leaking()))
        with pytest.raises(RunFailed, match="the secret KEY is not available to the action leak in the namespace"):
            await client.run(_leaking())
