"""Every mutating RPC, called once."""

from typing import Any
from uuid import uuid4

from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v


async def every_mutation(knowledge: Any, vectors: Any) -> list[tuple[str, str, Any]]:
    """Calls each mutating RPC once: its name, the resource it is about, and its answer."""
    collection_id = f"test-{uuid4().hex}"
    collection = f"collections/{collection_id}"
    document, caller = f"{collection}/documents/text", f"{collection}/documents/chunks"
    chunk = ch.Chunk(chunk_id="x", content="a text")
    calls = [
        (k.CreateCollectionRequest(collection_id=collection_id), collection),
        (k.UpdateCollectionRequest(collection=c.Collection(name=collection)), collection),
        (creation(collection, "text", content="a text", subject_ids=["patient-1"]), document),
        (
            k.UpdateDocumentRequest(document=d.Document(name=document, subject_ids=["patient-2"])),
            document,
        ),
        (k.DeleteDocumentRequest(name=document), document),
        (creation(collection, "chunks", origin=d.ORIGIN_CALLER), caller),
        (v.UpsertChunksRequest(parent=caller, chunks=[chunk]), f"{caller}/chunks/x"),
        (v.DeleteChunkRequest(name=f"{caller}/chunks/x"), f"{caller}/chunks/x"),
        (k.DeleteCollectionRequest(name=collection, force=True), collection),
    ]
    answers: list[tuple[str, str, Any]] = []
    for request, resource in calls:
        name = type(request).__name__.removesuffix("Request")
        stub = knowledge if hasattr(knowledge, name) else vectors
        answers.append((name, resource, await getattr(stub, name)(request)))
    return answers


def creation(collection: str, document_id: str, **fields: Any) -> k.CreateDocumentRequest:
    return k.CreateDocumentRequest(
        parent=collection, document_id=document_id, document=d.Document(**fields)
    )
