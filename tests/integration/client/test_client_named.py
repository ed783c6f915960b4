"""Runs by the name of a workflow of the server, with both clients."""

from pathlib import Path

import pytest

from stepwave import AsyncClient, Client
from stepwave.exceptions import InvalidWorkflow, NotFound

SEARCH = """\
name: search
input_schema: '{"type": "object", "properties": {"query": {"type": "string"}}}'
steps: [{id: a, action: core.echo}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "search.yaml").write_text(SEARCH)
    return tmp_path


async def test_an_async_client_runs_a_workflow_by_its_name(folder: Path) -> None:
    async with AsyncClient.local(workflows=folder) as client:
        result = await client.run("search", {"query": "x"})
        assert (result.workflow_name, result.outputs) == ("search", {"a": {"query": "x"}})
        (named,) = await client.workflows()
        assert named.input_schema["type"] == "object"
        with pytest.raises(InvalidWorkflow) as refused:
            await client.run("search", {"query": 3})
        (violation,) = refused.value.violations
        assert (violation.field, violation.description) == ("input", "input/query: 3 is not of type 'string'")


def test_a_blocking_client_runs_a_workflow_by_its_name(folder: Path) -> None:
    with Client.local(workflows=folder) as client:
        assert client.run("search", {"query": "x"}).outputs == {"a": {"query": "x"}}
        with pytest.raises(NotFound, match='did you mean "search"'):
            client.run("serch")
