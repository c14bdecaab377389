"""GetDisclosureReport: who saw or changed what of one subject."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from refusal import refused
from secured import SecuredServer

from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import disclosure_pb2 as r
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import options_pb2 as o
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub

Code = grpc.StatusCode


@pytest.fixture
def patient() -> str:
    return f"patient-{uuid4().hex}"


async def reported(audit_log: Any, subject_id: str, **fields: Any) -> list[r.DisclosureEntry]:
    request = r.GetDisclosureReportRequest(subject_id=subject_id, **fields)
    return list((await audit_log.GetDisclosureReport(request)).entries)


def actions(entries: list[r.DisclosureEntry]) -> list[str]:
    return [entry.action for entry in entries]


async def test_a_report_tells_who_saw_and_changed_what(
    knowledge: Any,
    vectors: Any,
    audit_log: Any,
    collection: c.Collection,
    create: Any,
    patient: str,
) -> None:
    made = await create("d", content="fever", subject_ids=[patient, "another-patient"])
    await create("other", content="cough", subject_ids=["another-patient"])
    declared = (("x-purpose", "treatment"), ("x-on-behalf-of", "dr-house"))
    await knowledge.GetDocument(k.GetDocumentRequest(name=made.name), metadata=declared)
    await vectors.Search(v.SearchRequest(collection=collection.name, text="fever"))
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.name))
    entries = await reported(audit_log, patient)
    assert actions(entries) == ["documents.create", "documents.get", "search", "documents.delete"]
    read = entries[1]
    assert (read.purpose, read.on_behalf_of) == ("treatment", "dr-house")
    assert list(read.returned_uids) == [made.uid]
    assert (read.audit_class, read.collection_uid) == (o.AUDIT_CLASS_READ, collection.uid)
    assert "another-patient" not in str(entries)
    event = await audit_log.GetAuditEvent(a.GetAuditEventRequest(name=read.event))
    assert event.event.call_id == read.call_id


async def test_reading_a_report_is_in_the_next(audit_log: Any, create: Any, patient: str) -> None:
    await create("d", origin=d.ORIGIN_CALLER, subject_ids=[patient])
    assert actions(await reported(audit_log, patient)) == ["documents.create"]
    again = await reported(audit_log, patient)
    assert actions(again) == ["documents.create", "disclosure_reports.get"]
    (name,) = again[1].resources
    assert name.startswith("subjects/")


async def test_whoever_asks_for_an_unknown_subject_is_known_but_not_for_whom(
    audit_log: Any, patient: str
) -> None:
    assert await reported(audit_log, patient) == []
    (entry,) = await reported(audit_log, patient)
    request = a.GetAuditEventRequest(name=entry.event)
    event = (await audit_log.GetAuditEvent(request)).event
    assert patient.encode() not in event.SerializeToString()


async def test_pages_and_ranges_give_each_entry_once(
    knowledge: Any, audit_log: Any, create: Any, patient: str
) -> None:
    made = await create("d", origin=d.ORIGIN_CALLER, subject_ids=[patient])
    for _ in range(6):
        await knowledge.GetDocument(k.GetDocumentRequest(name=made.name))
    until: dict[str, Any] = {"end_time": datetime.now(UTC)}
    whole = await reported(audit_log, patient, **until)
    request = r.GetDisclosureReportRequest(subject_id=patient, page_size=2, **until)
    found: list[r.DisclosureEntry] = []
    while True:
        page = await audit_log.GetDisclosureReport(request)
        found += page.entries
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == whole
    assert len(whole) == 7
    newest_first = await reported(audit_log, patient, order_by="occurred_at desc", **until)
    assert newest_first == whole[::-1]
    middle: dict[str, Any] = {"start_time": whole[2].occurred_at, "end_time": whole[4].occurred_at}
    assert await reported(audit_log, patient, **middle) == whole[2:4]
    changed = await reported(audit_log, patient, filter="audit_class = WRITE")
    assert actions(changed) == ["documents.create"]


async def test_bad_fields_are_named(audit_log: Any) -> None:
    now = datetime.now(UTC)
    request = r.GetDisclosureReportRequest(
        subject_id="s" * 129, page_size=-1, filter="nonsense = 1", order_by="actor"
    )
    request.start_time.FromDatetime(now)
    request.end_time.FromDatetime(now - timedelta(days=1))
    refusal = await refused(audit_log.GetDisclosureReport(request))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert set(refusal.fields) >= {"subject_id", "end_time", "page_size", "filter", "order_by"}
    request = r.GetDisclosureReportRequest(subject_id="p", start_time=Timestamp(seconds=10**18))
    assert (await refused(audit_log.GetDisclosureReport(request))).fields.keys() == {"start_time"}
    refusal = await refused(audit_log.GetDisclosureReport(r.GetDisclosureReportRequest()))
    assert refusal.fields.keys() == {"subject_id"}


async def test_a_confined_auditor_reads_of_its_own_collection_only(
    secured_server: SecuredServer, patient: str
) -> None:
    log = AuditServiceStub(secured_server.channel)
    knowledge = KnowledgeServiceStub(secured_server.channel)
    admin = secured_server.metadata("admin")
    for parent in (secured_server.own.name, secured_server.foreign.name):
        document = d.Document(origin=d.ORIGIN_CALLER, subject_ids=[patient])
        request = k.CreateDocumentRequest(parent=parent, document=document)
        await knowledge.CreateDocument(request, metadata=admin)
    report = r.GetDisclosureReportRequest(subject_id=patient)
    confined = secured_server.metadata("confined-auditor")
    entries = (await log.GetDisclosureReport(report, metadata=confined)).entries
    assert [entry.collection_uid for entry in entries] == [secured_server.own.uid]
    auditor = secured_server.metadata("auditor")
    entries = (await log.GetDisclosureReport(report, metadata=auditor)).entries
    assert len(entries) == 3
