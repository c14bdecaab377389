"""Batches of creations, updates and deletions."""

from typing import Any

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k


def item(document_id: str = "", **fields: Any) -> k.CreateDocumentRequest:
    given = {"content": "a text"} | fields
    return k.CreateDocumentRequest(document_id=document_id, document=d.Document(**given))


def creations(collection: c.Collection, *items: Any, **fields: Any) -> Any:
    return k.BatchCreateDocumentsRequest(parent=collection.name, requests=items, **fields)


def updates(collection: c.Collection, *items: Any, **fields: Any) -> Any:
    return k.BatchUpdateDocumentsRequest(parent=collection.name, requests=items, **fields)


def deletions(collection: c.Collection, *items: Any, **fields: Any) -> Any:
    return k.BatchDeleteDocumentsRequest(parent=collection.name, requests=items, **fields)


def deletion(document: d.Document, **fields: Any) -> k.DeleteDocumentRequest:
    return k.DeleteDocumentRequest(name=document.name, **fields)
