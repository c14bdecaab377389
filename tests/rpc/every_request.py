"""A request for every RPC there is."""

import asyncio
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from refusal import told_by_the_server
from secured import Metadata

from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import config_service_pb2 as s
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.append_audit_events_pb2 import AppendAuditEventsRequest, AppendedEvent
from knowledge.v1.audit_event_pb2 import AUDIT_OUTCOME_DONE
from knowledge.v1.disclosure_pb2 import GetDisclosureReportRequest
from knowledge.v1.erasure_pb2 import EraseSubjectRequest
from knowledge.v1.legal_hold_pb2 import (
    LegalHold,
    ListLegalHoldsRequest,
    ReleaseLegalHoldRequest,
    SetLegalHoldRequest,
)
from knowledge.v1.options_pb2 import AUDIT_CLASS_READ

KNOWLEDGE, VECTOR = "/knowledge.v1.KnowledgeService/", "/knowledge.v1.VectorService/"
AUDIT, CONFIG = "/knowledge.v1.AuditService/", "/knowledge.v1.ConfigService/"


def requests(name: str, event_id: str) -> dict[str, Message]:
    """A good request of every method: to the collection `name`, its document `d`, its chunk `x`."""
    document, chunk = f"{name}/documents/d", f"{name}/documents/d/chunks/x"
    return {
        f"{KNOWLEDGE}CreateCollection": k.CreateCollectionRequest(
            collection_id=name.removeprefix("collections/")
        ),
        f"{KNOWLEDGE}GetCollection": k.GetCollectionRequest(name=name),
        f"{KNOWLEDGE}ListCollections": k.ListCollectionsRequest(),
        f"{KNOWLEDGE}UpdateCollection": k.UpdateCollectionRequest(
            collection=c.Collection(name=name)
        ),
        f"{KNOWLEDGE}DeleteCollection": k.DeleteCollectionRequest(name=name, force=True),
        f"{KNOWLEDGE}CreateDocument": k.CreateDocumentRequest(
            parent=name, document=d.Document(content="a text")
        ),
        f"{KNOWLEDGE}GetDocument": k.GetDocumentRequest(name=document),
        f"{KNOWLEDGE}ListDocuments": k.ListDocumentsRequest(parent=name),
        f"{KNOWLEDGE}AggregateDocuments": k.AggregateDocumentsRequest(parent=name),
        f"{KNOWLEDGE}ImportDocuments": k.ImportDocumentsRequest(start=k.ImportStart(parent=name)),
        f"{KNOWLEDGE}ExportDocuments": k.ExportDocumentsRequest(parent=name),
        f"{KNOWLEDGE}WatchDocuments": k.WatchDocumentsRequest(parent=name),
        f"{KNOWLEDGE}UpdateDocument": k.UpdateDocumentRequest(
            document=d.Document(name=document, title="changed"), allow_missing=True
        ),
        f"{KNOWLEDGE}DeleteDocument": k.DeleteDocumentRequest(name=document, allow_missing=True),
        f"{KNOWLEDGE}UndeleteDocument": k.UndeleteDocumentRequest(name=document),
        f"{KNOWLEDGE}PurgeDocuments": k.PurgeDocumentsRequest(parent=name, filter="revision > 9"),
        f"{KNOWLEDGE}ListDocumentRevisions": k.ListDocumentRevisionsRequest(parent=document),
        f"{KNOWLEDGE}RollbackDocument": k.RollbackDocumentRequest(name=document, revision=1),
        f"{KNOWLEDGE}BatchGetDocuments": k.BatchGetDocumentsRequest(parent=name, names=[document]),
        f"{KNOWLEDGE}BatchCreateDocuments": k.BatchCreateDocumentsRequest(
            parent=name,
            requests=[k.CreateDocumentRequest(document=d.Document(origin=d.ORIGIN_CALLER))],
        ),
        f"{KNOWLEDGE}BatchUpdateDocuments": k.BatchUpdateDocumentsRequest(
            parent=name,
            requests=[k.UpdateDocumentRequest(document=d.Document(name=document, title="changed"))],
        ),
        f"{KNOWLEDGE}BatchDeleteDocuments": k.BatchDeleteDocumentsRequest(
            parent=name, requests=[k.DeleteDocumentRequest(name=document)]
        ),
        f"{VECTOR}UpsertChunks": v.UpsertChunksRequest(
            parent=document, chunks=[ch.Chunk(chunk_id="x", content="a text")]
        ),
        f"{VECTOR}IngestChunks": v.IngestChunksRequest(start=v.IngestStart(parent=document)),
        f"{VECTOR}GetChunk": v.GetChunkRequest(name=chunk),
        f"{VECTOR}ListChunks": v.ListChunksRequest(parent=document),
        f"{VECTOR}DeleteChunk": v.DeleteChunkRequest(name=chunk),
        f"{VECTOR}EmbedTexts": v.EmbedTextsRequest(texts=["a text"]),
        f"{VECTOR}PreviewChunks": v.PreviewChunksRequest(content="a text"),
        f"{VECTOR}Search": v.SearchRequest(collection=name, text="a text"),
        f"{VECTOR}BatchSearch": v.BatchSearchRequest(
            collection=name, searches=[v.SearchRequest(text="a text")]
        ),
        f"{VECTOR}AggregateChunks": v.AggregateChunksRequest(collection=name),
        f"{VECTOR}GetIndexStats": v.GetIndexStatsRequest(collection=name),
        f"{VECTOR}MeasureRecall": v.MeasureRecallRequest(collection=name),
        f"{AUDIT}AppendAuditEvents": AppendAuditEventsRequest(
            events=[
                AppendedEvent(
                    insert_id=str(uuid4()),
                    action="pharmacy.orders.read",
                    audit_class=AUDIT_CLASS_READ,
                    outcome=AUDIT_OUTCOME_DONE,
                )
            ]
        ),
        f"{AUDIT}SetLegalHold": SetLegalHoldRequest(
            legal_hold=LegalHold(reason="a case", collection=name)
        ),
        f"{AUDIT}ReleaseLegalHold": ReleaseLegalHoldRequest(name="legalHolds/never-was"),
        f"{AUDIT}ListLegalHolds": ListLegalHoldsRequest(),
        f"{AUDIT}EraseSubject": EraseSubjectRequest(subject_id="p-1"),
        f"{AUDIT}GetDisclosureReport": GetDisclosureReportRequest(subject_id="p-1"),
        f"{AUDIT}GetAuditEvent": a.GetAuditEventRequest(name=f"auditEvents/{event_id}"),
        f"{AUDIT}ListAuditEvents": a.ListAuditEventsRequest(),
        f"{AUDIT}TailAuditEvents": a.TailAuditEventsRequest(start_log_index=0),
        f"{AUDIT}GetCheckpoint": a.GetCheckpointRequest(),
        f"{AUDIT}ListCheckpoints": a.ListCheckpointsRequest(),
        f"{AUDIT}GetInclusionProof": a.GetInclusionProofRequest(name=f"auditEvents/{event_id}"),
        f"{AUDIT}GetConsistencyProof": a.GetConsistencyProofRequest(old_tree_size=1),
        f"{AUDIT}VerifyAuditLog": a.VerifyAuditLogRequest(),
        f"{AUDIT}ExportAuditEvents": a.ExportAuditEventsRequest(),
        f"{CONFIG}GetServerInfo": s.GetServerInfoRequest(),
        f"{CONFIG}ListEmbeddingModels": s.ListEmbeddingModelsRequest(),
        f"{CONFIG}SetProviderCredential": s.SetProviderCredentialRequest(
            name=PROVIDER, api_key="hf_notakeynotakeynotakey", skip_validation=True
        ),
        f"{CONFIG}GetProviderCredential": s.GetProviderCredentialRequest(name=PROVIDER),
        f"{CONFIG}ValidateProviderCredential": s.ValidateProviderCredentialRequest(name=PROVIDER),
        f"{CONFIG}DeleteProviderCredential": s.DeleteProviderCredentialRequest(name=PROVIDER),
    }


PROVIDER = "providers/huggingface"
NOBODYS_EVENT = "01900000-0000-7000-8000-000000000000"
METHODS = tuple(requests("collections/x", NOBODYS_EVENT))
every_method = pytest.mark.parametrize("path", METHODS, ids=lambda path: path.split("/")[-1])


def served_methods() -> dict[str, MethodDescriptor]:
    """All methods of our services, from the descriptors."""
    return {
        f"/{service.full_name}/{method.name}": method
        for module in (k, v, a, s)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


STREAMS = {path: m.client_streaming for path, m in served_methods().items() if m.server_streaming}


def call(
    channel: grpc.aio.Channel, path: str, request: bytes, metadata: Metadata | None = None
) -> Any:
    """Bytes in, bytes out; of a stream the first answer."""
    if path not in STREAMS:
        return channel.unary_unary(path)(request, metadata=metadata)
    if STREAMS[path]:
        begin = channel.stream_stream(path)
        return told_by_the_server(lambda: first(begin(iter([request]), metadata=metadata)))
    return first(channel.unary_stream(path)(request, metadata=metadata))


async def first(stream: Any) -> bytes:
    """A stream that goes on for ever, as a tail does, has nothing to say for a while."""
    try:
        async with asyncio.timeout(1):
            return await anext(aiter(stream), b"")
    except TimeoutError:
        return b""
    finally:
        stream.cancel()


def a_request(path: str) -> bytes:
    return requests("collections/x", NOBODYS_EVENT)[path].SerializeToString()
