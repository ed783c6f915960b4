"""Reflection in both versions, for tools that have no `.proto` files."""

from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from integration.server.raw_client import RawClient

pytestmark = pytest.mark.no_engine("the service is described by its files")

SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "stepwave.v1.OrchestratorService",
}


@pytest.fixture(params=["v1", "v1alpha"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def ask(client: RawClient, version: str, **request: Any) -> ServerReflectionResponse:
    call = client.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )()
    await call.write(ServerReflectionRequest(**request))
    answer = await call.read()
    call.cancel()
    assert isinstance(answer, ServerReflectionResponse)
    return answer


def files(answer: ServerReflectionResponse) -> list[descriptor_pb2.FileDescriptorProto]:
    return [
        descriptor_pb2.FileDescriptorProto.FromString(data)
        for data in answer.file_descriptor_response.file_descriptor_proto
    ]


async def test_it_lists_the_services(client: RawClient, version: str) -> None:
    answer = await ask(client, version, list_services="")
    assert {service.name for service in answer.list_services_response.service} == SERVICES


@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_it_describes_every_service_that_it_lists(client: RawClient, version: str, service: str) -> None:
    found = files(await ask(client, version, file_containing_symbol=service))
    assert service in {f"{file.package}.{it.name}" for file in found for it in file.service}


@pytest.mark.parametrize(
    "symbol",
    [
        "stepwave.v1.Workflow",
        "stepwave.v1.OrchestratorService.ExecuteWorkflow",
        "grpc.reflection.v1.ServerReflection.ServerReflectionInfo",
        "grpc.reflection.v1.ServerReflectionRequest",
    ],
)
async def test_messages_and_methods_are_symbols(client: RawClient, version: str, symbol: str) -> None:
    assert files(await ask(client, version, file_containing_symbol=symbol))


async def test_files_are_found_by_name(client: RawClient, version: str) -> None:
    (file,) = files(await ask(client, version, file_by_filename="grpc/reflection/v1/reflection.proto"))
    types = {field.type_name for message in file.message_type for field in message.field if field.type_name}
    assert all(name.startswith(".grpc.reflection.v1.") for name in types)


@pytest.mark.parametrize("symbol", ["stepwave.v1.Nothing", "stepwave.v1.OrchestratorService.Nothing", "nothing"])
async def test_an_unknown_symbol_is_not_found(client: RawClient, version: str, symbol: str) -> None:
    answer = await ask(client, version, file_containing_symbol=symbol)
    assert answer.error_response.error_code == 5
