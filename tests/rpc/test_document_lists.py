"""ListDocuments: filters and pages."""

import asyncio
import base64
from typing import Any

import grpc
import pytest
import pytest_asyncio
from asking import struct
from document_pages import all_ids, changed, insert, pages
from google.protobuf.struct_pb2 import Struct, Value
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k

Code = grpc.StatusCode
LIBRARY: dict[str, dict[str, Any]] = {
    "a": {
        "title": "Asthma",
        "metadata": struct(year=2020, tags=["lung", "chronic"], ok=True, place={"city": "Wien"}),
        "labels": {"env": "prod"},
        "subject_ids": ["patient-1", "patient-2"],
    },
    "b": {
        "title": "Bronchitis",
        "metadata": struct(year=2021.5, tags=["lung"], ok=False, place={"city": "Graz"}),
        "labels": {"env": "test", "x": ""},
        "subject_ids": ["patient-2"],
        "source_uri": "https://example.org/b",
    },
    "c": {
        "title": 'Colitis "ulcerosa"',
        "metadata": struct(year="2022", tags=[], none=None, **{"odd key": {"a.b": 1}}),
        "mime_type": "text/markdown",
    },
    "d": {},
}


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def library(knowledge: Any) -> str:
    """The name of a collection with the documents above, only to be read."""
    made = await knowledge.CreateCollection(k.CreateCollectionRequest())
    for document_id, fields in LIBRARY.items():
        await insert(knowledge, made.collection.name, document_id, **fields)
    return str(made.collection.name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "abcd"),
        ('document_id = "a"', "a"),
        ('document_id != "a"', "bcd"),
        ('title >= "Bronchitis"', "bc"),
        ('title < "B"', "ad"),
        (r'title = "Colitis \"ulcerosa\""', "c"),
        ("title:Asthma", "a"),
        ("title:*", "abcd"),
        ("metadata.year = 2020", "a"),
        ("metadata.year > 2020", "b"),
        ("metadata.year >= 2020", "ab"),
        ('metadata.year = "2022"', "c"),
        ("metadata.year != 2020", "bcd"),
        ("metadata.year:*", "abc"),
        ("NOT metadata.year:*", "d"),
        ("metadata.none:*", ""),
        ("metadata.none = null", "abcd"),
        ("metadata.ok = true", "a"),
        ("metadata.ok != true", "bcd"),
        ("metadata.ok = false", "b"),
        ("metadata.tags:lung", "ab"),
        ("metadata.tags:chronic AND metadata.tags:lung", "a"),
        ("metadata.place.city = Wien", "a"),
        ("metadata.place:city", "ab"),
        ('metadata."odd key"."a.b" = 1', "c"),
        ("metadata:year", "abc"),
        ("labels.env = prod", "a"),
        ("labels:env", "ab"),
        ("labels:x", "b"),
        ("labels.env:*", "ab"),
        ('subject_ids:"patient-2"', "ab"),
        ("subject_ids:*", "ab"),
        ('mime_type = "text/markdown"', "c"),
        ('source_uri = "https://example.org/b"', "b"),
        ("state = ACTIVE", "abcd"),
        ("origin = SERVER", ""),
        ("revision = 1", "abcd"),
        ('create_time > "2020-01-01T00:00:00Z"', "abcd"),
        ('create_time > "2200-01-01T00:00:00+01:00"', ""),
        ("delete_time:*", ""),
        ("metadata.year = 2020 OR metadata.year = 2021.5", "ab"),
        ("metadata.tags:lung AND NOT document_id = a", "b"),
        ("metadata.tags:lung -document_id = a", "b"),
        ("metadata.tags:lung document_id = a", "a"),
        ("document_id = d OR document_id = a AND metadata.tags:lung", "a"),
        ("document_id = d OR (document_id = a AND metadata.tags:lung)", "ad"),
        ("NOT (document_id = a OR document_id = b)", "cd"),
    ],
)
async def test_a_filter_selects(knowledge: Any, library: str, text: str, expected: str) -> None:
    assert await all_ids(knowledge, library, filter=text) == list(expected)


async def test_bound_values_take_the_place_of_text(knowledge: Any, library: str) -> None:
    values = Struct()
    values.update({"t": 'Colitis "ulcerosa"', "years": [2020, 2021.5]})
    bound: dict[str, Value] = dict(values.fields)
    given = {"filter": "title = @t", "filter_values": {"t": bound["t"]}}
    assert await all_ids(knowledge, library, **given) == ["c"]
    given = {"filter": "metadata.year = @years", "filter_values": {"years": bound["years"]}}
    assert await all_ids(knowledge, library, **given) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("nonsense = 1", 1),
        ("title = x AND nonsense = 1", 15),
        ("title = 1", 9),
        ("title", 6),
        ("title =", 8),
        ("= 1", 1),
        ("(title = x", 11),
        ("title = x)", 10),
        ('title = "x', 9),
        ("title = @t", 9),
        ("revision = x", 12),
        ("state = SLEEPY", 9),
        ("create_time > yesterday", 15),
        ("labels = x", 10),
        ("labels.a.b = x", 1),
        ("has_suffix(title, x)", 1),
        ("title = *", 9),
        ("metadata.ok > true", 15),
        (r'title = "\ud800"', 9),
        (r'title = "\u0000"', 9),
        ("(" * 33 + "title = x" + ")" * 33, 33),
        (" ".join(["title = x"] * 201), 2001),
        ("title = " + "x" * 8_192, 8_193),
    ],
)
async def test_a_fault_of_a_filter_is_named_by_its_position(
    knowledge: Any, library: str, text: str, position: int
) -> None:
    request = k.ListDocumentsRequest(parent=library, filter=text)
    refusal = await refused(knowledge.ListDocuments(request))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["filter"])
    assert refusal.fields["filter"].endswith(f"at position {position}")


async def test_a_fault_never_repeats_the_filter(knowledge: Any, library: str) -> None:
    request = k.ListDocumentsRequest(parent=library, filter="Zebrafinch = 1 (Zebrafinch")
    assert "Zebrafinch" not in (await refused(knowledge.ListDocuments(request))).raw


async def test_a_bound_value_that_is_not_used_is_refused(knowledge: Any, library: str) -> None:
    request = k.ListDocumentsRequest(parent=library, filter_values={"x": Value(bool_value=True)})
    refusal = await refused(knowledge.ListDocuments(request))
    assert list(refusal.fields) == ["filter_values"]


async def test_a_filter_cannot_smuggle_sql(knowledge: Any, library: str) -> None:
    for text in (
        'title = "\'; drop table knowledge.document; --"',
        'metadata."\') or true; --" = 1',
        'labels."$1::int" = x',
        "document_id = \"a' or '1'='1\"",
    ):
        assert await all_ids(knowledge, library, filter=text) == []
    assert await all_ids(knowledge, library) == list("abcd")


@pytest.mark.parametrize(
    "order_by", ["nonsense", "title", "create_time down", "create_time, document_id", "desc"]
)
async def test_an_unknown_order_is_refused(knowledge: Any, library: str, order_by: str) -> None:
    request = k.ListDocumentsRequest(parent=library, order_by=order_by)
    refusal = await refused(knowledge.ListDocuments(request))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["order_by"])


async def test_a_negative_page_size_is_refused(knowledge: Any, library: str) -> None:
    request = k.ListDocumentsRequest(parent=library, page_size=-1)
    refusal = await refused(knowledge.ListDocuments(request))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["page_size"])


async def test_all_faults_of_a_list_are_named_at_once(knowledge: Any, library: str) -> None:
    request = k.ListDocumentsRequest(
        parent=library, page_size=-1, page_token="forged", filter="nope = 1", order_by="nope"
    )
    refusal = await refused(knowledge.ListDocuments(request))
    assert set(refusal.fields) == {"page_size", "page_token", "filter", "order_by"}


async def test_a_list_has_50_items_unless_told(knowledge: Any, collection: c.Collection) -> None:
    await asyncio.gather(*(insert(knowledge, collection.name, f"{i:02}") for i in range(51)))
    first, second = [
        page async for page in pages(knowledge, k.ListDocumentsRequest(parent=collection.name))
    ]
    assert (len(first), len(second)) == (50, 1)


async def test_a_huge_page_size_counts_as_the_largest(knowledge: Any, library: str) -> None:
    assert await all_ids(knowledge, library, page_size=2**31 - 1) == list("abcd")


async def test_a_page_that_is_just_full_is_the_last(knowledge: Any, library: str) -> None:
    request = k.ListDocumentsRequest(parent=library, page_size=4)
    assert [page async for page in pages(knowledge, request)] == [list("abcd")]


async def test_lists_leave_the_content_out_unless_asked(
    knowledge: Any, collection: c.Collection
) -> None:
    await insert(knowledge, collection.name, "x", content="the text")
    request = k.ListDocumentsRequest(parent=collection.name)
    (basic,) = (await knowledge.ListDocuments(request)).documents
    request.view = d.VIEW_FULL
    (full,) = (await knowledge.ListDocuments(request)).documents
    assert (basic.content, full.content) == ("", "the text")
    assert basic.content_sha256 == full.content_sha256


async def test_a_page_ends_early_rather_than_pass_the_message_limit(
    knowledge: Any, collection: c.Collection
) -> None:
    for i in range(6):
        await insert(knowledge, collection.name, f"{i}", content="x" * 900_000)
    request = k.ListDocumentsRequest(parent=collection.name, view=d.VIEW_FULL)
    found = [page async for page in pages(knowledge, request)]
    assert found == [["0", "1", "2", "3"], ["4", "5"]]


async def first_token(knowledge: Any, request: k.ListDocumentsRequest) -> str:
    request.page_size = 1
    return str((await knowledge.ListDocuments(request)).next_page_token)


@pytest.mark.parametrize(
    "forge",
    [
        changed,
        lambda token: token[:-1],
        lambda token: token + "A",
        lambda token: token + "=",
        lambda token: "AAAA" + token,
        lambda _: "x",
        lambda _: "ü" * 40,
        lambda _: "A" * 100_000,
        lambda _: base64.urlsafe_b64encode(b'[["s","a"],["u","0"]]' * 3).decode(),
    ],
    ids=["bit", "cut", "longer", "padded", "before", "short", "unicode", "huge", "plain"],
)
async def test_a_forged_page_token_is_refused(knowledge: Any, library: str, forge: Any) -> None:
    request = k.ListDocumentsRequest(parent=library)
    request.page_token = forge(await first_token(knowledge, request))
    refusal = await refused(knowledge.ListDocuments(request))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
    assert list(refusal.fields) == ["page_token"]


@pytest.mark.parametrize(
    "change",
    [
        {"filter": "revision = 1"},
        {"order_by": "document_id"},
        {"order_by": "create_time desc"},
        {"show_deleted": True},
        {"view": d.VIEW_FULL},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_page_token_of_another_query_is_refused(
    knowledge: Any, library: str, change: dict[str, Any]
) -> None:
    token = await first_token(knowledge, k.ListDocumentsRequest(parent=library))
    request = k.ListDocumentsRequest(parent=library, page_token=token, **change)
    refusal = await refused(knowledge.ListDocuments(request))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


async def test_a_page_token_of_another_collection_is_refused(
    knowledge: Any, library: str, collection: c.Collection
) -> None:
    token = await first_token(knowledge, k.ListDocumentsRequest(parent=library))
    request = k.ListDocumentsRequest(parent=collection.name, page_token=token)
    refusal = await refused(knowledge.ListDocuments(request))
    assert refusal.reason == "PAGE_TOKEN_INVALID"


async def test_a_page_token_of_another_method_is_refused(knowledge: Any, library: str) -> None:
    token = await first_token(knowledge, k.ListDocumentsRequest(parent=library))
    refusal = await refused(knowledge.ListCollections(k.ListCollectionsRequest(page_token=token)))
    assert refusal.reason == "PAGE_TOKEN_INVALID"


async def test_the_page_size_may_change_between_pages(knowledge: Any, library: str) -> None:
    request = k.ListDocumentsRequest(parent=library)
    request.page_token = await first_token(knowledge, request)
    request.page_size = 3
    rest = [page async for page in pages(knowledge, request)]
    assert rest == [["b", "c", "d"]]


@pytest.mark.parametrize("order_by", ["create_time", "document_id", "document_id desc"])
@pytest.mark.parametrize("page_size", [1, 5, 16, 53, 100])
async def test_no_page_skips_or_doubles_while_others_insert(
    knowledge: Any, collection: c.Collection, page_size: int, order_by: str
) -> None:
    before = [f"k{i:03}" for i in range(150)]
    stable = d.Document(origin=d.ORIGIN_CALLER)
    requests = [k.CreateDocumentRequest(document_id=each, document=stable) for each in before]
    batch = k.BatchCreateDocumentsRequest(parent=collection.name, requests=requests)
    await knowledge.BatchCreateDocuments(batch)
    found: list[str] = []
    request = k.ListDocumentsRequest(parent=collection.name, page_size=page_size, order_by=order_by)
    others = [f"k{place * 7 % 150:03}-{place}" for place in range(40)]
    while True:
        now, others = others[:page_size], others[page_size:]
        at_once = [insert(knowledge, collection.name, each) for each in now]
        page, *_ = await asyncio.gather(knowledge.ListDocuments(request), *at_once)
        found += [document.name.split("/")[-1] for document in page.documents]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert len(found) == len(set(found))
    assert sorted(each for each in found if len(each) == 4) == before


async def test_pages_go_on_behind_rows_that_were_deleted(
    knowledge: Any, collection: c.Collection
) -> None:
    for each in "abcd":
        await insert(knowledge, collection.name, each)
    request = k.ListDocumentsRequest(parent=collection.name, page_size=2, order_by="document_id")
    request.page_token = (await knowledge.ListDocuments(request)).next_page_token
    for each in "bc":
        name = f"{collection.name}/documents/{each}"
        await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=name))
    assert [page async for page in pages(knowledge, request)] == [["d"]]
