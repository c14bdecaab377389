"""Deleting documents softly, and bringing them back.

Meanwhile their vectors are parked, out of every index's way.
"""

from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection
from knowledged.store.collections import Collection
from knowledged.store.document_steps import FORMER, OLD, SAME_CONTENT, Written, changed
from knowledged.store.documents import Document
from knowledged.store.requests import Mutation, recorded

DELETE: LiteralString = recorded(
    "with" + OLD,
    SAME_CONTENT,
    FORMER,
    """
    , document as (
        update knowledge.document d
           set delete_time = $7::timestamptz, update_time = $7::timestamptz,
               purge_time = $9::timestamptz, revision = gate.revision,
               event_id = ($1::knowledge.audit_record).event_id
          from gate
         where d.document_uid = gate.resource_uid
        returning d.document_uid
    ),
    taken as (
        delete from knowledge.chunk_vector v
         using gate
         where v.space_uid = $8::uuid and v.document_uid = gate.resource_uid
        returning v.space_uid, v.chunk_uid, v.document_uid, v.embedding, v.fields
    ),
    parked as (
        insert into knowledge.chunk_vector_parked
               (space_uid, chunk_uid, document_uid, embedding, fields)
        select space_uid, chunk_uid, document_uid, embedding, fields from taken
    )
    select exists (select from collection) as lives,
           exists (select from target) as fresh, exists (select from gate) as done
""",
)


async def delete(
    conn: Connection, mutation: Mutation, collection: Collection, document: Document
) -> Written:
    """Deletes softly a document read at `document.version`, at its delete_time and until its
    purge_time; parks its vectors."""
    row = await conn.fetchrow(DELETE, *deletion(mutation, collection, document))
    return changed(row)


def deletion(mutation: Mutation, collection: Collection, document: Document) -> tuple[object, ...]:
    """The parameters of `DELETE`."""
    return (
        *mutation.parameters(),
        document.document_uid,
        collection.collection_uid,
        collection.revision,
        document.version,
        document.delete_time,
        collection.active_space_uid,
        document.purge_time,
    )


PARKED: LiteralString = """
    select k.chunk_uid, k.metadata
      from knowledge.chunk k
     where k.document_uid = $1::uuid
       and exists (select from knowledge.chunk_span s
                    where s.chunk_uid = k.chunk_uid and s.to_revision is null)
"""


async def parked(conn: Connection, document_uid: UUID) -> dict[UUID, dict[str, object]]:
    """The metadata of the chunks whose vectors come back with the document, by uid."""
    rows = await conn.fetch(PARKED, document_uid)
    return {row["chunk_uid"]: row["metadata"] for row in rows}


UNDELETE: LiteralString = recorded(
    "with" + OLD,
    SAME_CONTENT,
    FORMER,
    """
    , document as (
        update knowledge.document d
           set delete_time = null, purge_time = null, update_time = $7::timestamptz,
               revision = gate.revision, event_id = ($1::knowledge.audit_record).event_id
          from gate
         where d.document_uid = gate.resource_uid
        returning d.document_uid
    ),
    -- Only those of the current text: others belong to former revisions.
    back as (
        delete from knowledge.chunk_vector_parked v
         using gate
         where v.space_uid = $8::uuid
           and v.document_uid = gate.resource_uid
           and exists (select from knowledge.chunk_span s
                        where s.chunk_uid = v.chunk_uid and s.to_revision is null)
        returning v.chunk_uid, v.document_uid, v.embedding
    ),
    vector as (
        insert into knowledge.chunk_vector (space_uid, chunk_uid, document_uid, embedding, fields)
        select $8::uuid, back.chunk_uid, back.document_uid, back.embedding,
               coalesce(f.fields, '{}')
          from back
          left join unnest($9::uuid[], $10::jsonb[]) as f (chunk_uid, fields)
            on f.chunk_uid = back.chunk_uid
    )
    select exists (select from collection) as lives,
           exists (select from target) as fresh, exists (select from gate) as done
""",
)


async def undelete(
    conn: Connection,
    mutation: Mutation,
    collection: Collection,
    document: Document,
    fields: dict[UUID, dict[str, object]],
) -> Written:
    """Brings back a deleted document read at `document.version`, at its update_time.

    `fields` is by chunk_uid what searches filter on fast, as the collection declares it now.
    """
    row = await conn.fetchrow(
        UNDELETE,
        *mutation.parameters(),
        document.document_uid,
        collection.collection_uid,
        collection.revision,
        document.version,
        document.update_time,
        collection.active_space_uid,
        list(fields),
        list(fields.values()),
    )
    return changed(row)
