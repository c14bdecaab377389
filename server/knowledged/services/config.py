"""ConfigService: what this server is and allows."""

from dataclasses import asdict

from knowledge.v1 import config_service_pb2 as pb
from knowledged.call import Call
from knowledged.services.offered import embedding_model, provider_status
from knowledged.services.supplies import Supplies
from knowledged.store import versions


class Config:
    """GetServerInfo; the other RPCs of ConfigService are in files of their own."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def GetServerInfo(
        self, request: pb.GetServerInfoRequest, call: Call
    ) -> pb.GetServerInfoResponse:
        catalogue = self._supplies.text.catalogue
        async with self._supplies.database.read(call.left) as conn:
            database = await versions.read(conn)
        return pb.GetServerInfoResponse(
            version=self._supplies.version,
            postgresql_version=database.postgresql,
            pgvector_version=database.pgvector,
            schema_version=database.schema,
            embedding_model=embedding_model(catalogue.default),
            limits=pb.Limits(**asdict(self._supplies.limits)),
            providers=[status for offered in catalogue if (status := provider_status(offered))],
        )
