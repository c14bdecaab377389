"""Reflection: clients such as grpcurl and buf learn the API from the server."""

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)

SERVICES = {
    "knowledge.v1.KnowledgeService",
    "knowledge.v1.VectorService",
    "knowledge.v1.AuditService",
    "knowledge.v1.ConfigService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
    "grpc.reflection.v1.ServerReflection",
}

pytestmark = pytest.mark.parametrize("version", ["v1", "v1alpha"])


async def ask(channel: grpc.aio.Channel, version: str, **question: Any) -> Any:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )([ServerReflectionRequest(**question)])
    (answer,) = [each async for each in call]
    return answer


async def test_the_services_are_listed(channel: grpc.aio.Channel, version: str) -> None:
    answer = await ask(channel, version, list_services="")
    assert {each.name for each in answer.list_services_response.service} == SERVICES


@pytest.mark.parametrize(
    "symbol",
    [
        "knowledge.v1.KnowledgeService",
        "knowledge.v1.SearchRequest",
        "knowledge.v1.Document",
        "knowledge.v1.AuditOutcome",
    ],
)
async def test_a_symbol_is_resolved_to_its_file(
    channel: grpc.aio.Channel, version: str, symbol: str
) -> None:
    answer = await ask(channel, version, file_containing_symbol=symbol)
    files = [
        FileDescriptorProto.FromString(each)
        for each in answer.file_descriptor_response.file_descriptor_proto
    ]
    assert "knowledge.v1" in {file.package for file in files}
    defined = {
        each.name for file in files for each in (*file.service, *file.message_type, *file.enum_type)
    }
    assert symbol.split(".")[2] in defined


async def test_a_file_is_found_by_its_name(channel: grpc.aio.Channel, version: str) -> None:
    name = "knowledge/v1/document.proto"
    answer = await ask(channel, version, file_by_filename=name)
    (first, *_) = answer.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(first).name == name


async def test_an_unknown_symbol_is_not_found(channel: grpc.aio.Channel, version: str) -> None:
    answer = await ask(channel, version, file_containing_symbol="knowledge.v1.Nonsense")
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
