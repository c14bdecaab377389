"""Random filters over the wire: lists and searches answer as Python does, and PostgreSQL is sent
nothing but the statements that we know, whatever the filter says."""

import asyncio
import random
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import HealthCheck, example, given, settings

from cluster import DatabaseUrls
from filter_expressions import (
    DOCUMENT_TERMS,
    INSTANT_TEXT_CHOICES,
    SHARED_TERMS,
    TELLING,
    Writing,
    expressions,
)
from filter_promise import KINDS, Promise
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledge.v1.vector_pb2 import Vector
from knowledge.v1.vector_service_pb2_grpc import VectorServiceStub
from knowledged.connection import connect
from knowledged.embedded import embedded_postgres
from knowledged.filters.syntax import Comparison, Expression
from knowledged.migrate import migrate
from knowledged.store.documents import DOCUMENT_FIELDS
from served import Serve
from statement_shapes import is_condition, normal, outside

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMISE = Promise(DOCUMENT_FIELDS, KINDS)
EXPRESSIONS = expressions(*SHARED_TERMS, *DOCUMENT_TERMS)
PARENT = "collections/filtered"
ONE = Vector(f32_le=np.ones(2, "<f4").tobytes())
HOSTILE = "x'); drop table knowledge.document; -- $1 {key} \\ \" '"
SENT = """
    select query
      from pg_stat_statements
     where userid = 'knowledge_server'::regrole
       and dbid = (select oid from pg_database where datname = current_database())
"""


@dataclass(frozen=True, slots=True)
class Filtered:
    """A collection of documents, each with one chunk, on a server whose statements are recorded."""

    knowledge: Any
    vectors: Any
    superuser: Any
    rows: dict[str, dict[str, Any]]

    async def listed(self, text: str, values: dict[str, Value]) -> set[str]:
        request = k.ListDocumentsRequest(
            parent=PARENT, filter=text, filter_values=values, page_size=1000
        )
        answer = await self.knowledge.ListDocuments(request)
        return {document.name for document in answer.documents}

    async def found(self, text: str, values: dict[str, Value]) -> set[str]:
        request = v.SearchRequest(
            collection=PARENT, vector=ONE, filter=text, filter_values=values, limit=1000
        )
        answer = await self.vectors.Search(request)
        return {hit.document.name for hit in answer.hits}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def filtered(serve: Serve) -> AsyncIterator[Filtered]:
    async with (
        recording() as urls,
        serve(urls) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        superuser = await connect(urls.superuser_dsn)
        knowledge, vectors = KnowledgeServiceStub(channel), VectorServiceStub(channel)
        rows = await filled(knowledge, vectors)
        await declare(knowledge, superuser)
        yield Filtered(knowledge, vectors, superuser, rows)
        await superuser.close()


def opened_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="knowledged-statements-"))
    folder.chmod(0o711)
    return folder


@asynccontextmanager
async def recording() -> AsyncIterator[DatabaseUrls]:
    """A PostgreSQL with pg_stat_statements, which is loaded when it starts: so it starts twice."""
    folder = opened_folder()
    try:
        async with embedded_postgres(folder, durable=False) as server:
            await as_superuser(
                server.superuser_dsn,
                "alter system set shared_preload_libraries = 'pg_stat_statements'",
                'alter system set "pg_stat_statements.max" = 50000',
            )
        async with embedded_postgres(folder, durable=False) as server:
            await as_superuser(server.superuser_dsn, "create extension pg_stat_statements")
            await migrate(server.owner_dsn)
            yield DatabaseUrls(server.owner_dsn, server.server_dsn, server.superuser_dsn)
    finally:
        shutil.rmtree(folder)


async def as_superuser(dsn: str, *statements: str) -> None:
    conn = await connect(dsn)
    for statement in statements:
        await conn.execute(statement)
    await conn.close()


def texts() -> list[dict[str, Any]]:
    """Metadata of every JSON type, at declared and undeclared places alike."""
    dice = random.Random(4)
    telling = [*({"a": value} for value in TELLING), *({"a": {"a": value}} for value in TELLING)]
    declared = {
        "name": ["a", "b", "é", "B", "", 5],
        "year": [0, -1.5, 1, 5, 0.1, "5"],
        "open": [True, False, "true"],
        "seen": [*INSTANT_TEXT_CHOICES, "a", 5],
        "codes": [["a"], ["a", "b"], [], ["a", 5], [["a"]], "a"],
    }
    for metadata in telling:
        for key, values in declared.items():
            if dice.random() < 0.6:
                metadata[key] = dice.choice(values)
    return telling


async def filled(knowledge: Any, vectors: Any) -> dict[str, dict[str, Any]]:
    """What was stored, by document name, as the promise reads it."""
    await knowledge.CreateCollection(
        k.CreateCollectionRequest(collection=c.Collection(dimension=2), collection_id="filtered")
    )
    dice, rows = random.Random(5), dict[str, dict[str, Any]]()
    for number, metadata in enumerate(texts()):
        row: dict[str, Any] = {
            "document_id": f"{'aB5'[number % 3]}{number}",
            "title": dice.choice(["", "a", "b", "B", "é", "x' or true --"]),
            "labels": {
                key: dice.choice("ab05B") for key in ("a", "a.b", "0") if dice.random() < 0.4
            },
            "subject_ids": dice.sample(["a", "b", "0", "é"], dice.randrange(3)),
            "metadata": metadata,
        }
        stored = await store(knowledge, vectors, row)
        rows[stored.name] = row | {
            "revision": stored.revision,
            "origin": 2,
            "state": 2,
            "source_uri": "",
            "create_time": stored.create_time.ToJsonString(),
            "update_time": stored.update_time.ToJsonString(),
        }
    return rows


async def store(knowledge: Any, vectors: Any, row: dict[str, Any]) -> d.Document:
    document = d.Document(
        title=row["title"],
        labels=row["labels"],
        subject_ids=row["subject_ids"],
        metadata=ParseDict(row["metadata"], Struct()),
        origin=d.ORIGIN_CALLER,
    )
    request = k.CreateDocumentRequest(
        parent=PARENT, document=document, document_id=row["document_id"]
    )
    stored = (await knowledge.CreateDocument(request)).document
    chunk = Chunk(chunk_id="only", content="a text", embedding=ONE)
    await vectors.UpsertChunks(v.UpsertChunksRequest(parent=stored.name, chunks=[chunk]))
    return stored


async def declare(knowledge: Any, superuser: Any) -> None:
    """Only now, so that values of other types are there; and waits for the fast form."""
    kinds = {kind: number for number, kind in enumerate(KINDS.values(), 1)}
    fields = [
        c.FilterField(path=path, type=c.FilterFieldType.Name(kinds[kind]))
        for path, kind in KINDS.items()
    ]
    collection = c.Collection(name=PARENT, filter_fields=fields)
    await knowledge.UpdateCollection(
        k.UpdateCollectionRequest(collection=collection, update_mask={"paths": ["filter_fields"]})
    )
    ready = "select jsonb_array_length(ready_fields) from knowledge.vector_space"
    async with asyncio.timeout(60):
        while await superuser.fetchval(ready) < len(fields):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.1)


async def answers_as_promised(filtered: Filtered, expression: Expression) -> None:
    writing = Writing()
    text = writing.expression(expression)
    values = {name: ParseDict(value, Value()) for name, value in writing.values.items()}
    expected = {name for name, row in filtered.rows.items() if PROMISE.holds(row, expression)}
    assert await filtered.listed(text, values) == expected
    assert await filtered.found(text, values) == expected


fixture_is_shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(fixture_is_shared, max_examples=300)
@given(expression=EXPRESSIONS)
@example(Comparison(("title",), "=", HOSTILE, 1, 1))
async def test_a_filter_selects_what_python_does(
    filtered: Filtered, expression: Expression
) -> None:
    await answers_as_promised(filtered, expression)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(fixture_is_shared, max_examples=10_000)
@given(expression=EXPRESSIONS)
async def test_ten_thousand_filters_select_what_python_does(
    filtered: Filtered, expression: Expression
) -> None:
    await answers_as_promised(filtered, expression)


async def test_no_statement_outside_the_allowed_shapes_reaches_postgresql(
    filtered: Filtered,
) -> None:
    """Also of the filters above: PostgreSQL has kept count since its start."""
    hostile = {"x": ParseDict(HOSTILE, Value())}
    for text in ("title = @x", "metadata.a:@x", "has_prefix(labels.a, @x)", "metadata.name < @x"):
        assert await filtered.listed(text, hostile) == await filtered.found(text, hostile)
    sent = [row["query"] for row in await filtered.superuser.fetch(SENT)]
    assert sum(" and (" in normal(query) for query in sent) > 5
    assert outside(sent) == []


@pytest.mark.parametrize(
    "sql",
    [
        "(d.title = 'x' or true)",
        "(d.title = 'x'::text); drop table knowledge.document",
        "(d.title = $4::text) or (1 = 1)",
        "(d.title = (select content from knowledge.document limit 1))",
        "(d.content = d.content)",
        "(pg_sleep(10) is null)",
    ],
)
async def test_a_condition_of_another_shape_would_be_noticed(sql: str) -> None:
    assert not is_condition(normal(sql))


async def test_a_condition_of_the_compiler_is_known() -> None:
    assert is_condition(
        normal("((d.title = $4::text) and ((d.revision > $5::float8) is not true))")
    )
