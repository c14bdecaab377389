"""The audit log over the wire: proofs, checkpoints, and writes that stop."""

import asyncio
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest
from ledger_calls import SOON_SECONDS, create, eventually, keys, proof_of
from refusal import refused

from cluster import DatabaseUrls
from knowledge.v1 import audit_service_pb2 as pb
from knowledge.v1.collection_pb2 import Collection
from knowledge.v1.knowledge_service_pb2 import CreateCollectionRequest
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledged.connection import connect
from knowledged.ledger import merkle
from knowledged.ledger.checkpoint import open_checkpoint
from served import Serve

Code = grpc.StatusCode


async def test_a_receipt_is_proved_against_a_signed_checkpoint(
    knowledge: Any, audit_log: Any, collection: Collection
) -> None:
    receipt = (await create(knowledge, collection)).receipt
    proof = await proof_of(audit_log, receipt.event_id)
    head = open_checkpoint(proof.checkpoint.note, await keys(audit_log))
    assert head.tree_size == proof.tree_size == proof.checkpoint.tree_size
    assert head.root == proof.checkpoint.root_hash
    assert head.origin == proof.checkpoint.origin
    assert proof.leaf_hash == receipt.leaf_hash
    merkle.verify_inclusion(
        proof.log_index, proof.tree_size, receipt.leaf_hash, proof.hashes, head.root
    )
    by_index = pb.GetInclusionProofRequest(log_index=proof.log_index, tree_size=proof.tree_size)
    assert await audit_log.GetInclusionProof(by_index) == proof
    event = (
        await audit_log.GetAuditEvent(
            pb.GetAuditEventRequest(name=f"auditEvents/{receipt.event_id}")
        )
    ).event
    assert event.log_index == proof.log_index


async def test_every_size_is_proved_to_go_on_from_every_smaller_one(
    knowledge: Any, audit_log: Any, collection: Collection
) -> None:
    heads: list[Any] = []
    for _ in range(3):
        receipt = (await create(knowledge, collection)).receipt
        heads.append((await proof_of(audit_log, receipt.event_id)).checkpoint)
    first, _, last = heads
    request = pb.GetConsistencyProofRequest(
        old_tree_size=first.tree_size, new_tree_size=last.tree_size
    )
    proof = await audit_log.GetConsistencyProof(request)
    assert proof.checkpoint == last
    sizes = first.tree_size, last.tree_size
    merkle.verify_consistency(*sizes, first.root_hash, last.root_hash, proof.hashes)
    latest = await audit_log.GetConsistencyProof(pb.GetConsistencyProofRequest(old_tree_size=1))
    assert latest.new_tree_size >= last.tree_size


async def test_checkpoints_are_listed_page_by_page(
    knowledge: Any, audit_log: Any, collection: Collection
) -> None:
    for _ in range(2):
        await proof_of(audit_log, (await create(knowledge, collection)).receipt.event_id)
    sizes: list[int] = []
    request = pb.ListCheckpointsRequest(page_size=2)
    while True:
        page = await audit_log.ListCheckpoints(request)
        assert len(page.checkpoints) <= 2
        sizes += [each.tree_size for each in page.checkpoints]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert sizes == sorted(set(sizes))
    assert len(sizes) >= 3
    asked = pb.GetCheckpointRequest(tree_size=sizes[-1])
    assert (await audit_log.GetCheckpoint(asked)).checkpoint.tree_size == sizes[-1]


HUGE = 2**40


@pytest.mark.parametrize(
    ("method", "request_", "fields"),
    [
        ("GetInclusionProof", pb.GetInclusionProofRequest(), {"name"}),
        ("GetInclusionProof", pb.GetInclusionProofRequest(name="auditEvents/x"), {"name"}),
        ("GetInclusionProof", pb.GetInclusionProofRequest(log_index=HUGE), {"log_index"}),
        (
            "GetInclusionProof",
            pb.GetInclusionProofRequest(log_index=-1, tree_size=-1),
            {"log_index", "tree_size"},
        ),
        (
            "GetInclusionProof",
            pb.GetInclusionProofRequest(log_index=0, tree_size=HUGE),
            {"tree_size"},
        ),
        ("GetInclusionProof", pb.GetInclusionProofRequest(log_index=1, tree_size=1), {"log_index"}),
        ("GetConsistencyProof", pb.GetConsistencyProofRequest(), {"old_tree_size"}),
        (
            "GetConsistencyProof",
            pb.GetConsistencyProofRequest(old_tree_size=HUGE),
            {"old_tree_size"},
        ),
        (
            "GetConsistencyProof",
            pb.GetConsistencyProofRequest(old_tree_size=1, new_tree_size=HUGE),
            {"new_tree_size"},
        ),
        (
            "GetConsistencyProof",
            pb.GetConsistencyProofRequest(old_tree_size=2, new_tree_size=1),
            {"old_tree_size"},
        ),
        ("GetCheckpoint", pb.GetCheckpointRequest(tree_size=-1), {"tree_size"}),
        ("ListCheckpoints", pb.ListCheckpointsRequest(page_size=-1), {"page_size"}),
        ("ListCheckpoints", pb.ListCheckpointsRequest(page_token="x"), {"page_token"}),
        ("TailAuditEvents", pb.TailAuditEventsRequest(start_log_index=-1), {"start_log_index"}),
        ("TailAuditEvents", pb.TailAuditEventsRequest(start_log_index=HUGE), {"start_log_index"}),
        ("TailAuditEvents", pb.TailAuditEventsRequest(origin="o" * 201), {"origin"}),
        ("VerifyAuditLog", pb.VerifyAuditLogRequest(checkpoints=[""]), {"checkpoints[0]"}),
        (
            "VerifyAuditLog",
            pb.VerifyAuditLogRequest(checkpoints=["x"] * 101),
            {"checkpoints"},
        ),
        (
            "ExportAuditEvents",
            pb.ExportAuditEventsRequest(start_log_index=-1, tree_size=-1),
            {"start_log_index", "tree_size"},
        ),
        (
            "ExportAuditEvents",
            pb.ExportAuditEventsRequest(start_log_index=HUGE),
            {"start_log_index"},
        ),
    ],
)
async def test_a_bad_field_is_named(
    method: str,
    request_: Any,
    fields: set[str],
    knowledge: Any,
    audit_log: Any,
    collection: Collection,
) -> None:
    await proof_of(audit_log, (await create(knowledge, collection)).receipt.event_id)
    answer = getattr(audit_log, method)(request_)
    refusal = await refused(answer if hasattr(answer, "__await__") else anext(aiter(answer)))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert set(refusal.fields) == fields


async def test_what_is_not_there_is_not_found(audit_log: Any) -> None:
    refusal = await refused(audit_log.GetCheckpoint(pb.GetCheckpointRequest(tree_size=HUGE)))
    assert refusal.code is Code.NOT_FOUND
    name = f"auditEvents/{uuid4()}"
    refusal = await refused(audit_log.GetInclusionProof(pb.GetInclusionProofRequest(name=name)))
    assert refusal.code is Code.NOT_FOUND
    export = audit_log.ExportAuditEvents(pb.ExportAuditEventsRequest(tree_size=HUGE))
    assert (await refused(anext(aiter(export)))).code is Code.NOT_FOUND


async def test_writes_stop_when_too_much_waits(
    only_here: None, serve: Serve, database_urls: DatabaseUrls
) -> None:
    """Nobody sequences: somebody else holds the state for himself."""
    admin = await connect(database_urls.superuser_dsn)
    transaction: Any = admin.transaction()
    await transaction.start()
    await admin.execute(
        "select pg_advisory_xact_lock(hashtextextended('knowledge.audit_ledger', 0))"
    )
    async with (
        serve(database_urls, audit_backlog_limit_events=3) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as opened,
    ):
        knowledge: Any = KnowledgeServiceStub(opened)
        collection = (
            await knowledge.CreateCollection(CreateCollectionRequest(collection_id="c"))
        ).collection

        async def write_on() -> None:
            while True:
                await create(knowledge, collection)
                await asyncio.sleep(0.05)

        refusal = await refused(asyncio.wait_for(write_on(), SOON_SECONDS))
        assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "AUDIT_BACKLOG_FULL")
        assert refusal.retry_seconds
        await transaction.rollback()
        await eventually(lambda: create(knowledge, collection), Code.RESOURCE_EXHAUSTED)
    await admin.close()
