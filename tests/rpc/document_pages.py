"""Documents made for lists, and lists read page by page."""

import base64
from collections.abc import AsyncIterator
from typing import Any

from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k


async def insert(knowledge: Any, parent: str, document_id: str, **fields: Any) -> d.Document:
    """A document that needs no embedding."""
    document = d.Document(origin=d.ORIGIN_CALLER, **fields)
    request = k.CreateDocumentRequest(parent=parent, document_id=document_id, document=document)
    return (await knowledge.CreateDocument(request)).document


async def pages(knowledge: Any, request: k.ListDocumentsRequest) -> AsyncIterator[list[str]]:
    """The ids on each page, to the last."""
    while True:
        answer = await knowledge.ListDocuments(request)
        yield [document.name.split("/")[-1] for document in answer.documents]
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


async def all_ids(knowledge: Any, parent: str, **fields: Any) -> list[str]:
    request = k.ListDocumentsRequest(parent=parent, **fields)
    return [each async for page in pages(knowledge, request) for each in page]


def changed(token: str) -> str:
    """The token with one bit of its bytes turned."""
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[len(raw) // 2] ^= 1
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
