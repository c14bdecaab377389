"""Following a collection's changes, and making some, for the tests of WatchDocuments."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k


async def answers(knowledge: Any, parent: str, **fields: Any) -> AsyncIterator[Any]:
    call = knowledge.WatchDocuments(k.WatchDocumentsRequest(parent=parent, **fields))
    try:
        async for answer in call:
            yield answer
    finally:
        call.cancel()


async def now(knowledge: Any, parent: str) -> int:
    """Where the log is, as the first answer tells."""
    async with aclosing(answers(knowledge, parent)) as stream:
        return (await anext(stream)).next_log_index


async def create(knowledge: Any, parent: str, document_id: str) -> str:
    request = k.CreateDocumentRequest(
        parent=parent, document_id=document_id, document=d.Document(origin=d.ORIGIN_CALLER)
    )
    return (await knowledge.CreateDocument(request)).document.name


async def update(knowledge: Any, name: str, title: str) -> str:
    """The event of the change."""
    request = k.UpdateDocumentRequest(document=d.Document(name=name, title=title))
    return (await knowledge.UpdateDocument(request)).receipt.event_id
