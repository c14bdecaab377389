"""Batches of documents: the statements of single ones, one after the other, in one transaction.

`fetch_each` sends them together, so that a batch costs few round trips. Whoever writes one
locks first, in the order of uids: batches over the same documents wait for each other then, and do
not deadlock.
"""

from collections.abc import Sequence
from typing import LiteralString

import asyncpg

from knowledged.connection import Connection, fetch_each
from knowledged.store.document_changes import CREATE, UPDATE
from knowledged.store.document_removals import DELETE
from knowledged.store.document_steps import NotWritten

Parameters = tuple[object, ...]

# To the end of the transaction. CREATE's plan is the same whatever is bound to it, and making it
# takes longer than a document's rows.
_KEEP_PLANS: LiteralString = "select set_config('plan_cache_mode', $1::text, true)"


async def create(conn: Connection, creations: Sequence[Parameters]) -> None:
    """Stores new documents, by the parameters of `document_changes.creation`. Raises NotWritten."""
    if not creations:
        return
    try:
        await conn.execute(_KEEP_PLANS, "force_generic_plan")
        await _run(conn, CREATE, creations)
        await conn.execute(_KEEP_PLANS, "force_custom_plan")
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name == "document_id_once":
            raise NotWritten from error
        raise


async def update(conn: Connection, revisions: Sequence[Parameters]) -> None:
    """Stores next revisions, by the parameters of `document_changes.next_revision`. Raises
    NotWritten."""
    await _run(conn, UPDATE, revisions)


async def delete(conn: Connection, deletions: Sequence[Parameters]) -> None:
    """Deletes softly, by the parameters of `document_removals.deletion`. Raises NotWritten."""
    await _run(conn, DELETE, deletions)


async def _run(
    conn: Connection, statement: LiteralString, parameters: Sequence[Parameters]
) -> None:
    rows = await fetch_each(conn, statement, parameters)
    if not all(row["done"] for row in rows) or len(rows) != len(parameters):
        raise NotWritten
