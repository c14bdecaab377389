"""Reflection under both names: grpcio ships v1alpha only, newer clients ask for v1."""

from collections.abc import Iterable
from typing import Any

import grpc.aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1_NAME = "grpc.reflection.v1.ServerReflection"


def add_reflection(server: grpc.aio.Server, service_names: Iterable[str]) -> None:
    """Answers what these services look like; v1 and v1alpha have the same messages on the wire."""
    names = list(service_names)
    reflection.enable_server_reflection(names, server)
    servicer: Any = reflection.aio.ReflectionServicer(names)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V1_NAME, methods),))
