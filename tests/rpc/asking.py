"""Requests that several test files make."""

from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k

MARKER = "Zebrafinch"


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def creation(collection: c.Collection, document_id: str = "", **fields: Any) -> Any:
    return k.CreateDocumentRequest(
        parent=collection.name, document_id=document_id, document=d.Document(**fields)
    )


def update(document: d.Document, paths: list[str] | None = None, **fields: Any) -> Any:
    return k.UpdateDocumentRequest(
        document=d.Document(name=document.name, **fields),
        update_mask=FieldMask(paths=paths) if paths is not None else None,
    )
