"""UpdateDocument, over the wire."""

import asyncio
from typing import Any

import grpc
import pytest
from asking import struct, update
from google.protobuf.struct_pb2 import Struct
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k

Code = grpc.StatusCode


async def test_an_update_changes_what_the_mask_names(
    knowledge: Any, create: Any, read: Any
) -> None:
    made = await create(title="before", content="a text", labels={"a": "b"})
    request = update(made, ["title", "labels"], title="after", content="ignored")
    answer = await knowledge.UpdateDocument(request)
    changed = await read(made)
    assert (changed.title, changed.content, dict(changed.labels)) == ("after", "a text", {})
    assert changed.revision == answer.document.revision == 2
    assert changed.etag == answer.document.etag != made.etag
    assert changed.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()
    assert changed.create_time == made.create_time
    assert len(answer.receipt.leaf_hash) == 32


async def test_without_a_mask_an_update_changes_what_is_set(
    knowledge: Any, create: Any, read: Any
) -> None:
    made = await create(title="before", content="a text", metadata=struct(a=1))
    await knowledge.UpdateDocument(update(made, title="after"))
    changed = await read(made)
    assert (changed.title, changed.content) == ("after", "a text")
    assert changed.metadata == struct(a=1)


async def test_a_star_mask_replaces_everything(knowledge: Any, create: Any, read: Any) -> None:
    made = await create(
        title="before", content="a text", source_uri="u", metadata=struct(a=1), subject_ids=["p"]
    )
    await knowledge.UpdateDocument(update(made, ["*"], content="another text"))
    changed = await read(made)
    assert (changed.title, changed.content, changed.source_uri) == ("", "another text", "")
    assert (changed.metadata, list(changed.subject_ids)) == (Struct(), [])


async def test_one_key_of_metadata_is_updated(knowledge: Any, create: Any, read: Any) -> None:
    made = await create(content="x", metadata=struct(keep={"deep": [1]}, change=1, remove="x"))
    paths = ["metadata.change", "metadata.remove", "metadata.add"]
    given = struct(change=2.5, add={"new": True}, keep="is not in the mask")
    await knowledge.UpdateDocument(update(made, paths, metadata=given))
    expected = struct(keep={"deep": [1]}, change=2.5, add={"new": True})
    assert (await read(made)).metadata == expected


@pytest.mark.parametrize(
    "path", ["nonsense", "name", "uid", "origin", "etag", "labels.a", "metadata.a.b"]
)
async def test_an_unknown_path_is_refused(
    knowledge: Any, create: Any, read: Any, path: str
) -> None:
    made = await create(title="before", content="x")
    refusal = await refused(knowledge.UpdateDocument(update(made, ["title", path], title="y")))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert list(refusal.fields) == ["update_mask.paths[1]"]
    assert (await read(made)).revision == 1


async def test_an_update_is_checked_like_a_creation(knowledge: Any, create: Any) -> None:
    made = await create(content="x")
    refusal = await refused(
        knowledge.UpdateDocument(
            update(made, ["title", "content", "mime_type"], title="t" * 513, mime_type="x/y")
        )
    )
    assert set(refusal.fields) == {"document.title", "document.content", "document.mime_type"}


async def test_a_stale_etag_is_refused(knowledge: Any, create: Any, read: Any) -> None:
    made = await create(title="before", content="x")
    request = update(made, title="first")
    request.etag = made.etag
    await knowledge.UpdateDocument(request)
    request.document.title = "second"
    deletion = k.DeleteDocumentRequest(name=made.name, etag=made.etag)
    for call in (knowledge.UpdateDocument(request), knowledge.DeleteDocument(deletion)):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    assert (await read(made)).title == "first"


async def test_of_two_updaters_with_the_same_etag_one_wins(
    knowledge: Any, create: Any, read: Any
) -> None:
    made = await create(content="x")
    requests = [update(made, title=f"by {i}") for i in range(10)]
    for request in requests:
        request.etag = made.etag
    outcomes = await asyncio.gather(
        *map(knowledge.UpdateDocument, requests), return_exceptions=True
    )
    won = [o for o in outcomes if isinstance(o, k.UpdateDocumentResponse)]
    lost = [o.code() for o in outcomes if isinstance(o, grpc.aio.AioRpcError)]
    assert (len(won), lost) == (1, [Code.ABORTED] * 9)
    assert (await read(made)).title == won[0].document.title


async def test_forty_updaters_at_once_all_succeed(knowledge: Any, create: Any, read: Any) -> None:
    made = await create(content="x")
    paths = [f"metadata.key-{i}" for i in range(40)]
    answers = await asyncio.gather(
        *(
            knowledge.UpdateDocument(update(made, [path], metadata=struct(**{path[9:]: 1})))
            for path in paths
        )
    )
    assert sorted(answer.document.revision for answer in answers) == list(range(2, 42))
    assert len({answer.receipt.event_id for answer in answers}) == 40
    now = await read(made)
    assert now.revision == 41
    assert now.metadata == struct(**{path[9:]: 1 for path in paths})


async def test_validate_only_refuses_a_stale_etag(knowledge: Any, create: Any) -> None:
    made = await create(content="x")
    await knowledge.UpdateDocument(update(made, title="first"))
    changed = update(made, title="second")
    deleted = k.DeleteDocumentRequest(name=made.name)
    for request in (changed, deleted):
        request.etag, request.validate_only = made.etag, True
        method = getattr(knowledge, type(request).__name__.removesuffix("Request"))
        assert (await refused(method(request))).code is Code.ABORTED


async def test_allow_missing_makes_the_document(
    knowledge: Any, collection: c.Collection, read: Any
) -> None:
    name = f"{collection.name}/documents/new"
    request = update(d.Document(name=name), content="made by an update")
    request.allow_missing = True
    first = await knowledge.UpdateDocument(request)
    assert (first.document.name, first.document.revision) == (name, 1)
    request.document.content = "changed by it"
    assert (await knowledge.UpdateDocument(request)).document.revision == 2
    assert (await read(first.document)).content == "changed by it"


async def test_allow_missing_still_wants_text(knowledge: Any, collection: c.Collection) -> None:
    request = update(d.Document(name=f"{collection.name}/documents/new"), title="no text")
    request.allow_missing = True
    refusal = await refused(knowledge.UpdateDocument(request))
    assert list(refusal.fields) == ["document.content"]
