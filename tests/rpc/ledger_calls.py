"""Calls that several tests of the audit log make."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from knowledge.v1 import audit_service_pb2 as pb
from knowledge.v1.collection_pb2 import Collection
from knowledge.v1.document_pb2 import Document
from knowledge.v1.knowledge_service_pb2 import CreateDocumentRequest
from knowledged.ledger.note import VerifierKey

Code = grpc.StatusCode
Answer = TypeVar("Answer")
SOON_SECONDS = 15.0


async def eventually(ask: Callable[[], Any], *codes: grpc.StatusCode) -> Any:
    """The answer, once it is not refused with one of these any more."""
    until = asyncio.get_running_loop().time() + SOON_SECONDS
    while True:
        try:
            return await ask()
        except grpc.aio.AioRpcError as error:
            late = asyncio.get_running_loop().time() > until
            if error.code() not in codes or late:
                raise
        await asyncio.sleep(0.05)


async def create(knowledge: Any, collection: Collection, text: str = "a text") -> Any:
    request = CreateDocumentRequest(parent=collection.name, document=Document(content=text))
    return await knowledge.CreateDocument(request)


async def proof_of(audit_log: Any, event_id: str) -> pb.GetInclusionProofResponse:
    """Waits until the event is sequenced and a checkpoint covers it."""
    request = pb.GetInclusionProofRequest(name=f"auditEvents/{event_id}")
    return await eventually(lambda: audit_log.GetInclusionProof(request), Code.FAILED_PRECONDITION)


async def keys(audit_log: Any) -> list[VerifierKey]:
    answer = await audit_log.GetCheckpoint(pb.GetCheckpointRequest())
    return [VerifierKey.parse(text) for text in answer.verifier_keys]
