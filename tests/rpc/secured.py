"""A server with AUTH=token, who may call it, and what there is to see."""

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import yaml

from knowledge.v1.audit_service_pb2 import GetInclusionProofRequest
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.document_pb2 import ORIGIN_CALLER, Document
from knowledge.v1.knowledge_service_pb2 import CreateCollectionRequest, CreateDocumentRequest
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledge.v1.vector_service_pb2 import UpsertChunksRequest
from knowledge.v1.vector_service_pb2_grpc import VectorServiceStub
from knowledged.access import token_hash

ROLES = ("reader", "writer", "auditor", "operator", "recorder", "admin")
OWN, FOREIGN = "own", "foreign"

# Subjects with their role and the collections they are granted.
SUBJECTS: dict[str, tuple[str, str | list[str]]] = {
    **{role: (role, "*") for role in ROLES},
    **{f"confined-{role}": (role, [OWN]) for role in ("reader", "writer", "auditor", "admin")},
}

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Furniture:
    """A collection with the document `d`, which has the chunk `x`, and the event of its making."""

    name: str
    uid: str
    event_id: str


@dataclass(frozen=True, slots=True)
class SecuredServer:
    """On a database of its own, with the collections `own` and `foreign`: tests only read them.

    It knows a subject for each role, granted every collection, and `confined-reader`,
    `confined-writer`, `confined-auditor` and `confined-admin`, granted the collection `own` alone.
    """

    channel: grpc.aio.Channel
    tokens: dict[str, str]
    own: Furniture
    foreign: Furniture

    def metadata(self, subject: str) -> Metadata:
        """What a call of this subject sends."""
        return bearer(self.tokens[subject])


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def write_access_file(file: Path) -> dict[str, str]:
    """Makes the file; the tokens by subject."""
    tokens = {name: _token() for name in SUBJECTS}
    entries: list[dict[str, Any]] = [
        {"subject": name, "roles": [role], "collections": granted, "tokens": [tokens[name][1]]}
        for name, (role, granted) in SUBJECTS.items()
    ]
    file.write_text(yaml.safe_dump({"subjects": entries}))
    file.chmod(0o600)
    return {name: token for name, (token, _) in tokens.items()}


def _token() -> tuple[str, dict[str, str]]:
    """A token and its entry of the access file."""
    token_id, salt = secrets.token_hex(4), secrets.token_bytes(16)
    token = f"kd_{token_id}_{secrets.token_urlsafe(32)}"
    return token, {"id": token_id, "salt": salt.hex(), "hash": token_hash(salt, token).hex()}


async def furnished(channel: grpc.aio.Channel, tokens: dict[str, str]) -> SecuredServer:
    admin = bearer(tokens["admin"])
    own, foreign = [await _furniture(channel, name, admin) for name in (OWN, FOREIGN)]
    await _covered(channel, foreign.event_id, admin)
    return SecuredServer(channel, tokens, own, foreign)


async def _covered(channel: grpc.aio.Channel, event_id: str, admin: Metadata) -> None:
    """Waits until a checkpoint covers the event, and with it all before it."""
    request = GetInclusionProofRequest(name=f"auditEvents/{event_id}")
    for _ in range(200):
        try:
            await AuditServiceStub(channel).GetInclusionProof(request, metadata=admin)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("no checkpoint was signed within ten seconds")


async def _furniture(channel: grpc.aio.Channel, collection_id: str, admin: Metadata) -> Furniture:
    knowledge, vectors = KnowledgeServiceStub(channel), VectorServiceStub(channel)
    request = CreateCollectionRequest(collection_id=collection_id)
    made = await knowledge.CreateCollection(request, metadata=admin)
    name = made.collection.name
    document = CreateDocumentRequest(
        parent=name, document_id="d", document=Document(origin=ORIGIN_CALLER)
    )
    await knowledge.CreateDocument(document, metadata=admin)
    chunks = [Chunk(chunk_id="x", content="a text")]
    upsert = UpsertChunksRequest(parent=f"{name}/documents/d", chunks=chunks)
    await vectors.UpsertChunks(upsert, metadata=admin)
    return Furniture(name, made.collection.uid, made.receipt.event_id)
