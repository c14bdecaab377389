"""ConfigService: what this server is and allows."""

from dataclasses import asdict

from knowledge.v1 import config_service_pb2 as pb
from knowledged.call import Call
from knowledged.services.supplies import Supplies
from knowledged.store import versions


class Config:
    """All RPCs of knowledge.v1.ConfigService."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def GetServerInfo(
        self, request: pb.GetServerInfoRequest, call: Call
    ) -> pb.GetServerInfoResponse:
        embedder = self._supplies.embedder
        async with self._supplies.database.read(call.left) as conn:
            database = await versions.read(conn)
        return pb.GetServerInfoResponse(
            version=self._supplies.version,
            postgresql_version=database.postgresql,
            pgvector_version=database.pgvector,
            schema_version=database.schema,
            embedding_model=pb.EmbeddingModel(
                model_id=embedder.model_id,
                model_digest=embedder.model_digest,
                dimension=embedder.dimension,
                max_tokens=embedder.max_tokens,
            ),
            limits=pb.Limits(**asdict(self._supplies.limits)),
        )
