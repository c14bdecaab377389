"""ConfigService: what this server is and allows."""

from dataclasses import asdict

from knowledge.v1 import config_service_pb2 as pb
from knowledged.call import Call
from knowledged.services.shared import Shared
from knowledged.store import versions


class Config:
    """All RPCs of knowledge.v1.ConfigService."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def GetServerInfo(
        self, request: pb.GetServerInfoRequest, call: Call
    ) -> pb.GetServerInfoResponse:
        embedder = self._shared.embedder
        async with self._shared.database.read(call.seconds_left(30)) as conn:
            database = await versions.read(conn)
        return pb.GetServerInfoResponse(
            version=self._shared.version,
            postgresql_version=database.postgresql,
            pgvector_version=database.pgvector,
            schema_version=database.schema,
            embedding_model=pb.EmbeddingModel(
                model_id=embedder.model_id,
                model_digest=embedder.model_digest,
                dimension=embedder.dimension,
                max_tokens=embedder.max_tokens,
            ),
            limits=pb.Limits(**asdict(self._shared.limits)),
        )
