"""ListAuditEvents and GetAuditEvent: filters, pages, and whose events one sees."""

from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from mutating import creation
from refusal import refused
from secured import SecuredServer

from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["delete", "update", "create b", "create a", "collection"]),
        ('action = "documents.update"', ["update"]),
        ('rpc = "/knowledge.v1.KnowledgeService/DeleteDocument"', ["delete"]),
        ("audit_class = ADMIN", ["collection"]),
        ("audit_class = WRITE", ["delete", "update", "create b", "create a"]),
        ("outcome = REFUSED", []),
        ("grpc_code = 0", ["delete", "update", "create b", "create a", "collection"]),
        ("grpc_code != 0", []),
        ("actor = anonymous", ["delete", "update", "create b", "create a", "collection"]),
        ("on_behalf_of = somebody", ["create b"]),
        ("purpose = treatment", ["create a"]),
        ('resources:"{name}/documents/a"', ["delete", "update", "create a"]),
        ('subject_ids:"patient-2"', ["create b"]),
        ('occurred_at < "2020-01-01T00:00:00Z"', []),
    ],
)
async def test_events_are_filtered(
    trail: tuple[str, dict[str, str]], events: Any, text: str, expected: list[str]
) -> None:
    scope, names = trail
    both = f"{scope} AND ({text})" if text else scope
    name = names["collection name"]
    found = await events(both.replace("{name}", name))
    assert [names[each.event_id] for each in found] == expected


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def trail(knowledge: Any) -> tuple[str, dict[str, str]]:
    """A filter for the events of one collection, and what each event is."""
    made = await knowledge.CreateCollection(k.CreateCollectionRequest())
    name, caller = made.collection.name, {"origin": d.ORIGIN_CALLER}
    first = await knowledge.CreateDocument(
        creation(name, "a", subject_ids=["patient-1"], **caller),
        metadata=(("x-purpose", "treatment"),),
    )
    second = await knowledge.CreateDocument(
        creation(name, "b", subject_ids=["patient-2"], **caller),
        metadata=(("x-on-behalf-of", "somebody"),),
    )
    changed = d.Document(name=first.document.name, title="changed")
    update = await knowledge.UpdateDocument(k.UpdateDocumentRequest(document=changed))
    delete = await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=first.document.name))
    answers = {
        "collection": made,
        "create a": first,
        "create b": second,
        "update": update,
        "delete": delete,
    }
    names = {answer.receipt.event_id: what for what, answer in answers.items()}
    scope = f'collection_uid = "{made.collection.uid}"'
    return scope, names | {"collection name": name}


async def test_events_come_latest_first_unless_told(
    trail: tuple[str, dict[str, str]], events: Any
) -> None:
    scope, names = trail
    expected = ["collection", "create a", "create b", "update", "delete"]
    for order_by, wanted in (
        ("", expected[::-1]),
        ("occurred_at desc", expected[::-1]),
        ("occurred_at", expected),
    ):
        found = await events(scope, order_by=order_by)
        assert [names[each.event_id] for each in found] == wanted


@pytest.mark.parametrize("page_size", [1, 2, 5])
async def test_pages_of_events_give_each_once(
    trail: tuple[str, dict[str, str]], audit_log: Any, page_size: int
) -> None:
    scope, names = trail
    request = a.ListAuditEventsRequest(filter=scope, page_size=page_size)
    found: list[str] = []
    while True:
        page = await audit_log.ListAuditEvents(request)
        assert len(page.events) <= page_size
        found += [names[each.event_id] for each in page.events]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == ["delete", "update", "create b", "create a", "collection"]


async def test_a_page_token_of_another_filter_is_refused(
    trail: tuple[str, dict[str, str]], audit_log: Any
) -> None:
    request = a.ListAuditEventsRequest(filter=trail[0], page_size=1)
    request.page_token = (await audit_log.ListAuditEvents(request)).next_page_token
    request.filter += " AND outcome = DONE"
    refusal = await refused(audit_log.ListAuditEvents(request))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


async def test_all_faults_of_a_list_are_named_at_once(audit_log: Any) -> None:
    request = a.ListAuditEventsRequest(
        filter="content = x", page_size=-1, order_by="actor", page_token="forged"
    )
    refusal = await refused(audit_log.ListAuditEvents(request))
    assert set(refusal.fields) == {"filter", "page_size", "order_by", "page_token"}


@pytest.mark.parametrize("text", ["leaf = x", "outcome = 1", "collection_uid = x", "peer = x"])
async def test_a_bad_filter_is_refused(audit_log: Any, text: str) -> None:
    refusal = await refused(audit_log.ListAuditEvents(a.ListAuditEventsRequest(filter=text)))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["filter"])


async def test_a_missing_event_is_not_found(audit_log: Any) -> None:
    request = a.GetAuditEventRequest(name=f"auditEvents/{uuid4()}")
    refusal = await refused(audit_log.GetAuditEvent(request))
    assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize("name", ["", "auditEvents/", "auditEvents/x", "collections/x", "x"])
async def test_a_name_that_is_no_events_is_refused(audit_log: Any, name: str) -> None:
    refusal = await refused(audit_log.GetAuditEvent(a.GetAuditEventRequest(name=name)))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["name"])


async def test_an_auditor_sees_events_of_granted_collections_only(
    secured_server: SecuredServer,
) -> None:
    log = AuditServiceStub(secured_server.channel)

    async def seen_by(subject: str) -> set[str]:
        metadata = secured_server.metadata(subject)
        listed = await log.ListAuditEvents(
            a.ListAuditEventsRequest(order_by="occurred_at"), metadata=metadata
        )
        return {each.collection_uid for each in listed.events}

    own, foreign = secured_server.own, secured_server.foreign
    assert await seen_by("confined-auditor") == {own.uid}
    assert await seen_by("auditor") >= {own.uid, foreign.uid}


async def test_a_foreign_event_is_not_found(secured_server: SecuredServer) -> None:
    log = AuditServiceStub(secured_server.channel)
    request = a.GetAuditEventRequest(name=f"auditEvents/{secured_server.foreign.event_id}")
    confined = secured_server.metadata("confined-auditor")
    refusal = await refused(log.GetAuditEvent(request, metadata=confined))
    assert refusal.code is Code.NOT_FOUND
    found = await log.GetAuditEvent(request, metadata=secured_server.metadata("auditor"))
    assert found.event.actor == "admin"


async def test_a_page_token_of_another_grant_is_refused(secured_server: SecuredServer) -> None:
    log = AuditServiceStub(secured_server.channel)
    request = a.ListAuditEventsRequest(page_size=1)
    page = await log.ListAuditEvents(request, metadata=secured_server.metadata("auditor"))
    request.page_token = page.next_page_token
    assert request.page_token
    confined = secured_server.metadata("confined-auditor")
    refusal = await refused(log.ListAuditEvents(request, metadata=confined))
    assert refusal.reason == "PAGE_TOKEN_INVALID"
