"""Chunks as callers give them: checked, embedded where they bring no vector, made into rows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from uuid_utils.compat import uuid7

from knowledge.v1.chunk_pb2 import Chunk as ChunkMessage
from knowledge.v1.vector_pb2 import Vector
from knowledged.checks import Checks
from knowledged.declared_fields import CHUNK, DOCUMENT, stored_fields, type_faults
from knowledged.embedding.provider_faults import ProviderAway
from knowledged.errors import WrongState
from knowledged.services.json_struct import to_json
from knowledged.store.chunk_changes import GivenChunk
from knowledged.store.collections import Space
from knowledged.text import TextPipeline, inline_seconds
from knowledged.vectors import VectorRule, bytes_of

LONGEST_CHUNK = 65_536
LARGEST_METADATA = 16 * 1024


def vector_bytes(message: Vector) -> bytes:
    """Either form of a Vector message as little-endian float32."""
    if message.WhichOneof("form") == "floats":
        return bytes_of(list(message.floats.values))
    return message.f32_le


@dataclass(frozen=True, slots=True)
class GivenChunks:
    """Reads the chunks of a request for one collection."""

    text: TextPipeline
    space: Space

    def rows(self, checks: Checks, messages: Sequence[ChunkMessage]) -> list[GivenChunk]:
        """A row for each chunk, with its vector if one was given; faults go to the checks."""
        ids = [message.chunk_id for message in messages]
        for place, chunk_id in enumerate(ids):
            checks.id(f"chunks[{place}].chunk_id", chunk_id)
        if len(set(ids)) < len(ids):
            checks.fault("chunks", "an id stands in them more than once")
        rows = [self.row(checks, f"chunks[{i}]", each) for i, each in enumerate(messages)]
        for place, fault in self.vector_faults(rows).items():
            checks.fault(f"chunks[{place}].embedding", fault)
        return rows

    def vector_faults(self, rows: Sequence[GivenChunk]) -> dict[int, str]:
        """What is wrong with given vectors, by their rows' places."""
        rule = VectorRule(self.space.collection.dimension, self.space.collection.distance)
        given = {i: row.embedding for i, row in enumerate(rows) if row.embedding is not None}
        faults = zip(given, rule.faults(list(given.values())), strict=True)
        return {place: fault for place, fault in faults if fault}

    async def embedded(
        self, rows: list[GivenChunk], seconds_left: float | None
    ) -> list[GivenChunk]:
        """The rows, those without a vector embedded, unless there are too many to do at once.

        While a provider is away they stay without: the workers get them when it is back.
        """
        bare = [place for place, row in enumerate(rows) if row.embedding is None]
        if not bare:
            return rows
        model = self.text.model_of(self.space)
        if len(bare) > self.text.inline_chunks:
            return rows
        texts = [rows[place].content for place in bare]
        try:
            seconds = inline_seconds(seconds_left)
            vectors = await model.embedder.embed(texts, seconds_left=seconds)
        except ProviderAway:
            return rows
        done = dict(zip(bare, vectors, strict=True))
        return [
            replace(row, embedding=done[place].tobytes()) if place in done else row
            for place, row in enumerate(rows)
        ]

    def of_document(self, rows: list[GivenChunk], metadata: dict[str, object]) -> list[GivenChunk]:
        """The rows with the document's part of the filter fields beside their own."""
        fields = stored_fields(self.space.collection.filter_fields, DOCUMENT, metadata)
        return [replace(row, fields=row.fields | fields) for row in rows] if fields else rows

    def row(self, checks: Checks, at: str, message: ChunkMessage) -> GivenChunk:
        """The row of one chunk, its vector yet unchecked."""
        has_vector, content = message.HasField("embedding"), message.content
        checks.text(f"{at}.content", content, LONGEST_CHUNK, required=not has_vector)
        checks.number(f"{at}.ordinal", message.ordinal, 0, 2**31 - 1)
        declared, metadata = self.space.collection.filter_fields, dict[str, object]()
        if message.HasField("metadata"):
            metadata = to_json(message.metadata)
            checks.json(f"{at}.metadata", metadata, LARGEST_METADATA)
            checks.violations.extend(type_faults(declared, CHUNK, metadata, at))
        return GivenChunk(
            uuid7(),
            message.chunk_id,
            content,
            hashlib.sha256(content.encode()).digest(),
            metadata,
            message.ordinal,
            self.text.tokens(self.space, content) if content else 0,
            vector_bytes(message.embedding) if has_vector else None,
            stored_fields(declared, CHUNK, metadata) if metadata else {},
        )


def not_the_callers() -> WrongState:
    message = "the server makes this document's chunks; only those of origin CALLER can be written"
    return WrongState(message, reason="ORIGIN_MISMATCH")
