"""Rows to messages."""

from datetime import datetime
from uuid import UUID

from asyncpg import Record
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from knowledge.v1.audit_event_pb2 import AuditEvent as AuditEventMessage
from knowledge.v1.audit_receipt_pb2 import AuditReceipt
from knowledge.v1.audit_service_pb2 import AuditFault, VerifyAuditLogResponse
from knowledge.v1.checkpoint_pb2 import Checkpoint as CheckpointMessage
from knowledge.v1.chunk_pb2 import Chunk as ChunkMessage
from knowledge.v1.collection_pb2 import ChunkingPolicy, CollectionSizes, FilterField
from knowledge.v1.collection_pb2 import Collection as CollectionMessage
from knowledge.v1.document_pb2 import Document as DocumentMessage
from knowledge.v1.document_pb2 import DocumentRevision
from knowledge.v1.vector_pb2 import Vector
from knowledge.v1.vector_service_pb2 import Hit
from knowledged.audit_leaf import leaf_hash, microseconds
from knowledged.call import Receipt
from knowledged.ledger.checkpoint import origin_of
from knowledged.ledger.checks import Fault
from knowledged.ledger.verifier import Report
from knowledged.names import AUDIT_EVENTS, collection_name
from knowledged.services.json_struct import fill, fill_from_text
from knowledged.store.audit import AuditEvent
from knowledged.store.chunks import Chunk
from knowledged.store.collections import Collection, Sizes
from knowledged.store.documents import Document
from knowledged.store.ledger import KeptCheckpoint
from knowledged.store.revisions import Revision

_MILLION = 1_000_000


def etag(uid: UUID, revision: int) -> str:
    """Changes with every revision, and is never that of another resource of the same name."""
    return f"{revision}-{uid.hex[-12:]}"


def timestamp(instant: datetime) -> Timestamp:
    seconds, micros = divmod(microseconds(instant), _MILLION)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def receipt(made: Receipt | None) -> AuditReceipt | None:
    return sent_receipt(made) if made else None


def sent_receipt(made: Receipt) -> AuditReceipt:
    return AuditReceipt(event_id=made.event_id, leaf_hash=made.leaf_hash)


def collection(row: Collection, document_count: int = 0) -> CollectionMessage:
    return CollectionMessage(
        name=collection_name(row.collection_id),
        uid=str(row.collection_uid),
        title=row.title,
        description=row.description,
        dimension=row.dimension,
        distance=row.distance,  # pyright: ignore[reportArgumentType]
        embedding_model=row.embedding_model,
        language=row.language,
        chunking=ChunkingPolicy(
            max_tokens=row.chunk_max_tokens, overlap_tokens=row.chunk_overlap_tokens
        ),
        filter_fields=[
            FilterField(path=field.path, type=field.kind)  # pyright: ignore[reportArgumentType]
            for field in row.filter_fields
        ],
        egress=row.egress,  # pyright: ignore[reportArgumentType]
        etag=etag(row.collection_uid, row.revision),
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        document_count=document_count,
        retention=Duration(seconds=row.retention_seconds),
        aliases=row.aliases,
    )


def sizes(row: Sizes) -> CollectionSizes:
    return CollectionSizes(
        deleted_document_count=row.deleted_documents,
        chunk_count=row.chunks,
        vector_bytes=row.vector_bytes,
    )


def document(row: Document) -> DocumentMessage:
    message = DocumentMessage(
        name=row.name,
        uid=str(row.document_uid),
        title=row.title,
        content=row.content,
        mime_type=row.mime_type,
        source_uri=row.source_uri,
        labels=row.labels,
        subject_ids=row.subject_ids,
        origin=row.origin,  # pyright: ignore[reportArgumentType]
        state=row.state,  # pyright: ignore[reportArgumentType]
        last_error=row.last_error,
        content_sha256=row.content_sha256,
        revision=row.revision,
        etag=etag(row.document_uid, row.revision),
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        delete_time=timestamp(row.delete_time) if row.delete_time else None,
        purge_time=timestamp(row.purge_time) if row.purge_time else None,
        chunk_count=row.chunk_count,
    )
    if row.metadata:
        fill(message.metadata, row.metadata)
    return message


def revision(row: Revision) -> DocumentRevision:
    return DocumentRevision(
        document=document(row.document),
        event_id=str(row.event_id),
        until_time=timestamp(row.until_time) if row.until_time else None,
    )


def chunk(row: Chunk, document_name: str) -> ChunkMessage:
    message = ChunkMessage(
        name=f"{document_name}/chunks/{row.chunk_id}",
        uid=str(row.chunk_uid),
        chunk_id=row.chunk_id,
        content=row.content,
        embedding=Vector(f32_le=row.embedding) if row.embedding is not None else None,
        ordinal=row.ordinal,
        start_offset=row.start_offset,
        end_offset=row.end_offset,
        token_count=row.token_count,
        state=row.state,  # pyright: ignore[reportArgumentType]
        last_error=row.last_error,
        content_sha256=row.content_sha256,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
    )
    if row.metadata:
        fill(message.metadata, row.metadata)
    return message


def fill_hit(hit: Hit, row: Record, collection_name: str) -> None:
    """A search's hit: of chunk and document what one reads of them, not how they are kept.

    Filled in where it stands in the answer: putting messages together would copy each of them.
    """
    name = f"{collection_name}/documents/{row['document_id']}"
    hit.score = row["score"]
    _fill_chunk(hit.chunk, row, name)
    _fill_document(hit.document, row, name)


def _fill_chunk(chunk: ChunkMessage, row: Record, document_name: str) -> None:
    chunk.name = f"{document_name}/chunks/{row['chunk_id']}"
    chunk.uid = str(row["chunk_uid"])
    chunk.chunk_id = row["chunk_id"]
    chunk.content = row["content"]
    chunk.token_count = row["token_count"]
    chunk.ordinal = row["ordinal"] or 0
    if row["start_offset"] is not None:
        chunk.start_offset = row["start_offset"]
        chunk.end_offset = row["end_offset"]
    if row["embedding"] is not None:
        chunk.embedding.f32_le = row["embedding"]
    if row["chunk_metadata"]:
        fill_from_text(chunk.metadata, row["chunk_metadata"])


def _fill_document(document: DocumentMessage, row: Record, name: str) -> None:
    document.name = name
    document.uid = str(row["document_uid"])
    document.title = row["title"]
    document.mime_type = row["mime_type"]
    document.source_uri = row["source_uri"]
    document.revision = row["revision"]
    if row["labels"]:
        document.labels.update(row["labels"])
    if row["metadata"]:
        fill_from_text(document.metadata, row["metadata"])


def audit_event(row: AuditEvent) -> AuditEventMessage:
    return AuditEventMessage(
        name=f"{AUDIT_EVENTS}/{row.event_id}",
        event_id=str(row.event_id),
        occurred_at=timestamp(row.occurred_at),
        recorded_at=timestamp(row.recorded_at),
        rpc=row.rpc,
        action=row.action,
        audit_class=row.audit_class,  # pyright: ignore[reportArgumentType]
        outcome=row.outcome,  # pyright: ignore[reportArgumentType]
        grpc_code=row.grpc_code,
        collection_uid=str(row.collection_uid) if row.collection_uid else "",
        result_count=row.result_count,
        actor=row.actor,
        on_behalf_of=row.on_behalf_of,
        purpose=row.purpose,
        resources=row.resources,
        subject_ids=row.subject_ids,
        peer=row.peer,
        call_id=row.call_id,
        leaf=row.leaf,
        leaf_hash=leaf_hash(row.leaf),
        returned_uids=map(str, row.returned_uids),
        log_index=row.log_index,
    )


def checkpoint(kept: KeptCheckpoint) -> CheckpointMessage:
    return CheckpointMessage(
        origin=origin_of(kept.note),
        tree_size=kept.tree_size,
        root_hash=kept.root,
        note=kept.note,
        create_time=timestamp(kept.create_time),
    )


def verification(report: Report) -> VerifyAuditLogResponse:
    return VerifyAuditLogResponse(
        verified_leaves=report.entries,
        tree_size=report.tree_size,
        first_bad_index=report.first_bad_index,
        done=True,
        faults=map(_fault, report.faults),
        erased_events=report.erased,
        checkpoints=report.checkpoints,
        root_hash=report.root,
    )


def _fault(found: Fault) -> AuditFault:
    return AuditFault(
        check=found.check,
        log_index=found.log_index,
        until_log_index=found.until,
        description=found.what,
    )
