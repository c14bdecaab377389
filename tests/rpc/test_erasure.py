"""EraseSubject: what it removes, what it leaves, and what it refuses."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
import pytest_asyncio
from refusal import refused
from secured import SecuredServer

from cluster import DatabaseUrls
from knowledge.v1 import audit_event_pb2 as e
from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import disclosure_pb2 as r
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import erasure_pb2 as er
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import legal_hold_pb2 as h
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledge.v1.vector_service_pb2_grpc import VectorServiceStub
from knowledged.connection import Connection, connect
from served import Serve

Code = grpc.StatusCode
SUBJECT, OTHER = "patient-Zebrafinch", "patient-Kakapo"
COLLECTIONS = ("a", "b", "c")


class Clinic:
    """A server on a database that the test may look into."""

    def __init__(self, channel: grpc.aio.Channel, conn: Connection) -> None:
        self.log: Any = AuditServiceStub(channel)
        self.knowledge: Any = KnowledgeServiceStub(channel)
        self.vectors: Any = VectorServiceStub(channel)
        self.conn = conn

    async def add(self, collection: str, document_id: str, *subjects: str) -> d.Document:
        document = d.Document(
            content=f"Fever of {' and '.join(subjects)}.",
            title=f"About {' and '.join(subjects)}",
            subject_ids=subjects,
        )
        request = k.CreateDocumentRequest(
            parent=f"collections/{collection}", document_id=document_id, document=document
        )
        return (await self.knowledge.CreateDocument(request)).document

    async def erase(self, subject_id: str = SUBJECT, **fields: Any) -> er.EraseSubjectResponse:
        request = er.EraseSubjectRequest(subject_id=subject_id, **fields)
        return await self.log.EraseSubject(request)

    async def report(self, subject_id: str = SUBJECT) -> list[r.DisclosureEntry]:
        request = r.GetDisclosureReportRequest(subject_id=subject_id)
        return list((await self.log.GetDisclosureReport(request)).entries)

    async def names(self) -> set[str]:
        """Of all documents."""
        found: set[str] = set()
        for collection in COLLECTIONS:
            request = k.ListDocumentsRequest(parent=f"collections/{collection}", show_deleted=True)
            found |= {each.name for each in (await self.knowledge.ListDocuments(request)).documents}
        return found

    async def hold(self, **target: str) -> h.LegalHold:
        request = h.SetLegalHoldRequest(legal_hold=h.LegalHold(reason=f"of {SUBJECT}", **target))
        return (await self.log.SetLegalHold(request)).legal_hold

    async def release(self, held: h.LegalHold) -> None:
        await self.log.ReleaseLegalHold(h.ReleaseLegalHoldRequest(name=held.name))

    async def tables_with(self, text: str) -> set[str]:
        """The tables of which a row holds the text, in the clear or in bytes."""
        rows = await self.conn.fetch(
            """
            select c.oid::regclass::text as name
              from pg_class c
              join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = 'knowledge' and c.relkind in ('r', 'p') and not c.relispartition
            """
        )
        found: set[str] = set()
        for row in rows:
            name = row["name"]
            query = f"select count(*) from {name} t where strpos(t::text, $1) > 0"  # noqa: S608
            for form in (text, text.encode().hex()):
                if await self.conn.fetchval(query, form):
                    found.add(name)
        return found

    async def verified(self) -> a.VerifyAuditLogResponse:
        """The end of a verification of the whole log, once every event has its leaf."""
        async with asyncio.timeout(20):
            while await self.conn.fetchval("select max(seq) from knowledge.audit_pending"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        answers = [each async for each in self.log.VerifyAuditLog(a.VerifyAuditLogRequest())]
        return answers[-1]


@pytest_asyncio.fixture(loop_scope="session")
async def clinic(
    only_here: None, serve: Serve, database_urls: DatabaseUrls
) -> AsyncIterator[Clinic]:
    async with (
        serve(database_urls, max_batch_items=3) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        conn = await connect(database_urls.superuser_dsn)
        served = Clinic(channel, conn)
        for name in COLLECTIONS:
            request = k.CreateCollectionRequest(collection_id=name)
            await served.knowledge.CreateCollection(request)
        yield served
        await conn.close()


async def test_nothing_of_an_erased_subject_is_left_and_the_log_verifies(clinic: Clinic) -> None:
    made = [await clinic.add(collection, "x", SUBJECT) for collection in COLLECTIONS]
    kept = await clinic.add("a", "y", OTHER)
    await clinic.knowledge.GetDocument(k.GetDocumentRequest(name=made[0].name))
    await clinic.vectors.Search(v.SearchRequest(collection="collections/a", text="fever"))
    changed = d.Document(name=made[1].name, content="Healthy.", title="", subject_ids=[OTHER])
    update = k.UpdateDocumentRequest(document=changed)
    update.update_mask.paths.extend(["content", "title", "subject_ids"])
    await clinic.knowledge.UpdateDocument(update)
    await clinic.knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made[2].name))
    await clinic.release(await clinic.hold(subject_id=SUBJECT))
    await clinic.report()
    assert len(await clinic.tables_with(SUBJECT)) >= 4
    answer = await clinic.erase(force=True, request_id=str(uuid4()))
    assert (answer.document_count, answer.revision_count, answer.more) == (3, 5, False)
    assert answer.payload_count >= 8
    assert await clinic.tables_with(SUBJECT) == set()
    assert await clinic.names() == {kept.name}
    end = await clinic.verified()
    assert not end.faults
    assert end.erased_events == answer.payload_count
    assert end.tree_size > end.erased_events


async def test_the_report_says_that_the_subject_was_erased(clinic: Clinic) -> None:
    await clinic.add("a", "x", SUBJECT)
    answer = await clinic.erase(force=True)
    (entry,) = await clinic.report()
    assert entry.event == f"auditEvents/{answer.receipt.event_id}"
    assert (entry.action, entry.actor) == ("subjects.erase", "anonymous")
    event = (await clinic.log.GetAuditEvent(a.GetAuditEventRequest(name=entry.event))).event
    assert (event.result_count, event.outcome) == (1, e.AUDIT_OUTCOME_DONE)
    assert event.leaf_hash == answer.receipt.leaf_hash
    assert await clinic.tables_with(SUBJECT) == set()


async def test_without_force_an_erasure_only_tells(clinic: Clinic) -> None:
    await clinic.add("a", "x", SUBJECT)
    await clinic.add("b", "y", SUBJECT, OTHER)
    before = await clinic.tables_with(SUBJECT)
    answer = await clinic.erase()
    assert (answer.document_count, answer.revision_count, answer.payload_count) == (2, 2, 2)
    assert (answer.held_count, answer.HasField("receipt")) == (0, False)
    assert len(await clinic.names()) == 2
    assert await clinic.tables_with(SUBJECT) == before


async def test_what_is_about_others_too_goes_whole(clinic: Clinic) -> None:
    await clinic.add("a", "x", SUBJECT, OTHER)
    kept = await clinic.add("a", "y", OTHER)
    await clinic.erase(force=True)
    assert await clinic.names() == {kept.name}
    actions = [entry.action for entry in await clinic.report(OTHER)]
    assert actions == ["documents.create", "documents.list"]


@pytest.mark.parametrize("target", ["subject", "other subject", "document", "collection"])
async def test_what_is_held_keeps_all_of_the_subject(clinic: Clinic, target: str) -> None:
    made = await clinic.add("a", "x", SUBJECT, OTHER)
    await clinic.add("b", "y", SUBJECT)
    held = await clinic.hold(
        **{
            "subject": {"subject_id": SUBJECT},
            "other subject": {"subject_id": OTHER},
            "document": {"document": made.name},
            "collection": {"collection": "collections/a"},
        }[target]
    )
    before = await clinic.erase()
    assert before.held_count > 0
    refusal = await refused(clinic.erase(force=True))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "LEGAL_HOLD")
    assert SUBJECT not in refusal.raw
    assert len(await clinic.names()) == 2
    after = await clinic.erase()
    assert after.payload_count >= before.payload_count
    await clinic.release(held)
    assert (await clinic.erase(force=True)).document_count == 2


async def test_a_held_payload_alone_keeps_it_when_the_document_is_gone(clinic: Clinic) -> None:
    made = await clinic.add("a", "x", SUBJECT)
    purge = k.PurgeDocumentsRequest(parent="collections/a", filter="create_time:*", force=True)
    await clinic.knowledge.PurgeDocuments(purge)
    await clinic.hold(collection="collections/a")
    answer = await clinic.erase()
    assert (answer.document_count, answer.held_count) == (0, answer.payload_count)
    assert (await refused(clinic.erase(force=True))).reason == "LEGAL_HOLD"
    assert made.name


async def test_the_purge_of_each_document_is_told_without_the_subject(clinic: Clinic) -> None:
    made = await clinic.add("a", "x", SUBJECT)
    told = await clinic.add("a", f"of-{SUBJECT}", SUBJECT)
    await clinic.erase(force=True)
    request = a.ListAuditEventsRequest(filter='action = "documents.purge" audit_class = WRITE')
    events = (await clinic.log.ListAuditEvents(request)).events
    names = {name for event in events for name in event.resources}
    assert names == {made.name, f"documents/{told.uid}"}
    assert not any(event.subject_ids for event in events)
    assert await clinic.tables_with(SUBJECT) == set()


async def test_more_than_a_batch_takes_several_calls(clinic: Clinic) -> None:
    for number in range(5):
        await clinic.add(COLLECTIONS[number % 3], f"d{number}", SUBJECT)
    assert (await clinic.erase()).more
    first = await clinic.erase(force=True)
    assert (first.document_count, first.more) == (3, True)
    second = await clinic.erase(force=True)
    assert (second.document_count, second.more) == (2, False)
    assert await clinic.tables_with(SUBJECT) == set()


async def test_a_repeat_gets_the_first_answer(clinic: Clinic) -> None:
    await clinic.add("a", "x", SUBJECT)
    request_id = str(uuid4())
    answers = await asyncio.gather(
        *(clinic.erase(force=True, request_id=request_id) for _ in range(6))
    )
    assert all(answer == answers[0] for answer in answers)
    assert answers[0].document_count == 1
    refusal = await refused(clinic.erase(OTHER, force=True, request_id=request_id))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_the_serving_role_deletes_no_payload_but_by_the_function(
    clinic: Clinic, database_urls: DatabaseUrls
) -> None:
    await clinic.add("a", "x", SUBJECT)
    await clinic.hold(subject_id=SUBJECT)
    conn = await connect(database_urls.server_dsn)
    for statement, fault in (
        ("delete from knowledge.audit_payload", asyncpg.InsufficientPrivilegeError),
        (
            f"select knowledge.erase_payloads('{SUBJECT}')",
            asyncpg.ObjectNotInPrerequisiteStateError,
        ),
    ):
        with pytest.raises(fault):
            await conn.execute(statement)
    await conn.close()


@pytest.mark.parametrize("named", ["", "an event of something else"])
async def test_payloads_go_only_with_the_event_of_their_erasure(
    named: str, clinic: Clinic, database_urls: DatabaseUrls
) -> None:
    await clinic.add("a", "x", SUBJECT)
    count = "select count(*) from knowledge.audit_payload where $1 = any (subject_ids)"
    before = await clinic.conn.fetchval(count, SUBJECT)
    other = await clinic.conn.fetchval("select event_id::text from knowledge.audit_event limit 1")
    conn = await connect(database_urls.server_dsn)
    name = other if named else ""
    await conn.execute("begin")
    await conn.execute("select set_config('knowledge.erasure_event', $1, true)", name)
    assert await conn.fetchval("select knowledge.erase_payloads($1)", SUBJECT) == before
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="the event of its erasure"):
        await conn.execute("commit")
    await conn.close()
    assert before > 0
    assert await clinic.conn.fetchval(count, SUBJECT) == before


async def test_bad_fields_are_named(clinic: Clinic) -> None:
    refusal = await refused(clinic.erase("s" * 129, request_id="nonsense"))
    assert set(refusal.fields) == {"subject_id", "request_id"}
    assert set((await refused(clinic.erase(""))).fields) == {"subject_id"}


async def test_who_is_confined_erases_nobody(secured_server: SecuredServer) -> None:
    log = AuditServiceStub(secured_server.channel)
    request = er.EraseSubjectRequest(subject_id="nobody", force=True)
    metadata = secured_server.metadata("confined-admin")
    refusal = await refused(log.EraseSubject(request, metadata=metadata))
    assert refusal.code is Code.PERMISSION_DENIED
