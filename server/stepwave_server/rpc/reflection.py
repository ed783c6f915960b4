"""Reflection in the versions `v1` and `v1alpha`. The library serves `v1alpha` only, and knows no methods as symbols.

Both versions have the same messages under different package names, so one servicer serves both.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pool import Default, DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from stepwave_server.rpc.permissions import Permissions

__all__ = ["reflection_handlers"]

_OLD_PACKAGE = "grpc.reflection.v1alpha"
_PACKAGE = "grpc.reflection.v1"
_SERVICE = "ServerReflection"
_METHOD = "ServerReflectionInfo"

Found = TypeVar("Found")


def reflection_handlers(services: Iterable[str], permissions: Permissions) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return the handlers of both versions.

    Args:
        services: The full names of the server's other services.
        permissions: Knows the callers: only they are served.
    """
    names = [f"{package}.{_SERVICE}" for package in (_PACKAGE, _OLD_PACKAGE)]
    servicer = reflection.aio.ReflectionServicer((*services, *names), pool=_Pool())
    handler = grpc.stream_stream_rpc_method_handler(
        permissions.guarded(servicer.ServerReflectionInfo),
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return tuple(grpc.method_handlers_generic_handler(name, {_METHOD: handler}) for name in names)


class _Pool:
    """The pool of the process, with the file of `v1`. Also finds files by the names of methods."""

    def __init__(self) -> None:
        self._process = Default()
        self._own = _pool_of_v1()

    def FindFileByName(self, name: str) -> FileDescriptor:  # noqa: N802 - as of a pool, and below
        return self._find(lambda pool: pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802
        try:
            return self._find(lambda pool: pool.FindFileContainingSymbol(symbol))
        except KeyError:
            service_name, _, method = symbol.rpartition(".")
            service = self._find(lambda pool: pool.FindServiceByName(service_name))
            if method not in service.methods_by_name:
                raise
            return service.file

    def FindMessageTypeByName(self, name: str) -> Descriptor:  # noqa: N802
        return self._find(lambda pool: pool.FindMessageTypeByName(name))

    def FindExtensionByNumber(self, message: Descriptor, number: int) -> FieldDescriptor:  # noqa: N802
        return self._process.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Descriptor) -> list[FieldDescriptor]:  # noqa: N802
        return self._process.FindAllExtensions(message)

    def _find(self, find: Callable[[DescriptorPool], Found]) -> Found:
        try:
            return find(self._process)
        except KeyError:
            return find(self._own)


def _pool_of_v1() -> DescriptorPool:
    """Return a pool with the file of `v1`: that of `v1alpha` under another name and package."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = "grpc/reflection/v1/reflection.proto", _PACKAGE
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(_OLD_PACKAGE, _PACKAGE)
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(_OLD_PACKAGE, _PACKAGE)
        method.output_type = method.output_type.replace(_OLD_PACKAGE, _PACKAGE)
    pool = DescriptorPool()
    pool.Add(file)
    return pool
