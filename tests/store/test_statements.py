"""Every SQL constant of the server prepares on our schema and is allowed to the role that runs it.

They are found by looking through the modules, so none can be forgotten.
"""

import ast
import importlib
import pkgutil
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg
import pytest

import knowledged
from cluster import Cluster
from knowledged.codecs import set_codecs
from knowledged.filters.language import parse
from knowledged.store import (
    audit,
    audit_retention,
    chunks,
    collections,
    disclosures,
    documents,
    filtered,
    hybrid,
    legal_holds,
    lexemes,
    revisions,
    search,
    spaces,
)
from knowledged.store.filter_sql import Fields, Kind
from knowledged.store.filter_sql import compile as compile_filter
from knowledged.store.paging import Order, Page
from knowledged.store.search import FIRST_FILTER_PARAMETER, SEARCH_COLUMNS

SQL = re.compile(r"(?:\s|--[^\n]*\n)*(?:select|with|insert|update|delete)\s")
# Whole statements, and pieces of them.
TABLE_SQL = re.compile(
    SQL.pattern + r"[\s\S]*\b(?:from|set|knowledge\.)|[\s\S]*\n +select\s[\s\S]*\n +from\s"
)
# What migrates, starts and probes a database runs before there is a schema to prepare on.
OWN_SQL = {"codecs", "database", "migrate"}
SOURCE = Path(knowledged.__path__[0])


class Statement(NamedTuple):
    module: ModuleType
    name: str

    @property
    def sql(self) -> str:
        return getattr(self.module, self.name)

    def __str__(self) -> str:
        return f"{self.module.__name__.removeprefix('knowledged.')}.{self.name}"


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(knowledged.__path__, "knowledged."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def is_sql(name: str, value: object) -> bool:
    # Fragments of statements begin with an underscore.
    return (
        name.isupper()
        and not name.startswith("_")
        and isinstance(value, str)
        and bool(SQL.match(value))
    )


STATEMENTS = [
    Statement(module, name)
    for module in modules()
    for name, value in vars(module).items()
    if is_sql(name, value)
]


@pytest.fixture(scope="module")
def shared_name(postgres: Cluster, migrated_template: str) -> Iterator[str]:
    """The name of a database that is only prepared on."""
    name = postgres.create(migrated_template)
    yield name
    postgres.drop(name)


@pytest.fixture
async def server(postgres: Cluster, shared_name: str) -> AsyncIterator[Any]:
    """A connection as knowledge_server."""
    conn = await asyncpg.connect(postgres.urls(shared_name).server_dsn)
    await set_codecs(conn)
    yield conn
    await conn.close()


@pytest.fixture
async def owner(postgres: Cluster, shared_name: str) -> AsyncIterator[Any]:
    """A connection as the owner, who maintains spaces."""
    conn = await asyncpg.connect(postgres.urls(shared_name).owner_dsn)
    await set_codecs(conn)
    yield conn
    await conn.close()


async def check(conn: Any, sql: str) -> None:
    """Parses it, then plans and opens it, which checks the role's rights on all it touches."""
    prepared = await conn.prepare(sql)
    numbers = {int(number) for number in re.findall(r"\$(\d+)", sql)}
    assert len(prepared.get_parameters()) == len(numbers) == max(numbers, default=0)
    await conn.execute("explain (generic_plan) " + sql)


def test_the_search_for_statements_finds_them() -> None:
    found = {str(statement) for statement in STATEMENTS}
    assert len(found) >= 45
    assert found >= {
        "workers.housekeeping.CREATE_PARTITIONS",
        "store.document_changes.CREATE",
        "store.spaces.HNSW",
        "store.text_queue.DELIVER",
    }


@pytest.mark.parametrize("statement", STATEMENTS, ids=str)
async def test_the_statement_prepares_and_its_role_may_run_it(
    statement: Statement, server: Any, owner: Any
) -> None:
    as_owner = statement.module in (spaces, lexemes, audit_retention)
    await check(owner if as_owner else server, statement.sql)


def sql_inside_functions(file: Path) -> Iterator[str]:
    for function in ast.walk(ast.parse(file.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            texts = [node.value for node in ast.walk(function) if isinstance(node, ast.Constant)]
            if any(isinstance(text, str) and TABLE_SQL.match(text) for text in texts):
                yield f"{file.relative_to(SOURCE)}:{function.name}"


def test_no_sql_hides_in_a_function_but_that_which_renders_searches() -> None:
    files = [file for file in SOURCE.rglob("*.py") if file.stem not in OWN_SQL]
    found = {place for file in files for place in sql_inside_functions(file)}
    assert found == {
        "store/filtered.py:render",
        "store/hybrid.py:render",
        "store/search.py:render",
        "store/search.py:render_many",
    }


LISTS: list[tuple[ModuleType, Fields]] = [
    (audit, audit.FIELDS),
    (disclosures, audit.FIELDS),
    (chunks, chunks.FIELDS),
    (collections, collections.FIELDS),
    (documents, Fields(documents.DOCUMENT_FIELDS)),
    (revisions, Fields(documents.DOCUMENT_FIELDS)),
    (legal_holds, legal_holds.FIELDS),
]
VALUES = {
    Kind.STRING: "'x'",
    Kind.NUMBER: "1",
    Kind.BOOL: "true",
    Kind.TIMESTAMP: "'2026-01-01T00:00:00Z'",
    Kind.UUID: "'01934f5e-7a6b-7c8d-9e0f-123456789abc'",
}


def orders(module: ModuleType) -> list[Order]:
    values = list(vars(module).values())
    listed = [v for value in values if isinstance(value, dict) for v in value.values()]
    return [value for value in [*values, *listed] if isinstance(value, Order)]


def everything(fields: Fields) -> str:
    """A filter that names each of the fields."""
    terms: list[str] = []
    for name, column in fields.columns.items():
        match column.kind:
            case Kind.ENUM:
                terms.append(f"{name} = {next(iter(column.names))}")
            case Kind.STRING_LIST:
                terms.append(f"{name}:'x'")
            case Kind.MAP:
                terms.append(f"{name}.k = 'x'")
            case Kind.DYNAMIC:
                terms.append(f"{name}.a.b > 1 {name}.c = 'x' {name}.d:'x'")
            case kind:
                terms.append(f"{name} != {VALUES[kind]}")
    return " ".join(terms)


def test_every_list_is_known_here() -> None:
    listing = {
        module for module in modules() if "store" in module.__name__ and hasattr(module, "LIST")
    }
    assert listing == {module for module, _ in LISTS}


@pytest.mark.parametrize(("module", "fields"), LISTS, ids=lambda x: getattr(x, "__name__", ""))
async def test_every_page_of_a_list_prepares(
    module: ModuleType, fields: Fields, server: Any
) -> None:
    bound = max(int(number) for number in re.findall(r"\$(\d+)", module.LIST))
    condition = compile_filter(parse(everything(fields), {}), fields, bound + 1)
    assert orders(module)
    for order in orders(module):
        for descending in (False, True):
            for after in (None, ("column", "tie")):
                page = Page(10, order, descending, after)
                sql, parameters = page.statement(module.LIST, condition, bound)
                prepared = await server.prepare(sql)
                assert len(prepared.get_parameters()) == bound + len(parameters)
                await server.execute("explain (generic_plan) " + sql)


async def new_space(server: Any, dimension: int) -> UUID:
    space_uid = uuid4()
    await server.execute("select knowledge.create_space_partition($1, $2)", space_uid, dimension)
    return space_uid


@pytest.mark.parametrize("dimension", [1, 384, 768, 1024, 1536, 1900])
@pytest.mark.parametrize("distance", [1, 2, 3])
async def test_every_rendering_of_a_search_prepares(
    dimension: int, distance: int, server: Any
) -> None:
    fields = Fields(SEARCH_COLUMNS)
    every = compile_filter(parse(everything(fields), {}), fields, FIRST_FILTER_PARAMETER)
    await check(server, search.render_many(dimension, distance, await new_space(server, dimension)))
    for exact in (False, True):
        for joined in (False, True):
            head, tail = search.render(dimension, distance, exact, joined)
            await check(server, head + ("true" if not joined else every.sql) + tail)
            await check(server, "true".join(hybrid.render(dimension, distance, exact, joined)))
            await check(server, "true".join(filtered.render(dimension, distance, joined)))
