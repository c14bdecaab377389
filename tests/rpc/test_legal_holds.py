"""Legal holds: set, listed and released; and what they cover."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
import pytest_asyncio
from refusal import refused
from secured import SecuredServer

from cluster import DatabaseUrls
from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import legal_hold_pb2 as h
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledged.connection import Connection, connect
from served import Serve

Code = grpc.StatusCode
REASON = "Zebrafinch versus the clinic"


async def hold(audit_log: Any, request_id: str = "", **target: str) -> h.SetLegalHoldResponse:
    request = h.SetLegalHoldRequest(
        legal_hold=h.LegalHold(reason=REASON, **target), request_id=request_id
    )
    return await audit_log.SetLegalHold(request)


async def released(audit_log: Any, name: str, **fields: str) -> h.ReleaseLegalHoldResponse:
    return await audit_log.ReleaseLegalHold(h.ReleaseLegalHoldRequest(name=name, **fields))


async def listed(audit_log: Any, text: str, **fields: Any) -> list[h.LegalHold]:
    request = h.ListLegalHoldsRequest(filter=text, **fields)
    return list((await audit_log.ListLegalHolds(request)).legal_holds)


async def new_document(knowledge: Any, parent: str, *subjects: str) -> d.Document:
    made = d.Document(origin=d.ORIGIN_CALLER, subject_ids=subjects)
    request = k.CreateDocumentRequest(parent=parent, document=made)
    return (await knowledge.CreateDocument(request)).document


@pytest_asyncio.fixture(loop_scope="session")
async def document(knowledge: Any, collection: c.Collection) -> d.Document:
    return await new_document(knowledge, collection.name)


async def test_a_hold_is_set_listed_and_released(audit_log: Any, document: d.Document) -> None:
    made = await hold(audit_log, document=document.name)
    assert made.legal_hold.document == document.name
    assert made.legal_hold.reason == REASON
    assert made.receipt.event_id
    text = f'resource = "{document.name}"'
    assert await listed(audit_log, text) == [made.legal_hold]
    ended = await released(audit_log, made.legal_hold.name)
    assert ended.legal_hold.HasField("release_time")
    assert await listed(audit_log, text) == []
    assert await listed(audit_log, text, show_released=True) == [ended.legal_hold]


async def test_setting_and_releasing_are_in_the_audit_log_without_the_reason(
    audit_log: Any, document: d.Document
) -> None:
    made = await hold(audit_log, document=document.name)
    ended = await released(audit_log, made.legal_hold.name)
    for receipt, action in (
        (made.receipt, "legal_holds.set"),
        (ended.receipt, "legal_holds.release"),
    ):
        request = a.GetAuditEventRequest(name=f"auditEvents/{receipt.event_id}")
        event = (await audit_log.GetAuditEvent(request)).event
        assert event.action == action
        assert list(event.resources) == [made.legal_hold.name, document.name]
        assert REASON.encode() not in event.SerializeToString()


async def test_a_repeat_gets_the_first_answer(audit_log: Any, document: d.Document) -> None:
    request_id = str(uuid4())
    answers = await asyncio.gather(
        *(hold(audit_log, request_id, document=document.name) for _ in range(8))
    )
    assert len({answer.legal_hold.name for answer in answers}) == 1
    assert len({answer.receipt.event_id for answer in answers}) == 1
    name, request_id = answers[0].legal_hold.name, str(uuid4())
    first = await released(audit_log, name, request_id=request_id)
    assert await released(audit_log, name, request_id=request_id) == first


async def test_what_is_released_cannot_be_released_again(
    audit_log: Any, document: d.Document
) -> None:
    made = await hold(audit_log, document=document.name)
    await released(audit_log, made.legal_hold.name)
    refusal = await refused(released(audit_log, made.legal_hold.name))
    assert refusal.code is Code.FAILED_PRECONDITION


async def test_an_id_is_taken_once(audit_log: Any, document: d.Document) -> None:
    request = h.SetLegalHoldRequest(
        legal_hold_id=uuid4().hex, legal_hold=h.LegalHold(reason="x", document=document.name)
    )
    await audit_log.SetLegalHold(request)
    assert (await refused(audit_log.SetLegalHold(request))).code is Code.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({}, {"legal_hold", "legal_hold.reason"}),
        ({"reason": "x" * 1_001, "subject_id": ""}, {"legal_hold.reason", "legal_hold.subject_id"}),
        ({"reason": "x", "subject_id": "s" * 129}, {"legal_hold.subject_id"}),
        ({"reason": "x", "document": "collections/x"}, {"legal_hold.document"}),
        ({"reason": "x", "collection": "x"}, {"legal_hold.collection"}),
    ],
)
async def test_bad_fields_are_named(audit_log: Any, fields: dict[str, str], bad: set[str]) -> None:
    request = h.SetLegalHoldRequest(legal_hold=h.LegalHold(**fields))
    refusal = await refused(audit_log.SetLegalHold(request))
    assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, bad)


async def test_what_is_missing_cannot_be_held(audit_log: Any, collection: c.Collection) -> None:
    for target in (
        {"document": f"{collection.name}/documents/missing"},
        {"collection": "collections/never-was"},
    ):
        assert (await refused(hold(audit_log, **target))).code is Code.NOT_FOUND
    assert (await refused(released(audit_log, "legalHolds/never-was"))).code is Code.NOT_FOUND


async def test_pages_of_holds_give_each_once(audit_log: Any, collection: c.Collection) -> None:
    names = [(await hold(audit_log, collection=collection.name)).legal_hold.name for _ in range(5)]
    request = h.ListLegalHoldsRequest(filter=f'resource = "{collection.name}"', page_size=2)
    found: list[str] = []
    while True:
        page = await audit_log.ListLegalHolds(request)
        found += [each.name for each in page.legal_holds]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == names


async def test_a_confined_caller_holds_and_sees_its_own_collection_only(
    secured_server: SecuredServer,
) -> None:
    log = AuditServiceStub(secured_server.channel)
    admin, confined = (secured_server.metadata(s) for s in ("admin", "confined-admin"))

    def asking(**target: str) -> h.SetLegalHoldRequest:
        return h.SetLegalHoldRequest(legal_hold=h.LegalHold(reason="x", **target))

    own, foreign = secured_server.own.name, secured_server.foreign.name
    refusal = await refused(log.SetLegalHold(asking(collection=foreign), metadata=confined))
    assert refusal.code is Code.NOT_FOUND
    refusal = await refused(log.SetLegalHold(asking(subject_id="patient-1"), metadata=confined))
    assert refusal.code is Code.PERMISSION_DENIED
    made = [
        await log.SetLegalHold(asking(**target), metadata=admin)
        for target in ({"collection": own}, {"collection": foreign}, {"subject_id": "patient-1"})
    ]
    answer = await log.ListLegalHolds(h.ListLegalHoldsRequest(), metadata=confined)
    assert {each.collection for each in answer.legal_holds} == {own}
    release = h.ReleaseLegalHoldRequest(name=made[1].legal_hold.name)
    refusal = await refused(log.ReleaseLegalHold(release, metadata=confined))
    assert refusal.code is Code.NOT_FOUND
    for each in made:
        release = h.ReleaseLegalHoldRequest(name=each.legal_hold.name)
        await log.ReleaseLegalHold(release, metadata=admin)


class Held:
    """A server on a database that the test may look into."""

    def __init__(self, channel: grpc.aio.Channel, conn: Connection) -> None:
        self.log: Any = AuditServiceStub(channel)
        self.knowledge: Any = KnowledgeServiceStub(channel)
        self.conn = conn

    async def is_held(self, document: d.Document) -> bool:
        return bool(await self.conn.fetchval("select knowledge.is_held($1)", UUID(document.uid)))


@pytest_asyncio.fixture(loop_scope="session")
async def held(only_here: None, serve: Serve, database_urls: DatabaseUrls) -> AsyncIterator[Held]:
    async with (
        serve(database_urls) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        conn = await connect(database_urls.server_dsn)
        yield Held(channel, conn)
        await conn.close()


async def test_a_hold_covers_what_it_names_until_it_is_released(held: Held) -> None:
    for name in ("a", "b"):
        await held.knowledge.CreateCollection(k.CreateCollectionRequest(collection_id=name))
    first, second = [await new_document(held.knowledge, "collections/a", "p-1") for _ in range(2)]
    other = await new_document(held.knowledge, "collections/b", "p-1", "p-2")
    for target, covered in (
        ({"document": first.name}, [True, False, False]),
        ({"collection": "collections/a"}, [True, True, False]),
        ({"subject_id": "p-1"}, [True, True, True]),
        ({"subject_id": "p-2"}, [False, False, True]),
        ({"subject_id": "p-3"}, [False, False, False]),
    ):
        made = await hold(held.log, **target)
        assert [await held.is_held(each) for each in (first, second, other)] == covered, target
        await released(held.log, made.legal_hold.name)
        assert not any([await held.is_held(each) for each in (first, second, other)]), target


async def test_a_subjects_hold_covers_former_revisions_and_later_documents(held: Held) -> None:
    await held.knowledge.CreateCollection(k.CreateCollectionRequest(collection_id="a"))
    made = await new_document(held.knowledge, "collections/a", "p-1")
    changed = d.Document(name=made.name, subject_ids=["p-2"])
    await held.knowledge.UpdateDocument(k.UpdateDocumentRequest(document=changed))
    await hold(held.log, subject_id="p-1")
    later = await new_document(held.knowledge, "collections/a", "p-1")
    assert await held.is_held(made)
    assert await held.is_held(later)


async def test_a_hold_waits_for_removals_under_way(held: Held) -> None:
    """Else a removal that has asked already would go on under a hold that was answered."""
    await held.knowledge.CreateCollection(k.CreateCollectionRequest(collection_id="a"))
    made = await new_document(held.knowledge, "collections/a", "p-1")
    async with held.conn.transaction():
        assert not await held.is_held(made)
        setting = asyncio.create_task(hold(held.log, subject_id="p-1"))
        await asyncio.sleep(0.3)
        assert not setting.done()
    await setting
    assert await held.is_held(made)
