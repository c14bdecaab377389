"""A document's text on its way to being searchable: cut into pieces, and these embedded."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from uuid_utils.compat import uuid7

from knowledged.embedding.chunker import Chunker, ChunkingPolicy, Piece
from knowledged.embedding.embedder import Embedder
from knowledged.errors import WrongState
from knowledged.store.collections import Collection
from knowledged.store.pieces import KnownChunk, NewChunk, NewPieces, Span

PENDING, ACTIVE = 1, 2
NOTHING_KNOWN: dict[str, KnownChunk] = {}


@dataclass(slots=True)
class Vectors:
    """Vectors by chunk_id, kept while a call tries again, so that no text is embedded twice."""

    by_chunk_id: dict[str, bytes] = field(default_factory=dict[str, bytes])


@dataclass(frozen=True, slots=True)
class Text:
    """What there is to cut: the content, how it is marked up, and what the document holds of it."""

    content: str
    mime_type: str
    known: dict[str, KnownChunk]
    fields: dict[str, object]
    own_keys: tuple[str, ...]


def chunk_id_of(text: str) -> str:
    """The id of a chunk the server cut: the same text has the same id, in every revision."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class TextPipeline:
    """Cuts and embeds. Texts of more new pieces than `inline_chunks` are left to the workers."""

    def __init__(self, embedder: Embedder, chunker: Chunker, inline_chunks: int) -> None:
        self.embedder = embedder
        self.chunker = chunker
        self.inline_chunks = inline_chunks

    def check_model(self, collection: Collection) -> None:
        """Raises WrongState when the collection's vectors are not of this server's model."""
        if collection.embedding_model != self.embedder.model_id:
            raise WrongState(
                "the collection's embedding model is not the one this server runs",
                reason="MODEL_MISMATCH",
            )

    async def cut(self, collection: Collection, content: str, mime_type: str) -> list[Piece]:
        policy = ChunkingPolicy(collection.chunk_max_tokens, collection.chunk_overlap_tokens)
        return await self.chunker.split_async(content, policy, mime_type)

    async def pieces(
        self, collection: Collection, texts: Sequence[Text], vectors: Vectors
    ) -> list[NewPieces]:
        """What to write of each text: new chunks, all spans, and vectors unless there are more
        pieces to embed, of all texts together, than may be done at once."""
        if not texts:
            return []
        self.check_model(collection)
        cut = [await self.cut(collection, text.content, text.mime_type) for text in texts]
        new = [_missing(each, text.known) for each, text in zip(cut, texts, strict=True)]
        every = {chunk_id: piece for each in new for chunk_id, piece in each.items()}
        if len(every) <= self.inline_chunks:
            await self._embed(every, vectors)
        done = zip(cut, new, texts, strict=True)
        return [_assembled(*each, vectors.by_chunk_id) for each in done]

    async def _embed(self, new: dict[str, Piece], vectors: Vectors) -> None:
        ids = [chunk_id for chunk_id in new if chunk_id not in vectors.by_chunk_id]
        rows = await self.embedder.embed([new[chunk_id].text for chunk_id in ids])
        vectors.by_chunk_id |= zip(ids, (row.tobytes() for row in rows), strict=True)


def waiting(pieces: NewPieces, known: dict[str, KnownChunk]) -> bool:
    """Whether a text with these pieces still waits for a vector."""
    settled = {chunk_uid for chunk_uid, _ in pieces.vectors}
    settled |= {chunk.chunk_uid for chunk in known.values() if chunk.state == ACTIVE}
    return any(span.chunk_uid not in settled for span in pieces.spans)


def _missing(cut: list[Piece], known: dict[str, KnownChunk]) -> dict[str, Piece]:
    """The pieces, each text once, that have no vector yet."""
    by_id = {chunk_id_of(piece.text): piece for piece in cut}
    return {
        chunk_id: piece
        for chunk_id, piece in by_id.items()
        if chunk_id not in known or known[chunk_id].state != ACTIVE
    }


def _assembled(
    cut: list[Piece], new: dict[str, Piece], text: Text, vectors: dict[str, bytes]
) -> NewPieces:
    uids = {chunk_id: chunk.chunk_uid for chunk_id, chunk in text.known.items()}
    unknown = [chunk_id for chunk_id in new if chunk_id not in uids]
    uids |= {chunk_id: uuid7() for chunk_id in unknown}
    ids = [chunk_id_of(piece.text) for piece in cut]
    return NewPieces(
        tuple(_new_chunk(uids, i, new[i], i in vectors) for i in unknown),
        tuple(
            Span(uids[i], ordinal, piece.start_offset, piece.end_offset)
            for ordinal, (i, piece) in enumerate(zip(ids, cut, strict=True))
        ),
        tuple((uids[i], vectors[i]) for i in new if i in vectors),
        text.fields,
        own_keys=text.own_keys,
    )


def _new_chunk(uids: dict[str, UUID], chunk_id: str, piece: Piece, embedded: bool) -> NewChunk:
    digest = hashlib.sha256(piece.text.encode()).digest()
    return NewChunk(uids[chunk_id], chunk_id, piece.text, digest, piece.tokens, embedded)
