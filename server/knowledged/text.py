"""A document's text on its way to being searchable: cut into pieces, and these embedded."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from uuid_utils.compat import uuid7

from knowledged.embedding.catalogue import Catalogue, Offered
from knowledged.embedding.chunker import ChunkingPolicy, Piece
from knowledged.embedding.provider_faults import ProviderAway
from knowledged.errors import WrongState
from knowledged.store.collections import PROVIDER_ALLOWED, Space
from knowledged.store.pieces import KnownChunk, NewChunk, NewPieces, Span

PENDING, ACTIVE = 1, 2
INLINE_SECONDS = 10.0
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

    def __init__(self, catalogue: Catalogue, inline_chunks: int) -> None:
        self.catalogue = catalogue
        self.inline_chunks = inline_chunks

    def model_of(self, space: Space) -> Offered:
        """The model of a collection's text.

        Raises WrongState when this server does not offer it, when its weights are others than those
        of the vectors, or when the text would leave a machine that it must not leave.
        """
        model = self.catalogue.find(space.collection.embedding_model)
        if model is None:
            message = "the collection's embedding model is none that this server offers"
            raise WrongState(message, reason="MODEL_MISMATCH")
        check_egress(model, space.collection.egress)
        digest = model.embedder.model_digest
        if digest and space.model_digest and digest != space.model_digest:
            message = "the model has other weights than the one that made the collection's vectors"
            raise WrongState(message, reason="MODEL_DIGEST_MISMATCH")
        return model

    def tokens(self, space: Space, text: str) -> int:
        """How long a text is, in tokens of the collection's model, else of the default one."""
        model = self.catalogue.find(space.collection.embedding_model) or self.catalogue.default
        return model.embedder.count_tokens(text)

    async def pieces(
        self,
        space: Space,
        texts: Sequence[Text],
        vectors: Vectors,
        seconds_left: float | None = None,
    ) -> list[NewPieces]:
        """What to write of each text: new chunks, all spans, and vectors unless there are more
        pieces to embed, of all texts together, than may be done at once.

        While a provider is away there are no vectors either: the workers get them when it is back.
        """
        if not texts:
            return []
        model = self.model_of(space)
        cut = [await _cut(model, space, text) for text in texts]
        new = [_missing(each, text.known) for each, text in zip(cut, texts, strict=True)]
        every = {chunk_id: piece for each in new for chunk_id, piece in each.items()}
        if len(every) <= self.inline_chunks:
            with suppress(ProviderAway):
                await _embed(model, every, vectors, seconds_left)
        done = zip(cut, new, texts, strict=True)
        return [_assembled(*each, vectors.by_chunk_id) for each in done]


async def _cut(model: Offered, space: Space, text: Text) -> list[Piece]:
    collection = space.collection
    policy = ChunkingPolicy(collection.chunk_max_tokens, collection.chunk_overlap_tokens)
    return await model.chunker.split_async(text.content, policy, text.mime_type)


def inline_seconds(left: float | None) -> float:
    """How long a caller waits for vectors that the workers would get as well."""
    return INLINE_SECONDS if left is None else min(left, INLINE_SECONDS)


def check_egress(model: Offered, egress: int) -> None:
    """Raises WrongState when texts would leave this machine and must not."""
    if model.remote and egress != PROVIDER_ALLOWED:
        message = (
            "the embedding model is remote, and this text must stay on this machine; allow it with"
            " egress PROVIDER_ALLOWED, or use a local model"
        )
        raise WrongState(message, reason="EGRESS_FORBIDDEN")


async def _embed(
    model: Offered, new: dict[str, Piece], vectors: Vectors, seconds_left: float | None
) -> None:
    ids = [chunk_id for chunk_id in new if chunk_id not in vectors.by_chunk_id]
    texts = [new[chunk_id].text for chunk_id in ids]
    rows = await model.embedder.embed(texts, seconds_left=inline_seconds(seconds_left))
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
