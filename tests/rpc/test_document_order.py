"""ListDocuments: the order that is asked for."""

from typing import Any

import pytest
import pytest_asyncio
from document_pages import all_ids, insert

from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("", "cab"),
        ("create_time", "cab"),
        ("create_time desc", "bac"),
        ("update_time", "abc"),
        ("update_time desc", "cba"),
        ("document_id", "abc"),
        ("document_id desc", "cba"),
    ],
)
@pytest.mark.parametrize("page_size", [0, 1, 2])
async def test_lists_come_in_the_order_asked_for(
    knowledge: Any, ordered: str, order_by: str, expected: str, page_size: int
) -> None:
    found = await all_ids(knowledge, ordered, order_by=order_by, page_size=page_size)
    assert found == list(expected)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def ordered(knowledge: Any) -> str:
    """A collection with the documents c, a, b, made in this order, of which c was updated last."""
    made = await knowledge.CreateCollection(k.CreateCollectionRequest())
    name = str(made.collection.name)
    for document_id in "cab":
        await insert(knowledge, name, document_id)
    changed = d.Document(name=f"{name}/documents/c", title="changed")
    await knowledge.UpdateDocument(k.UpdateDocumentRequest(document=changed))
    return name
