"""Requirements of a server in Temporal at its start."""

import asyncio
import shlex
from subprocess import DEVNULL

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from conformance.clusters import settings_for
from stepwave_server.app import Server
from stepwave_server.temporal import TemporalNotReady, check_ready
from temporal_server import TemporalServer, program
from waiting import until


async def test_a_namespace_that_does_not_exist_is_named_with_the_command_that_adds_it(
    temporal_server: TemporalServer,
) -> None:
    settings = settings_for(temporal_server).model_copy(update={"temporal_namespace": "nowhere"})
    with pytest.raises(TemporalNotReady) as refused:
        await Server(settings).start()
    command = f"temporal operator namespace create --address {temporal_server.address} --namespace nowhere"
    assert str(refused.value) == (
        f'Temporal at {temporal_server.address} has no namespace "nowhere"; add it: {command}'
    )


async def test_the_commands_in_the_errors_make_a_namespace_ready(temporal_server: TemporalServer) -> None:
    settings = settings_for(temporal_server).model_copy(update={"temporal_namespace": "fresh"})
    said: list[str] = []

    async def starts() -> bool:
        try:
            async with Server(settings):
                return True
        except TemporalNotReady as error:
            _, _, command = str(error).partition(": ")
        if command not in said:
            said.append(command)
            process = await asyncio.create_subprocess_exec(program(), *shlex.split(command)[1:], stdout=DEVNULL)
            assert await process.wait() == 0
        return False

    await until(starts)
    assert ["search-attribute" in command for command in said] == [False, True]


async def test_a_search_attribute_of_another_type_is_named(temporal_server: TemporalServer) -> None:
    settings = settings_for(temporal_server).model_copy(update={"temporal_namespace": "typed"})
    client = await Client.connect(temporal_server.address)
    retention = Duration(seconds=86_400)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace="typed", workflow_execution_retention_period=retention)
    )
    types = {"StepwaveState": IndexedValueType.INDEXED_VALUE_TYPE_TEXT}
    request = AddSearchAttributesRequest(namespace="typed", search_attributes=types)

    async def is_added() -> bool:
        try:
            await client.operator_service.add_search_attributes(request)
        except RPCError:  # the namespace is not known everywhere yet
            return False
        return True

    await until(is_added)

    async def is_named() -> bool:
        with pytest.raises(TemporalNotReady) as refused:
            await Server(settings).start()
        return "have another type: StepwaveState (want Keyword)" in str(refused.value)

    await until(is_named)


async def test_a_server_waits_for_what_is_missing_as_long_as_it_is_told(temporal_server: TemporalServer) -> None:
    settings = settings_for(temporal_server)
    client = await Client.connect(temporal_server.address, namespace="later")
    with pytest.raises(TemporalNotReady):
        await check_ready(client, settings, attributes=False)
    patient = settings.model_copy(update={"temporal_wait": 30.0})
    waiting = asyncio.create_task(check_ready(client, patient, attributes=False))
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace="later", workflow_execution_retention_period=Duration(seconds=86_400))
    )
    await waiting
