"""Filters find their index: the templates for conditions and for indexes are the same."""

import json
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any, LiteralString

import asyncpg
import pytest

from filter_promise import DECLARED_KEYS, FIELDS, TYPED_FIELDS
from knowledged.filters.language import parse
from knowledged.store import filter_sql
from knowledged.store.filter_sql import Kind, stored_value


@pytest.fixture
async def connection(bare_urls: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(bare_urls.owner_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def indexed(connection: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """Vector rows with an index `by_<key>` on each declared field, and documents."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("""
        create temporary table chunk_vector on commit drop as
        select jsonb_build_object(
            'name', 'n' || i, 'year', i, 'open', i % 1000 = 0, 'seen', i * 1000.5,
            'codes', jsonb_build_array('c' || i, 'd')
        ) as fields
        from generate_series(1, 20000) as i;
        create temporary table document on commit drop as
        select fields as metadata, 't' || (fields ->> 'name') as title from chunk_vector;
        create index by_metadata on document using gin (metadata jsonb_path_ops);
        create index by_title on document (title);
    """)
    for key, kind in DECLARED_KEYS.items():
        expression = filter_sql.index_expression(kind).replace("{key}", f"'{key}'")
        method = filter_sql.index_method(kind)
        await connection.execute(
            f"create index by_{key} on chunk_vector using {method} ({expression})"
        )
    await connection.execute("analyze chunk_vector; analyze document")
    yield connection
    await transaction.rollback()


SEARCHES: Mapping[bool, LiteralString] = {
    True: "prepare filtered as select count(*) from chunk_vector v where {condition}",
    False: "prepare filtered as select count(*) from document d where {condition}",
}


async def plan(connection: asyncpg.Connection, text: str) -> str:
    """The plan of a prepared search, executed often enough for PostgreSQL to have gone generic."""
    values = {"list": ["n7", "x"]} if "@list" in text else {}
    condition = filter_sql.compile(parse(text, values), FIELDS, first_parameter=1)
    search = SEARCHES["v.fields" in condition.sql].replace("{condition}", condition.sql)
    await connection.execute(search)
    execute = f"execute filtered ({await literals(connection, condition.parameters)})"
    for _ in range(6):
        await connection.execute(execute)
    explained = await connection.fetchval(f"explain (format json) {execute}")
    await connection.execute("deallocate filtered")
    return explained


async def literals(connection: asyncpg.Connection, parameters: list[object]) -> str:
    written = [
        "{" + ",".join(map(as_element, p)) + "}" if isinstance(p, list) else str(p)
        for p in parameters
    ]
    quoting = "select string_agg(quote_literal(p), ', ') from unnest($1::text[]) as p"
    return await connection.fetchval(quoting, written)


def as_element(member: str) -> str:
    return json.dumps(member)


async def not_using_their_index(
    connection: asyncpg.Connection, cases: list[tuple[str, str]]
) -> list[str]:
    return [text for index, text in cases if f'"{index}"' not in await plan(connection, text)]


INDEXED_FILTERS = [
    ("by_name", "metadata.name = n7"),
    ("by_name", 'metadata.name >= "n19998" AND metadata.name < "n19999"'),
    ("by_name", "metadata.name = @list"),
    ("by_name", "has_prefix(metadata.name, n1999)"),
    ("by_year", "metadata.year = 2020"),
    ("by_year", "metadata.year > 3 AND metadata.year < 5"),
    ("by_open", "metadata.open = true"),
    ("by_seen", 'metadata.seen < "1970-01-01T02:00:00Z"'),
    ("by_codes", "metadata.codes:c7"),
    ("by_codes", "metadata.codes:@list"),
    ("by_metadata", "metadata.patient = 5"),
    ("by_metadata", 'metadata.patient.name = "x" AND metadata.b < 5'),
    ("by_metadata", "metadata.patient = @list"),
    ("by_metadata", "metadata.patient:5"),
    ("by_title", 'title = "tn5"'),
    ("by_title", "title = @list"),
]


async def test_filters_use_the_index_of_their_field(indexed: asyncpg.Connection) -> None:
    await indexed.execute("set local plan_cache_mode = force_custom_plan")
    assert await not_using_their_index(indexed, INDEXED_FILTERS) == []


async def test_a_generic_plan_cannot_use_the_index_of_a_declared_field(
    indexed: asyncpg.Connection,
) -> None:
    await indexed.execute("set local plan_cache_mode = force_generic_plan")
    declared = [case for case in INDEXED_FILTERS if "by_year" in case]
    assert len(await not_using_their_index(indexed, declared)) == len(declared)


async def test_the_longest_declared_string_fits_into_its_index(
    indexed: asyncpg.Connection,
) -> None:
    longest = random.Random(1).randbytes(1_024).hex()
    assert stored_value(Kind.STRING, longest) == longest
    row = json.dumps({"name": longest})
    await indexed.execute("insert into chunk_vector values ($1::text::jsonb)", row)
    assert stored_value(Kind.STRING, longest + "x") is None


async def test_equality_of_a_declared_field_uses_the_index_of_all_metadata_where_no_vector_is(
    indexed: asyncpg.Connection,
) -> None:
    for text in ("metadata.name = n7", "metadata.year = 7", "metadata.open = @list"):
        values = {"list": [True]} if "@list" in text else {}
        condition = filter_sql.compile(parse(text, values), TYPED_FIELDS, first_parameter=1)
        assert " @> " in condition.sql
        sql = f"explain (format json) select from document d where {condition.sql}"
        await indexed.execute("set local enable_seqscan = off")
        assert '"by_metadata"' in await indexed.fetchval(sql, *condition.parameters)
