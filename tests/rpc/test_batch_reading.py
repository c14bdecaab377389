"""BatchGetDocuments: in order, all or none."""

from typing import Any

import grpc
from batch_requests import deletion
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k

Code = grpc.StatusCode


async def test_a_batch_is_read_in_the_order_of_its_names(
    knowledge: Any, collection: c.Collection, create: Any, read: Any
) -> None:
    made = [await create(f"d{i}", content=f"text {i}") for i in range(3)]
    await knowledge.DeleteDocument(deletion(made[1]))
    names = [made[i].name for i in (2, 0, 1, 2)]
    request = k.BatchGetDocumentsRequest(parent=collection.name, names=names)
    answer = await knowledge.BatchGetDocuments(request)
    assert list(answer.documents) == [await read(made[i]) for i in (2, 0, 1, 2)]
    request.view = d.VIEW_BASIC
    answer = await knowledge.BatchGetDocuments(request)
    assert {document.content for document in answer.documents} == {""}


async def test_missing_names_of_a_batch_are_named(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    made = await create(content="x")
    names = [f"{collection.name}/documents/none", made.name, f"{collection.name}/documents/no"]
    request = k.BatchGetDocumentsRequest(parent=collection.name, names=names)
    refusal = await refused(knowledge.BatchGetDocuments(request))
    assert (refusal.code, set(refusal.fields)) == (Code.NOT_FOUND, {"names[0]", "names[2]"})
    request.names[:] = ["nonsense", made.name, "collections/another/documents/d"]
    refusal = await refused(knowledge.BatchGetDocuments(request))
    assert set(refusal.fields) == {"names[0]", "names[2]"}


async def test_a_batch_too_large_to_be_answered_is_refused(
    knowledge: Any, collection: c.Collection, create: Any, read: Any
) -> None:
    large = {"content": "x" * 900_000, "origin": d.ORIGIN_CALLER}
    made = [await create(f"d{i}", **large) for i in range(5)]
    request = k.BatchGetDocumentsRequest(parent=collection.name, names=[m.name for m in made])
    refusal = await refused(knowledge.BatchGetDocuments(request))
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")
