"""Which models collections can have, and that vectors of two models never mix."""

from dataclasses import replace
from typing import Any

import grpc
import pytest
from refusal import refused
from serving import GATED, MISSING_MODEL, MODEL, Caller, calling, server, settings

from cluster import DatabaseUrls
from hugging_face_server import GOOD, HuggingFaceServer
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import config_service_pb2 as s
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledged.embedding import bundled
from knowledged.embedding.catalogue import Catalogue, Offered
from knowledged.embedding.local import LocalEmbedder
from served import Model, Serve

Code = grpc.StatusCode
KEY = "hf_modelsmodelsmodelsmodels0001"


async def models(caller: Caller) -> dict[str, s.OfferedModel]:
    answer = await caller.config.ListEmbeddingModels(s.ListEmbeddingModelsRequest())
    ids = [each.model.model_id for each in answer.models]
    assert ids == sorted(ids)
    return {each.model.model_id: each for each in answer.models}


async def test_models_are_listed_with_what_they_are_and_who_uses_them(
    serve: Serve, database_urls: DatabaseUrls, outside: HuggingFaceServer, model: Model
) -> None:
    outside.keys[KEY] = GOOD
    async with server(serve, database_urls, outside, hugging_face_api_key=KEY) as caller:
        await caller.collection()
        await caller.collection()
        await caller.collection("somebody/else")
        listed = await models(caller)
        assert set(listed) == {
            model.embedder.model_id,
            MODEL,
            GATED,
            MISSING_MODEL,
            "somebody/else",
        }
        own, remote = listed[model.embedder.model_id], listed[MODEL]
        assert (own.provider, own.remote, own.is_default) == ("local", False, True)
        assert own.model.model_digest == model.embedder.model_digest
        assert not own.HasField("status")
        assert (remote.provider, remote.remote, remote.is_default) == ("huggingface", True, False)
        assert (remote.model.dimension, remote.model.max_tokens) == (384, 254)
        assert remote.collection_count == 2
        assert remote.status.state in (s.PROVIDER_STATE_UNTRIED, s.PROVIDER_STATE_READY)
        assert listed["somebody/else"].provider == ""
        made = c.Collection(embedding_model=MODEL, dimension=3)
        request = k.CreateCollectionRequest(collection=made)
        refusal = await refused(caller.knowledge.CreateCollection(request))
        assert set(refusal.fields) == {"collection.dimension"}
        unknown = v.EmbedTextsRequest(texts=["gout"], model_id="somebody/else")
        assert set((await refused(caller.vectors.EmbedTexts(unknown))).fields) == {"model_id"}


@pytest.fixture
async def changed_weights(model: Model) -> Any:
    """The model under the same id, and with another digest."""
    files = replace(bundled.locate(), model_sha256="0" * 64)
    embedder = LocalEmbedder(files, model.chunker.tokenizer, threads=1)
    yield Catalogue([Offered(embedder, model.chunker)])
    await embedder.close()


async def test_a_model_whose_weights_changed_is_refused_by_the_former_ones_collections(
    serve: Serve,
    database_urls: DatabaseUrls,
    outside: HuggingFaceServer,
    model: Model,
    changed_weights: Catalogue,
) -> None:
    model_id = model.embedder.model_id
    async with server(serve, database_urls, outside) as caller:
        name = await caller.collection(model_id, remote=False)
        document = await caller.document(name, "Gout hurts.")
    parts = {"catalogue": changed_weights}
    async with (
        serve(database_urls, parts, **settings(outside)) as running,
        calling(running.port) as caller,
    ):
        for attempt in (caller.document(name, "A fever."), caller.search(name, "gout")):
            refusal = await refused(attempt)
            assert refusal.code is Code.FAILED_PRECONDITION
            assert refusal.reason == "MODEL_DIGEST_MISMATCH"
        request = k.GetDocumentRequest(name=document.name)
        assert (await caller.knowledge.GetDocument(request)).document.content == "Gout hurts."
        fresh = await caller.collection(model_id, remote=False)
        await caller.document(fresh, "A fever.")
        assert len(await caller.search(fresh, "fever")) == 1
