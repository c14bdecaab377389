"""The search of VectorService, and what embeds and cuts without storing."""

from knowledge.v1 import vector_service_pb2 as pb
from knowledge.v1.chunk_pb2 import Chunk as ChunkMessage
from knowledge.v1.collection_pb2 import Egress
from knowledge.v1.vector_pb2 import Vector as VectorMessage
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.errors import Invalid
from knowledged.services import search_arguments
from knowledged.services.batch_search import BatchedSearches
from knowledged.services.composed_search import ComposedSearch
from knowledged.services.drafts import MIME_TYPES, chunking_policy
from knowledged.services.given_chunks import LONGEST_CHUNK
from knowledged.services.search_batches import SearchBatches
from knowledged.services.search_legs import Legs
from knowledged.services.searching import Searching, answer_of
from knowledged.services.supplies import Supplies
from knowledged.services.wide_filters import WideFilters
from knowledged.text import check_egress


class Search:
    """Search, BatchSearch, EmbedTexts and PreviewChunks."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        batches = SearchBatches(supplies.database)
        self._searching = Searching(batches)
        legs = Legs(supplies.database, batches, WideFilters())
        self._composed = ComposedSearch(supplies, legs, supplies.query_vectors)
        self._batched = BatchedSearches(supplies, self._composed, self._searching)

    async def EmbedTexts(self, request: pb.EmbedTextsRequest, call: Call) -> pb.EmbedTextsResponse:
        checks, catalogue = Checks(), self._supplies.text.catalogue
        checks.count("texts", len(request.texts), self._supplies.limits.max_embed_texts, least=1)
        for place, text in enumerate(request.texts):
            checks.text(f"texts[{place}]", text, LONGEST_CHUNK, required=True)
        checks.choice("task", request.task, pb.EmbeddingTask.values())
        checks.choice("egress", request.egress, Egress.values())
        model = catalogue.find(request.model_id or catalogue.default.model_id)
        if model is None:
            checks.fault("model_id", "is none that ListEmbeddingModels offers")
            raise Invalid(*checks.violations)
        checks.done()
        check_egress(model, request.egress)
        embedder = model.embedder
        urgent = request.task == pb.EmbeddingTask.EMBEDDING_TASK_QUERY
        rows = await embedder.embed(request.texts, urgent=urgent, seconds_left=call.left)
        return pb.EmbedTextsResponse(
            embeddings=[VectorMessage(f32_le=row.tobytes()) for row in rows],
            model_id=embedder.model_id,
            model_digest=embedder.model_digest,
            dimension=embedder.dimension,
        )

    async def PreviewChunks(
        self, request: pb.PreviewChunksRequest, call: Call
    ) -> pb.PreviewChunksResponse:
        checks, model = Checks(), self._supplies.text.catalogue.default
        longest = self._supplies.limits.max_content_characters
        checks.text("content", request.content, longest, required=True)
        mime_type = request.mime_type or MIME_TYPES[0]
        if mime_type not in MIME_TYPES:
            checks.fault("mime_type", f"must be one of {', '.join(MIME_TYPES)}")
        longest_piece = model.embedder.max_tokens
        policy = chunking_policy(request.chunking, longest_piece)
        checks.violations.extend(policy.violations("chunking", longest_piece))
        checks.done()
        cut = await model.chunker.split_async(request.content, policy, mime_type)
        return pb.PreviewChunksResponse(
            chunks=[
                ChunkMessage(
                    content=piece.text,
                    ordinal=ordinal,
                    start_offset=piece.start_offset,
                    end_offset=piece.end_offset,
                    token_count=piece.tokens,
                )
                for ordinal, piece in enumerate(cut)
            ]
        )

    async def Search(self, request: pb.SearchRequest, call: Call) -> pb.SearchResponse:
        checks = Checks()
        asked = search_arguments.asked(checks, request, self._supplies.limits.max_search_limit)
        checks.done()
        if not asked.plain:
            return await self._composed.answer(call, asked)
        space = await self._supplies.directory.resolve(call, asked.collections[0])
        target = await self._composed.target(call, asked, [space])
        found = await self._searching.found(call, asked, space, target.vector)
        return answer_of(call, found, space.collection)

    async def BatchSearch(
        self, request: pb.BatchSearchRequest, call: Call
    ) -> pb.BatchSearchResponse:
        checks = Checks()
        asked = self._batched.asked(checks, request)
        checks.done()
        return await self._batched.answer(call, asked)
