"""What raw asyncpg does, in a process of its own: each connection one statement after another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import raw
from benchmarks.load import Load, Measured, run
from benchmarks.raw import Place, connections


@dataclass(frozen=True, slots=True)
class Target:
    """The database, how many connections ask it at once, and for how long."""

    dsn: str
    place: Place
    connections: int
    seconds: float


async def search(target: Target, vectors: Sequence[bytes], limit: int) -> Measured:
    """The vectors in turn, round and round; every column of every row is read."""

    def of(conn: Any):
        async def ask(turn: int) -> None:
            vector = vectors[turn % len(vectors)]
            rows = await conn.fetch(raw.SEARCH, vector, target.place.space_uid, limit)
            assert [tuple(row) for row in rows]

        return ask

    async with connections(target.dsn, target.place.ef, target.connections) as opened:
        return await run(Load([of(conn) for conn in opened], target.seconds))


async def found(target: Target, vectors: Sequence[bytes], limit: int) -> list[list[str]]:
    """The chunk ids that each vector finds, best first."""
    async with connections(target.dsn, target.place.ef, 1) as (conn,):
        answers = [
            await conn.fetch(raw.SEARCH, vector, target.place.space_uid, limit)
            for vector in vectors
        ]
    return [[row["chunk_id"] for row in rows] for rows in answers]


async def get_document(target: Target, document_ids: Sequence[str]) -> Measured:
    """The documents in turn, round and round."""

    def of(conn: Any):
        async def ask(turn: int) -> None:
            document_id = document_ids[turn % len(document_ids)]
            row = await conn.fetchrow(raw.DOCUMENT, target.place.collection_uid, document_id)
            assert tuple(row)

        return ask

    async with connections(target.dsn, target.place.ef, target.connections) as opened:
        return await run(Load([of(conn) for conn in opened], target.seconds))
