"""ConfigService: what the server says of itself."""

import re
from typing import Any

from knowledge.v1.config_service_pb2 import GetServerInfoRequest


async def test_the_server_tells_its_versions(config: Any) -> None:
    info = await config.GetServerInfo(GetServerInfoRequest())
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", info.version)
    assert int(info.postgresql_version.split(".")[0]) >= 17
    assert re.fullmatch(r"\d+\.\d+\.\d+", info.pgvector_version)
    assert info.schema_version >= 8


async def test_a_secured_server_answers(secured_server) -> None:
    from knowledge.v1.config_service_pb2_grpc import ConfigServiceStub

    info = await ConfigServiceStub(secured_server.channel).GetServerInfo(
        GetServerInfoRequest(), metadata=secured_server.metadata("reader")
    )
    assert info.version


async def test_fresh(collection):
    assert collection.dimension == 384
