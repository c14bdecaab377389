"""The embedding models that collections can use or do use, in ConfigService."""

from knowledge.v1 import config_service_pb2 as pb
from knowledged.call import Call
from knowledged.embedding.catalogue import Catalogue, Offered
from knowledged.embedding.provider_faults import cause_of
from knowledged.services import pack
from knowledged.services.supplies import Supplies, granted
from knowledged.store import collections


class EmbeddingModels:
    """ListEmbeddingModels."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def ListEmbeddingModels(
        self, request: pb.ListEmbeddingModelsRequest, call: Call
    ) -> pb.ListEmbeddingModelsResponse:
        catalogue = self._supplies.text.catalogue
        async with self._supplies.database.read(call.left) as conn:
            used = await collections.count_by_model(conn, granted(call))
        ids = sorted({*used, *(offered.model_id for offered in catalogue)} - {""})
        return pb.ListEmbeddingModelsResponse(
            models=[_offered_model(catalogue, model_id, used.get(model_id, 0)) for model_id in ids]
        )


def embedding_model(offered: Offered) -> pb.EmbeddingModel:
    embedder = offered.embedder
    return pb.EmbeddingModel(
        model_id=embedder.model_id,
        model_digest=embedder.model_digest,
        dimension=embedder.dimension,
        max_tokens=embedder.max_tokens,
    )


def provider_status(offered: Offered) -> pb.ProviderStatus | None:
    """How a remote model is; None for a local one."""
    condition = offered.condition
    if condition is None:
        return None
    return pb.ProviderStatus(
        provider=offered.provider,
        model_id=offered.model_id,
        state=condition.state,  # pyright: ignore[reportArgumentType]
        reason=condition.reason,
        message=cause_of(condition.reason).advice if condition.reason else "",
        since=pack.timestamp(condition.since),
    )


def _offered_model(catalogue: Catalogue, model_id: str, used: int) -> pb.OfferedModel:
    offered = catalogue.find(model_id)
    if offered is None:
        unknown = pb.EmbeddingModel(model_id=model_id)
        return pb.OfferedModel(model=unknown, collection_count=used)
    return pb.OfferedModel(
        model=embedding_model(offered),
        provider=offered.provider,
        remote=offered.remote is not None,
        is_default=offered is catalogue.default,
        collection_count=used,
        status=provider_status(offered),
    )
