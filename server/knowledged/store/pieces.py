"""The pieces a document's text is cut into, on their way into a document's statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A text that the document did not hold before; `embedded` if its vector comes with it."""

    chunk_uid: UUID
    chunk_id: str
    content: str
    content_sha256: bytes
    token_count: int
    embedded: bool


@dataclass(frozen=True, slots=True)
class Span:
    """Where a chunk stands in the new revision; offsets in code points, the end exclusive."""

    chunk_uid: UUID
    ordinal: int
    start_offset: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class NewPieces:
    """What a document's statement writes of its text. `fields` is what searches filter on fast.

    `spans` are all of the new revision, of chunks that are new or known; `vectors` are
    little-endian float32. With `cut` false the text did not change and the spans stay.
    """

    chunks: tuple[NewChunk, ...] = ()
    spans: tuple[Span, ...] = ()
    vectors: tuple[tuple[UUID, bytes], ...] = ()
    fields: dict[str, object] | None = None
    cut: bool = True
    own_keys: tuple[str, ...] = ()

    def parameters(self) -> tuple[object, ...]:
        """Thirteen: arrays of the chunks, of the spans, of the vectors, and the fields."""
        c, s, v = self.chunks, self.spans, self.vectors
        return (
            [chunk.chunk_uid for chunk in c],
            [chunk.chunk_id for chunk in c],
            [chunk.content for chunk in c],
            [chunk.content_sha256 for chunk in c],
            [chunk.token_count for chunk in c],
            [chunk.embedded for chunk in c],
            [span.chunk_uid for span in s],
            [span.ordinal for span in s],
            [span.start_offset for span in s],
            [span.end_offset for span in s],
            [chunk_uid for chunk_uid, _ in v],
            [vector for _, vector in v],
            self.fields or {},
        )

    def change(self) -> tuple[object, ...]:
        """Two more for a change: whether the text was cut anew, and what keys `fields` owns."""
        return self.cut, self.own_keys


# Continues a statement that has the CTEs `collection` and `document` (the new state, and `cut`),
# with the space as $8 and the parameters of NewPieces from $19 on. The space is bound, not joined:
# a plan then locks its partition alone, not every collection's. So it does only while no condition
# beside it is constant, which is why `cut` comes out of a CTE.
PIECES: LiteralString = """
    piece as (
        select * from unnest($19::uuid[], $20::text[], $21::text[], $22::bytea[], $23::int[],
                             $24::bool[])
            as p (chunk_uid, chunk_id, content, content_sha256, token_count, embedded)
    ),
    wanted as (
        select * from unnest($25::uuid[], $26::int[], $27::bigint[], $28::bigint[])
            as w (chunk_uid, ordinal, start_offset, end_offset)
    ),
    given as (
        select * from unnest($29::uuid[], $30::vector[]) as g (chunk_uid, embedding)
    ),
    chunk as (
        insert into knowledge.chunk
               (chunk_uid, collection_uid, document_uid, chunk_id, content, content_sha256,
                token_count, state, language, create_time, update_time)
        select p.chunk_uid, d.collection_uid, d.document_uid, p.chunk_id, p.content,
               p.content_sha256, p.token_count, case when p.embedded then 2 else 1 end,
               collection.language, d.update_time, d.update_time
          from document d cross join collection cross join piece p
    ),
    -- Texts that had failed, or still waited, and now come with their vector.
    settled as (
        update knowledge.chunk c
           set state = 2, last_error = ''
          from document d, given g
         where c.chunk_uid = g.chunk_uid and c.document_uid = d.document_uid and c.state <> 2
    ),
    closed as (
        update knowledge.chunk_span s
           set to_revision = d.revision
          from document d
         where d.cut
           and s.document_uid = d.document_uid
           and s.to_revision is null
           and not exists (
               select from wanted w
                where w.chunk_uid = s.chunk_uid and w.ordinal = s.ordinal
                  and w.start_offset = s.start_offset and w.end_offset = s.end_offset)
    ),
    opened as (
        insert into knowledge.chunk_span
               (document_uid, chunk_uid, ordinal, start_offset, end_offset, from_revision)
        select d.document_uid, w.chunk_uid, w.ordinal, w.start_offset, w.end_offset, d.revision
          from document d cross join wanted w
         where d.cut
           and not exists (
               select from knowledge.chunk_span s
                where s.document_uid = d.document_uid and s.to_revision is null
                  and s.chunk_uid = w.chunk_uid and s.ordinal = w.ordinal
                  and s.start_offset = w.start_offset and s.end_offset = w.end_offset)
    ),
    gone as (
        delete from knowledge.chunk_vector v
         using document d
         where d.cut
           and v.space_uid = $8::uuid
           and v.document_uid = d.document_uid
           and v.chunk_uid not in (select chunk_uid from wanted)
        returning v.space_uid, v.chunk_uid, v.document_uid, v.embedding, v.fields
    ),
    parked as (
        insert into knowledge.chunk_vector_parked
               (space_uid, chunk_uid, document_uid, embedding, fields)
        select space_uid, chunk_uid, document_uid, embedding, fields from gone
    ),
    back as (
        delete from knowledge.chunk_vector_parked v
         using document d
         where d.cut
           and v.space_uid = $8::uuid
           and v.document_uid = d.document_uid
           and v.chunk_uid in (select chunk_uid from wanted)
        returning v.chunk_uid, v.embedding
    ),
    vector as (
        insert into knowledge.chunk_vector (space_uid, chunk_uid, document_uid, embedding, fields)
        select $8::uuid, n.chunk_uid, d.document_uid, n.embedding, $31::jsonb
          from document d
         cross join (select chunk_uid, embedding from back
                     union all
                     select chunk_uid, embedding from given) n
    ),
    kept as (
        update knowledge.chunk_vector v
           set fields = (v.fields - $33::text[]) || $31::jsonb
          from document d
         where v.space_uid = $8::uuid
           and v.document_uid = d.document_uid
           and (not d.cut or v.chunk_uid in (select chunk_uid from wanted))
           and v.fields is distinct from (v.fields - $33::text[]) || $31::jsonb
    )
"""


@dataclass(frozen=True, slots=True)
class KnownChunk:
    """A text the document holds or held: its uid and state (1 PENDING, 2 ACTIVE, 3 FAILED)."""

    chunk_uid: UUID
    state: int


KNOWN: LiteralString = """
    select document_uid, chunk_id, chunk_uid, state
      from knowledge.chunk
     where document_uid = any ($1::uuid[])
"""


async def known(
    conn: Connection, document_uids: Sequence[UUID]
) -> dict[UUID, dict[str, KnownChunk]]:
    """All texts of documents, of former revisions too, by document_uid and chunk_id."""
    found: dict[UUID, dict[str, KnownChunk]] = {}
    for row in await conn.fetch(KNOWN, document_uids):
        chunk = KnownChunk(row["chunk_uid"], row["state"])
        found.setdefault(row["document_uid"], {})[row["chunk_id"]] = chunk
    return found
