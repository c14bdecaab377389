"""What the embedded PostgreSQL needs before migrations can run: roles, database, extension."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from knowledged.connection import Connection, connect
from knowledged.embedded.postmaster import processor_too_old


@dataclass(frozen=True, slots=True)
class Passwords:
    """One for each login role, named as the role."""

    postgres: str
    knowledge_owner: str
    knowledge_server: str


async def prepare(superuser_dsn: str, passwords: Passwords, database: str) -> None:
    """Makes what is missing of it."""
    async with _connection(superuser_dsn, "postgres") as conn:
        await _create_role(conn, "knowledge_owner", passwords.knowledge_owner)
        await _create_role(conn, "knowledge_server", passwords.knowledge_server)
        await conn.execute("alter role knowledge_owner createrole")
        # Since PostgreSQL 16 CREATEROLE alone lets nobody alter a role that another one made.
        await conn.execute(
            "grant knowledge_server to knowledge_owner with admin true, inherit false, set false"
        )
        await _create_database(conn, database)
    async with _connection(superuser_dsn, database) as conn:
        await _create_extension(conn)


@asynccontextmanager
async def _connection(dsn: str, database: str) -> AsyncGenerator[Connection]:
    conn = await connect(dsn, database=database)
    try:
        yield conn
    finally:
        await conn.close()


async def _create_role(conn: Connection, role: str, password: str) -> None:
    statement = await conn.fetchval(
        """
        select format('create role %I login password %L', $1::text, $2::text)
        where not exists (select from pg_roles where rolname = $1)
        """,
        role,
        password,
    )
    if statement:
        await conn.execute(statement)


async def _create_database(conn: Connection, database: str) -> None:
    statement = await conn.fetchval(
        """
        select format('create database %I owner knowledge_owner', $1::text)
        where not exists (select from pg_database where datname = $1)
        """,
        database,
    )
    if statement:
        await conn.execute(statement)


async def _create_extension(conn: Connection) -> None:
    """Also takes a first distance: on a processor too old for the wheel the server dies of it."""
    try:
        await conn.execute("create extension if not exists vector")
        await conn.execute("alter extension vector update")
        await conn.fetchval("select '[1,2]'::vector <-> '[3,4]'::vector")
    except (asyncpg.PostgresConnectionError, ConnectionError) as error:
        raise processor_too_old() from error
