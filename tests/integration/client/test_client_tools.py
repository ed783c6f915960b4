"""Agents' tools as the actions of steps: LangChain's, and functions with a schema, in a server of this process."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.tools import tool

from stepwave import AsyncClient, FailureReason, InvalidWorkflow, Workflow, action
from stepwave.testing import run_scripted

SCHEMA: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "rate",
        "description": "Rates a text.",
        "parameters": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "most": {"type": "integer", "minimum": 1}},
            "required": ["text"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


@tool
async def search(query: str, limit: int = 2) -> list[str]:
    """Search the web."""
    return [query] * limit


def rate_text(text: str, most: int = 5) -> int:
    return min(len(text), most)


find, rate = action.from_tool(search), action.from_tool(SCHEMA, rate_text)


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    async with AsyncClient.local([find, rate], entry_points=False) as client:
        yield client


async def test_tools_are_the_actions_of_steps(client: AsyncClient) -> None:
    flow = Workflow("flow")
    found = flow.step("find", find, {"query": flow.input["query"]})
    flow.step("rate", rate, {"text": found.output[0], "most": 3})
    result = await client.run(flow, {"query": "weather"})
    assert result.outputs == {"rate": 3}
    assert result["find"] == ["weather", "weather"]


async def test_a_workflow_brings_its_tools_along() -> None:
    flow = Workflow("flow")
    flow.step("find", find, {"query": "x", "limit": 1})
    async with AsyncClient.local(entry_points=False) as client:
        assert (await client.run(flow)).outputs == {"find": ["x"]}


async def test_tools_are_listed_with_their_schemas(client: AsyncClient) -> None:
    listed = {info.name: info for info in await client.actions()}
    assert listed["rate"].description == "Rates a text."
    assert listed["rate"].input_schema == SCHEMA["function"]["parameters"]
    assert listed["search"].source == f"{__name__}:search"


async def test_a_plan_and_a_run_are_refused_for_all_problems_of_a_tools_input(client: AsyncClient) -> None:
    flow = Workflow("flow")
    flow.step("rate", "rate", {"text": 7, "most": 0, "least": 1})
    for refuse in (client.plan, client.run):
        with pytest.raises(InvalidWorkflow) as refused:
            await refuse(flow)
        assert sorted(violation.description for violation in refused.value.violations) == [
            "most: 0 is less than the minimum of 1",
            "text: 7 is not of type 'string'",
            'the action does not know the key "least"; it takes most, text',
        ]


async def test_a_value_that_does_not_fit_fails_the_step_before_the_tool_is_called(client: AsyncClient) -> None:
    flow = Workflow("flow")
    flow.step("rate", rate, {"text": flow.input["text"]})
    (failure,) = (await client.run(flow, {"text": 7}, check=False)).failures
    assert (failure.reason, failure.message) == (FailureReason.INVALID_INPUT, "text: 7 is not of type 'string'")


def test_a_scripted_run_calls_tools_and_checks_the_inputs_of_replaced_ones() -> None:
    flow = Workflow("flow")
    found = flow.step("find", find, {"query": "x"})
    flow.step("rate", rate, {"text": found.output})
    run = run_scripted(flow, {"rate": [1]}, check=False)
    assert run["find"] == ["x", "x"]
    assert run.result.failures[0].message == "text: ['x', 'x'] is not of type 'string'"
