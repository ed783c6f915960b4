"""Named workflows that steps run on Temporal: each server has its own, and any of them may run the step."""

from pathlib import Path

import pytest

from conformance.clusters import settings_for
from stepwave import AsyncClient, FailureReason, Workflow
from stepwave_server.app import Server
from stepwave_server.config import Settings
from temporal_server import TemporalServer

ADVICE = "(any server of the cluster may run the step: start all of them with the same --workflows)"


@pytest.fixture
def settings(temporal_server: TemporalServer, tmp_path: Path) -> Settings:
    (tmp_path / "greets.yaml").write_text("name: greets\nsteps: [{id: only, action: core.echo, input: hello}]\n")
    return settings_for(temporal_server).model_copy(update={"workflows": tmp_path})


def runs_workflow(name: str) -> Workflow:
    """Return a workflow whose step runs a named one."""
    flow = Workflow("runs")
    flow.step("sub", "core.workflow", {"name": name})
    return flow


async def test_a_server_runs_its_named_workflow_in_a_step(settings: Settings) -> None:
    async with Server(settings) as server, AsyncClient(server.address) as client:
        assert (await client.run(runs_workflow("greets"))).outputs == {"sub": {"only": "hello"}}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("greetz", 'no workflow "greetz" on this server; did you mean "greets"?'),
        ("nowhere", 'no workflow "nowhere" on this server'),
    ],
)
async def test_a_name_that_the_server_lacks_fails_with_what_to_do(settings: Settings, name: str, message: str) -> None:
    async with Server(settings) as server, AsyncClient(server.address) as client:
        (failure,) = (await client.run(runs_workflow(name), check=False)).failures
    assert (failure.reason, failure.message) == (FailureReason.NOT_FOUND, f"{message} {ADVICE}")
