"""AggregateDocuments: how many documents there are, and by which values."""

from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct
from refusal import refused

from cluster import DatabaseUrls
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledged.connection import connect
from served import Serve

Code = grpc.StatusCode
ROWS: list[dict[str, Any]] = [
    {"metadata": {"year": 2024, "tags": ["a", "b", "a"], "flag": True}, "labels": {"env": "prod"}},
    {"metadata": {"year": 2024.0, "tags": ["b"], "flag": "true"}, "labels": {"env": "test"}},
    {
        "metadata": {"year": 2025, "tags": "b", "nested": {"x": 1, "y": None}},
        "labels": {"env": "prod"},
    },
    {"metadata": {"year": None, "tags": {"b": 1}}, "subject_ids": ["p1", "p2"]},
    {"metadata": {"tags": [["a"], None, 5], "long": "x" * 3000}, "subject_ids": ["p1"]},
]


@pytest_asyncio.fixture(loop_scope="session")
async def filled(knowledge: Any, make_collection: Any) -> str:
    """The name of a collection with the documents of ROWS, `d0` to `d4`, and a deleted one."""
    collection = await make_collection(
        filter_fields=[c.FilterField(path="metadata.year", type=c.FILTER_FIELD_TYPE_NUMBER)]
    )
    for number, row in enumerate([*ROWS, {}]):
        document = d.Document(
            origin=d.ORIGIN_CALLER,
            metadata=ParseDict(row.get("metadata", {}), Struct()),
            labels=row.get("labels", {}),
            subject_ids=row.get("subject_ids", []),
        )
        await knowledge.CreateDocument(
            k.CreateDocumentRequest(
                parent=collection.name, document=document, document_id=f"d{number}"
            )
        )
    await knowledge.DeleteDocument(
        k.DeleteDocumentRequest(name=f"{collection.name}/documents/d{len(ROWS)}")
    )
    return collection.name


async def facet(knowledge: Any, parent: str, path: str, **fields: Any) -> tuple[Any, int, int]:
    """Values with their counts, how many different ones there are, and documents without any."""
    request = k.AggregateDocumentsRequest(parent=parent, facets=[k.Facet(path=path, **fields)])
    (found,) = (await knowledge.AggregateDocuments(request)).facets
    values = [(MessageToDict(each.value), each.document_count) for each in found.values]
    return values, found.distinct_count, found.missing_count


@pytest.mark.parametrize(
    ("path", "values", "missing"),
    [
        ("metadata.year", [(2024, 2), (2025, 1)], 2),
        ("metadata.tags", [("b", 4), ("a", 1), (5, 1)], 0),
        ("metadata.flag", [("true", 1), (True, 1)], 3),
        ("metadata.nested", [("x", 1)], 4),
        ("metadata.nested.x", [(1, 1)], 4),
        ("metadata.long", [], 5),
        ("metadata", [("tags", 5), ("year", 3), ("flag", 2), ("long", 1), ("nested", 1)], 0),
        ("labels.env", [("prod", 2), ("test", 1)], 2),
        ("labels", [("env", 3)], 2),
        ("subject_ids", [("p1", 2), ("p2", 1)], 3),
        ("state", [("ACTIVE", 5)], 0),
        ("origin", [("CALLER", 5)], 0),
        ("revision", [(1, 5)], 0),
        ("mime_type", [("text/plain", 5)], 0),
    ],
)
async def test_a_facet_counts_each_value_once_a_document(
    knowledge: Any, filled: str, path: str, values: list[Any], missing: int
) -> None:
    assert await facet(knowledge, filled, path) == (values, len(values), missing)


async def test_each_value_is_what_a_filter_with_it_selects(knowledge: Any, filled: str) -> None:
    values, _, _ = await facet(knowledge, filled, "metadata.tags")
    for value, count in values:
        request = k.ListDocumentsRequest(parent=filled, filter="metadata.tags:@v")
        ParseDict(value, request.filter_values["v"])
        assert len((await knowledge.ListDocuments(request)).documents) == count


async def test_a_facet_ends_at_its_limit_and_tells_how_many_values_there_are(
    knowledge: Any, filled: str
) -> None:
    assert await facet(knowledge, filled, "metadata.tags", limit=1) == ([("b", 4)], 3, 0)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 5),
        ({"show_deleted": True}, 6),
        ({"filter": "metadata.year = 2024"}, 2),
        ({"filter": "metadata.year = 1999"}, 0),
        ({"estimate": True}, 5),
    ],
)
async def test_documents_are_counted_under_the_filter(
    knowledge: Any, filled: str, fields: Any, count: int
) -> None:
    request = k.AggregateDocumentsRequest(
        parent=filled, facets=[k.Facet(path="labels.env")], **fields
    )
    answer = await knowledge.AggregateDocuments(request)
    assert (answer.document_count, answer.estimated) == (count, False)
    counted = sum(value.document_count for value in answer.facets[0].values)
    assert counted + answer.facets[0].missing_count == count


async def test_all_faults_are_named_at_once(knowledge: Any, filled: str) -> None:
    facets = [k.Facet(path="a b", limit=0), k.Facet(path="title", limit=1001), k.Facet()]
    request = k.AggregateDocumentsRequest(parent=filled, filter="secret = 1", facets=facets)
    refusal = await refused(knowledge.AggregateDocuments(request))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert set(refusal.fields) == {
        "filter",
        "facets[0].path",
        "facets[0].limit",
        "facets[1].limit",
        "facets[2].path",
        "facets",
    }


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("secret", "unknown field at position 1"),
        ("create_time", "cannot count by an RFC 3339 timestamp at position 1"),
        ("x" * 1025, "the path is longer than 1024 characters at position 1025"),
    ],
)
async def test_what_cannot_be_counted_by_is_refused(
    knowledge: Any, filled: str, path: str, rule: str
) -> None:
    request = k.AggregateDocumentsRequest(parent=filled, facets=[k.Facet(path=path)])
    refusal = await refused(knowledge.AggregateDocuments(request))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert refusal.fields == {"facets[0].path": rule}


async def test_more_than_sixteen_facets_are_refused(knowledge: Any, filled: str) -> None:
    request = k.AggregateDocumentsRequest(parent=filled, facets=[k.Facet(path="title")] * 17)
    refusal = await refused(knowledge.AggregateDocuments(request))
    assert set(refusal.fields) == {"facets"}


FILL = """
    insert into knowledge.document
           (document_uid, collection_uid, document_id, title, content, content_sha256, mime_type,
            source_uri, metadata, labels, subject_ids, origin, state, event_id, create_time,
            update_time)
    select gen_random_uuid(), $1::text::uuid, 'n' || i, '', '', '', 'text/plain', '',
           jsonb_build_object('third', i % 3), '{}', '{}', 2, 2, gen_random_uuid(), now(), now()
      from generate_series(1, 40000) i
"""


async def test_an_estimate_of_many_documents_comes_from_a_sample(
    only_here: None, database_urls: DatabaseUrls, serve: Serve
) -> None:
    async with (
        serve(database_urls) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        knowledge: Any = KnowledgeServiceStub(channel)
        made = await knowledge.CreateCollection(k.CreateCollectionRequest(collection_id="many"))
        owner = await connect(database_urls.owner_dsn)
        await owner.execute("set role knowledge_owner")
        await owner.fetch(FILL, made.collection.uid)
        await owner.execute("analyze knowledge.document")
        await owner.close()
        request = k.AggregateDocumentsRequest(
            parent="collections/many", facets=[k.Facet(path="metadata.third")], estimate=True
        )
        answer = await knowledge.AggregateDocuments(request)
    assert answer.estimated
    assert 36_000 <= answer.document_count <= 44_000
    assert [round(v.document_count / 40_000, 1) for v in answer.facets[0].values] == [0.3] * 3
