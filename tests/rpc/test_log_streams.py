"""The audit log over the wire: followed, exported and verified."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import grpc
import grpc.aio
import pytest_asyncio
from ledger_calls import SOON_SECONDS, create, keys, proof_of
from refusal import refused
from secured import SecuredServer

from cluster import DatabaseUrls
from knowledge.v1 import audit_service_pb2 as pb
from knowledge.v1.audit_event_pb2 import AuditEvent
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub
from knowledge.v1.collection_pb2 import Collection
from knowledge.v1.knowledge_service_pb2 import CreateCollectionRequest
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledged.audit_leaf import leaf_hash
from knowledged.connection import connect
from knowledged.ledger.export_verification import ExportVerification
from served import Serve

Code = grpc.StatusCode


async def followed(tail: Any, uid: str, count: int) -> list[AuditEvent]:
    """The next events of a collection."""
    found: list[AuditEvent] = []
    async with asyncio.timeout(SOON_SECONDS):
        async for answer in tail:
            if answer.event.collection_uid == uid:
                assert answer.next_log_index == answer.event.log_index + 1
                found.append(answer.event)
            if len(found) == count:
                break
    return found


async def test_the_tail_tells_each_event_once_and_in_order(
    knowledge: Any, audit_log: Any, collection: Collection
) -> None:
    tail = audit_log.TailAuditEvents(pb.TailAuditEventsRequest(start_log_index=0))
    receipts = [(await create(knowledge, collection)).receipt for _ in range(5)]
    events = await followed(tail, collection.uid, 6)
    tail.cancel()
    assert [event.action for event in events] == ["collections.create", *["documents.create"] * 5]
    assert [event.event_id for event in events[1:]] == [each.event_id for each in receipts]
    assert [event.log_index for event in events] == sorted(event.log_index for event in events)
    assert leaf_hash(events[1].leaf) == receipts[0].leaf_hash


async def test_the_tail_goes_on_where_it_was_left(
    knowledge: Any, audit_log: Any, collection: Collection
) -> None:
    receipts = [(await create(knowledge, collection)).receipt for _ in range(2)]
    index = (await proof_of(audit_log, receipts[0].event_id)).log_index
    request = pb.TailAuditEventsRequest(start_log_index=index + 1)
    tail = audit_log.TailAuditEvents(request)
    (event,) = await followed(tail, collection.uid, 1)
    tail.cancel()
    assert event.event_id == receipts[1].event_id


async def test_a_tail_without_a_start_tells_what_is_new_within_two_seconds(
    knowledge: Any, audit_log: Any, collection: Collection
) -> None:
    await proof_of(audit_log, (await create(knowledge, collection)).receipt.event_id)
    tail = audit_log.TailAuditEvents(pb.TailAuditEventsRequest())
    telling = asyncio.create_task(followed(tail, collection.uid, 1))
    await asyncio.sleep(0.3)
    receipt = (await create(knowledge, collection)).receipt
    began = asyncio.get_running_loop().time()
    (event,) = await telling
    assert asyncio.get_running_loop().time() - began < 10
    tail.cancel()
    assert event.event_id == receipt.event_id


async def test_a_tail_of_a_log_that_was_set_back_ends(audit_log: Any) -> None:
    origin = (await audit_log.GetCheckpoint(pb.GetCheckpointRequest())).checkpoint.origin
    tail = audit_log.TailAuditEvents(pb.TailAuditEventsRequest(origin="another.example/log"))
    refusal = await refused(anext(aiter(tail)))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "ORIGIN_CHANGED")
    tail = audit_log.TailAuditEvents(pb.TailAuditEventsRequest(origin=origin, start_log_index=0))
    assert (await anext(aiter(tail))).origin == origin
    tail.cancel()


async def test_a_confined_auditor_sees_only_what_is_granted(secured_server: SecuredServer) -> None:
    stub: Any = AuditServiceStub(secured_server.channel)
    metadata = secured_server.metadata("confined-auditor")
    request = pb.TailAuditEventsRequest(start_log_index=0)
    tail = stub.TailAuditEvents(request, metadata=metadata)
    events: list[AuditEvent] = []
    async with asyncio.timeout(SOON_SECONDS):
        async for answer in tail:
            events += [answer.event] if answer.HasField("event") else []
            if len(events) >= 3:
                break
    tail.cancel()
    assert {event.collection_uid for event in events} == {secured_server.own.uid}
    lines = await exported(stub, metadata=metadata)
    assert secured_server.own.uid.encode() in b"".join(lines)
    assert secured_server.foreign.uid.encode() not in b"".join(lines)
    admin = secured_server.metadata("admin")
    whole = await exported(stub, metadata=admin)
    assert secured_server.foreign.uid.encode() in b"".join(whole)


async def exported(stub: Any, metadata: Any = None, **asked: int) -> list[bytes]:
    """The lines of an export, put together as its pieces came."""
    answers = [
        answer
        async for answer in stub.ExportAuditEvents(
            pb.ExportAuditEventsRequest(**asked), metadata=metadata
        )
    ]
    assert max(len(answer.lines) for answer in answers) < 1_000_000
    data = b"".join(answer.lines for answer in answers)
    before, _, _ = data[:-1].rpartition(b"\n")
    assert hashlib.sha256(before + b"\n").digest() == answers[-1].manifest_sha256
    return data.splitlines(keepends=True)


async def test_an_export_verifies_with_the_servers_key_alone(
    knowledge: Any, audit_log: Any, collection: Collection
) -> None:
    receipts = [(await create(knowledge, collection)).receipt for _ in range(3)]
    proof = await proof_of(audit_log, receipts[-1].event_id)
    known = await keys(audit_log)
    for start in (0, 1, proof.log_index):
        lines = await exported(audit_log, start_log_index=start, tree_size=proof.tree_size)
        report = ExportVerification(lambda _: known).run(lines)
        assert report.faults == []
        assert report.root == proof.checkpoint.root_hash
        assert (report.entries, report.hidden) == (proof.tree_size - start, 0)
    text = b"".join(lines).decode()
    assert receipts[-1].event_id in text
    assert '"action":"documents.create"' in text


async def verified(stub: Any, *notes: str) -> list[pb.VerifyAuditLogResponse]:
    request = pb.VerifyAuditLogRequest(checkpoints=notes)
    return [answer async for answer in stub.VerifyAuditLog(request)]


async def test_a_log_that_nobody_changed_verifies(
    knowledge: Any, audit_log: Any, collection: Collection
) -> None:
    receipt = (await create(knowledge, collection)).receipt
    note = (await proof_of(audit_log, receipt.event_id)).checkpoint.note
    *_, result = await verified(audit_log, note)
    assert result.done
    assert list(result.faults) == []
    assert result.verified_leaves == result.tree_size > 0
    assert result.checkpoints > 0
    assert not result.HasField("first_bad_index")


class Tampered:
    """A server of its own, and the superuser of its database."""

    def __init__(self, channel: grpc.aio.Channel, urls: DatabaseUrls) -> None:
        self.audit: Any = AuditServiceStub(channel)
        self.knowledge: Any = KnowledgeServiceStub(channel)
        self._urls = urls

    async def execute(self, statement: str, *arguments: object) -> None:
        admin = await connect(self._urls.superuser_dsn)
        await admin.execute(statement, *arguments)
        await admin.close()


@pytest_asyncio.fixture(loop_scope="session")
async def own(
    only_here: None, serve: Serve, database_urls: DatabaseUrls
) -> AsyncIterator[Tampered]:
    async with (
        serve(database_urls) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as opened,
    ):
        yield Tampered(opened, database_urls)


async def test_two_tails_do_not_tell_each_other_for_ever_of_what_they_read(
    own: Tampered,
) -> None:
    made = await own.knowledge.CreateCollection(CreateCollectionRequest(collection_id="c"))
    request = pb.TailAuditEventsRequest(start_log_index=0)
    tails = [own.audit.TailAuditEvents(request) for _ in range(2)]

    async def drain(tail: Any) -> list[AuditEvent]:
        return [answer.event async for answer in tail]

    draining = [asyncio.create_task(drain(tail)) for tail in tails]
    await proof_of(own.audit, made.receipt.event_id)
    await asyncio.sleep(2)
    sizes: list[int] = []
    for _ in range(2):
        await asyncio.sleep(1.5)
        answer = await own.audit.GetCheckpoint(pb.GetCheckpointRequest())
        sizes.append(answer.checkpoint.tree_size)
    for tail in tails:
        tail.cancel()
    await asyncio.gather(*draining, return_exceptions=True)
    assert sizes[0] == sizes[1]
    listed = await own.audit.ListAuditEvents(
        pb.ListAuditEventsRequest(filter='action = "audit_events.tail"')
    )
    told = {uid for event in listed.events for uid in event.returned_uids}
    assert made.receipt.event_id in told


async def test_the_first_bad_index_is_told(own: Tampered) -> None:
    made = await own.knowledge.CreateCollection(CreateCollectionRequest(collection_id="c"))
    receipts = [(await create(own.knowledge, made.collection)).receipt for _ in range(3)]
    proof = await proof_of(own.audit, receipts[-1].event_id)
    await own.execute(
        "update knowledge.audit_event set action = 'x' where event_id = $1",
        UUID(receipts[1].event_id),
    )
    foreign = proof.checkpoint.note.replace(proof.checkpoint.origin, "another.example/log")
    *_, result = await verified(own.audit, foreign)
    assert result.first_bad_index == 2
    found = {fault.check: fault for fault in result.faults}
    assert set(found) == {"columns", "kept checkpoints"}
    assert found["columns"].description == "columns differ from the leaf: action"
    assert "no known key signed it" in found["kept checkpoints"].description


async def test_a_broken_tree_proves_nothing(own: Tampered) -> None:
    made = await own.knowledge.CreateCollection(CreateCollectionRequest(collection_id="c"))
    receipt = (await create(own.knowledge, made.collection)).receipt
    await proof_of(own.audit, receipt.event_id)
    request = pb.GetInclusionProofRequest(log_index=0, tree_size=2)

    async def broken() -> None:
        # A batch that had read the tile before may write it once more.
        for _ in range(20):
            await own.execute("delete from knowledge.audit_tile")
            await own.audit.GetInclusionProof(request)

    refusal = await refused(broken())
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "AUDIT_LEDGER_BROKEN")
