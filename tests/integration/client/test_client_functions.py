"""The functions of a workflow, on a server in this process and on one that has no access to them."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from stepwave import (
    AsyncClient,
    Client,
    Fallback,
    InvalidWorkflow,
    Rerun,
    ServerUnavailable,
    StepStarted,
    Workflow,
    action,
)
from stepwave.testing import serve
from stepwave.v1 import workflow_pb2


@action
async def weather(city: str) -> str:
    return f"rain in {city}"


@action
def almanac(city: str) -> str:
    return f"sun in {city}, mostly"


@action
async def broken(city: str) -> str:
    raise ConnectionError(city)


@action
class Brief:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()  # as clients of other services want it

    async def invoke(self, sky: str) -> str:
        assert asyncio.get_running_loop() is self.loop
        return f"brief: {sky}"


INPUT = {"city": "Oslo"}


def briefing() -> Workflow:
    flow = Workflow("briefing")
    sky = flow.step("weather", weather)
    flow.step("brief", Brief, {"sky": sky.output})
    return flow


def unknown_actions() -> Workflow:
    flow = Workflow("unknown")
    flow.step("a", weather)
    flow.step("b", "weather")
    return flow


@pytest.fixture
async def local() -> AsyncIterator[AsyncClient]:
    async with AsyncClient.local(entry_points=False) as client:
        yield client


@pytest.fixture
def blocking() -> Iterator[Client]:
    with Client.local(entry_points=False) as client:
        yield client


async def test_a_local_server_gets_the_functions_of_a_workflow(local: AsyncClient) -> None:
    result = await local.run(briefing(), INPUT)
    assert result.outputs["brief"] == "brief: rain in Oslo"
    assert [info.name for info in await local.actions() if info.source != "built-in"] == ["Brief", "weather"]


async def test_every_way_to_submit_a_workflow_brings_its_functions() -> None:
    async with AsyncClient.local(entry_points=False) as planning:
        assert (await planning.plan(briefing())).steps
    async with AsyncClient.local(entry_points=False) as starting:
        run = await starting.start(briefing(), INPUT)
        assert (await starting.wait(run.run_id)).outputs["brief"] == "brief: rain in Oslo"
        assert (await starting.run(Rerun(run.run_id))).outputs["brief"] == "brief: rain in Oslo"
    async with (
        AsyncClient.local(entry_points=False) as streaming,
        streaming.run(briefing(), INPUT) as handle,
    ):
        started = [event.action async for event in handle if isinstance(event, StepStarted)]
        assert started == ["weather", "Brief"]
    async with AsyncClient.local(entry_points=False) as fanning:
        assert await fanning.parallel([weather, almanac], INPUT) == ["rain in Oslo", "sun in Oslo, mostly"]


def test_the_blocking_client_brings_them_too_and_classes_are_made_on_the_servers_loop(blocking: Client) -> None:
    assert blocking.run(briefing(), INPUT).outputs["brief"] == "brief: rain in Oslo"
    with blocking.stream(briefing(), INPUT) as handle:
        assert [event.action for event in handle if isinstance(event, StepStarted)] == ["weather", "Brief"]
    assert blocking.wait(blocking.start(briefing(), INPUT).run_id).succeeded
    assert blocking.plan(briefing()).steps


def test_a_client_that_outlives_its_server_says_so() -> None:
    with Client.local(entry_points=False, drain_timeout=0) as client:
        pass
    with pytest.raises(ServerUnavailable, match="the server in this process has stopped"):
        client.run(briefing(), INPUT)


async def test_the_function_of_a_fallback_is_brought_and_its_attempt_counts(local: AsyncClient) -> None:
    flow = Workflow("flow")
    flow.step("action", broken, fallback=Fallback(almanac))
    flow.step("value", broken, fallback=Fallback(value="unknown"))
    result = await local.run(flow, INPUT)
    assert result.outputs == {"action": "sun in Oslo, mostly", "value": "unknown"}
    assert {step_id: step.attempts for step_id, step in result.steps.items()} == {"action": 2, "value": 1}


async def test_a_function_that_the_server_has_is_no_problem() -> None:
    async with AsyncClient.local([weather, __name__], entry_points=False) as client:
        assert (await client.run(briefing(), INPUT)).succeeded
        assert (await client.run(briefing(), INPUT)).succeeded


async def test_another_action_of_the_same_name_is_an_error_before_anything_runs() -> None:
    @action("weather")
    async def other(city: str) -> str:
        return "snow"

    flow = Workflow("flow")
    flow.step("first", almanac)
    flow.step("weather", weather)
    async with AsyncClient.local([other], entry_points=False) as client:
        for submit in (lambda: client.run(flow, INPUT), lambda: client.start(flow, INPUT), lambda: client.plan(flow)):
            with pytest.raises(InvalidWorkflow, match=r"two actions are named 'weather': .*other and .*:weather"):
                await submit()
        assert [run async for run in client.runs()] == []
        assert "almanac" not in [info.name for info in await client.actions()]


async def test_two_functions_of_a_name_in_one_workflow_are_an_error(local: AsyncClient) -> None:
    @action("weather")
    async def other(city: str) -> str:
        return "snow"

    flow = briefing()
    flow.step("other", other, INPUT)
    with pytest.raises(InvalidWorkflow, match="two actions are named 'weather'"):
        await local.run(flow, INPUT)


async def test_a_local_server_without_an_action_has_a_hint_of_its_own(local: AsyncClient) -> None:
    flow = Workflow("flow")
    flow.step("a", "wether")
    await local.plan(briefing())  # brings `weather`
    with pytest.raises(InvalidWorkflow) as caught:
        await local.run(flow)
    assert str(caught.value).splitlines() == [
        'workflow.steps[0].action: unknown action "wether"; did you mean "weather"?',
        "add it to the `actions` of the server in this process",
    ]


NO_MCP = 'unknown action "mcp.call": the server needs --mcp-servers FILE, or STEPWAVE_MCP_SERVERS in its environment'


async def test_a_local_server_without_mcp_servers_says_what_their_actions_need(local: AsyncClient) -> None:
    flow = Workflow("flow")
    flow.step("a", "mcp.call", {"server": "s", "tool": "t"})
    with pytest.raises(InvalidWorkflow) as caught:
        await local.run(flow)
    assert str(caught.value) == f"workflow.steps[0].action: {NO_MCP}"


async def test_the_hint_leaves_out_the_actions_of_mcp_servers() -> None:
    flow = Workflow("flow")
    flow.step("a", "mcp.call", {"server": "s", "tool": "t"})
    flow.step("b", weather)
    with serve(entry_points=False) as address:
        async with AsyncClient(address) as client:
            with pytest.raises(InvalidWorkflow) as caught:
                await client.run(flow, INPUT)
    assert NO_MCP in str(caught.value)
    assert caught.value.hint == f"start a server that has it: stepwave serve --actions {__name__}"


async def test_a_server_elsewhere_gets_the_names_alone_and_the_error_says_how_to_start_one() -> None:
    with serve(entry_points=False) as address:
        async with AsyncClient(address) as client:
            flow = unknown_actions()
            calls = (lambda: client.run(flow, INPUT), lambda: client.start(flow, INPUT), lambda: client.plan(flow))
            for call in calls:
                with pytest.raises(InvalidWorkflow) as caught:
                    await call()
                assert str(caught.value).splitlines() == [
                    "; ".join(f'workflow.steps[{index}].action: unknown action "weather"' for index in (0, 1)),
                    f"start a server that has it: stepwave serve --actions {__name__}",
                ]
                assert {violation.reason for violation in caught.value.violations} == {"UNKNOWN_ACTION"}


def test_the_hint_names_each_module_once_and_has_a_placeholder_for_what_is_not_known() -> None:
    @action
    async def nested(city: str) -> str:
        return city

    flow = Workflow("flow")
    flow.step("a", weather, fallback=Fallback(almanac))
    flow.step("b", "somewhere.search", fallback=Fallback(nested))
    message = Workflow("message")
    message.step("a", weather)
    with serve(entry_points=False) as address, Client(address) as client:
        with pytest.raises(InvalidWorkflow) as caught:
            client.run(flow)
        assert caught.value.hint == (
            f"start a server that has them: stepwave serve --actions {__name__} --actions MODULE"
        )
        with pytest.raises(InvalidWorkflow) as caught, client.stream(message.to_proto()) as events:
            next(events)
        assert caught.value.hint == "start a server that has it: stepwave serve --actions MODULE"


def test_other_problems_have_no_hint() -> None:
    with serve(entry_points=False) as address, Client(address) as client:
        with pytest.raises(InvalidWorkflow) as caught:
            client.run(workflow_pb2.Workflow(name="empty"))
        assert caught.value.hint == ""
        assert "stepwave serve" not in str(caught.value)


def test_a_server_of_tests_can_be_given_the_actions_of_a_workflow() -> None:
    flow = briefing()
    with serve(flow.actions, entry_points=False) as address, Client(address) as client:
        assert client.run(flow, INPUT).succeeded


@pytest.mark.stepwave(entry_points=False)
def test_the_fixtures_client_brings_functions(stepwave_client: Client) -> None:
    assert stepwave_client.run(briefing(), INPUT).succeeded


class TestAnotherServer:
    """The fixture of the server, overridden."""

    @pytest.fixture
    def stepwave_server(self) -> Iterator[str]:
        with serve([weather], entry_points=False) as address:
            yield address

    def test_the_fixtures_client_is_one_of_that_server(self, stepwave_client: Client) -> None:
        with pytest.raises(InvalidWorkflow, match='unknown action "Brief"\nstart a server'):
            stepwave_client.run(briefing(), INPUT)
