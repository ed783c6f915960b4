"""Namespaces of runs on Temporal."""

from pathlib import Path
from uuid import uuid4

import pytest

from stepwave import AsyncClient, Workflow
from stepwave.exceptions import NotFound
from stepwave_server.access.tokens import hash_of
from stepwave_server.app import Server
from stepwave_server.config import Settings
from temporal_server import TemporalServer
from waiting import until

ACCESS = f"""
[namespaces.default]
[namespaces.research]
[[tokens]]
name = "operator"
sha256 = "{hash_of("operator")}"
roles = {{"*" = "admin"}}
"""


@pytest.fixture
async def settings(temporal_server: TemporalServer, tmp_path: Path) -> Settings:
    access = tmp_path / "access.toml"
    access.write_text(ACCESS)
    return Settings(
        listen="127.0.0.1:0",
        engine="temporal",
        temporal_address=temporal_server.address,
        temporal_namespace=await temporal_server.new_namespace(),
        entry_points=False,
        access=access,
    )


async def test_runs_of_two_namespaces_are_apart(settings: Settings) -> None:
    flow, run_id = Workflow("echo"), f"run-{uuid4().hex}"
    flow.step("echo", "core.echo")
    async with (
        Server(settings) as server,
        AsyncClient(server.address, token="operator") as default,
        AsyncClient(server.address, token="operator", namespace="research") as research,
    ):
        await default.run(flow, "default", run_id=run_id)
        with pytest.raises(NotFound):
            await research.get(run_id)
        result = await research.run(flow, "research", run_id=run_id)
        assert result.outputs == {"echo": "research"}
        assert (await default.result(run_id)).outputs == {"echo": "default"}
        for client, namespace in ((default, "default"), (research, "research")):
            found = [(run.namespace, run.run_id, run.created_by) async for run in client.runs(prefix=run_id[:9])]
            assert found == [(namespace, run_id, "token:operator")]
        await research.delete(run_id)
        assert (await default.get(run_id)).state == "succeeded"
        assert [run async for run in research.runs()] == []


async def test_visibility_alone_keeps_namespaces_apart(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwave_server.engine.temporal.run_list.LATE_NANOS", 0)
    flow = Workflow("echo")
    flow.step("echo", "core.echo")
    async with (
        Server(settings) as server,
        AsyncClient(server.address, token="operator") as default,
        AsyncClient(server.address, token="operator", namespace="research") as research,
    ):
        await default.run(flow, run_id="one")
        await research.run(flow, run_id="two")

        async def listed() -> bool:
            return [run.run_id async for run in default.runs()] == ["one"] and [
                run.run_id async for run in research.runs()
            ] == ["two"]

        await until(listed)
