"""The audit log's own speed, on a PostgreSQL with durable settings and nothing beside it."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import LiteralString

from uuid_utils.compat import uuid7

from benchmarks.report import Row, row
from benchmarks.service import new_data_folder
from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.database import Connection, Database
from knowledged.embedded import embedded_postgres
from knowledged.ledger.database_verification import DatabaseVerification
from knowledged.ledger.keys import KeyRing
from knowledged.ledger.sequencing import sequence
from knowledged.ledger.signing import sign
from knowledged.migrate import migrate
from knowledged.store import audit_events

BATCH = 2_000
KEYS = KeyRing((bytes(32),))

SIZE: LiteralString = """
    select sum(pg_total_relation_size(c.oid))::bigint
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'knowledge'
       and c.relkind = 'r'
       and c.relname ~ '^audit_(event|payload|leaf|tile)'
"""


def ledger_rows(rounds: int, events: int) -> list[Row]:
    """`events` in each round are written, then sequenced; at the end the log is verified."""
    return asyncio.run(_measured(rounds, events))


async def _measured(rounds: int, events: int) -> list[Row]:
    with new_data_folder() as folder:
        async with embedded_postgres(folder) as postgres:
            await migrate(postgres.owner_dsn)
            database = await Database.connect(
                postgres.server_dsn,
                min_size=1,
                max_size=2,
                command_timeout_seconds=600.0,
                acquire_timeout_seconds=5.0,
            )
            try:
                return await _rows(database, rounds, events)
            finally:
                await database.close()


async def _rows(database: Database, rounds: int, events: int) -> list[Row]:
    async with database.read() as conn:
        sequenced = [await _sequenced(conn, events) for _ in range(rounds)]
        async with conn.transaction():
            assert await sign(conn, KEYS, "bench/log", [])
        size: int = await conn.fetchval(SIZE)
    verified = [await _verified(database) for _ in range(rounds)]
    total = rounds * events
    return [
        row("audit sequencer, events a second", sequenced, "≥ 5000", f"batches of {BATCH}"),
        row("audit verifier, events a second", verified, "", f"{total} events, every check"),
        row("bytes an audit event, with its indexes", [size / total], "", "events, leaves, tiles"),
    ]


async def _sequenced(conn: Connection, events: int) -> float:
    made = [audit_events.entry(_event(number))[0] for number in range(events)]
    for at in range(0, events, BATCH):
        await audit_events.append(conn, made[at : at + BATCH])
    began, done = time.perf_counter(), 0
    while done < events:
        async with conn.transaction():
            batch = await sequence(conn, BATCH)
        assert batch is not None
        done += batch.added
    return events / (time.perf_counter() - began)


async def _verified(database: Database) -> float:
    verification = DatabaseVerification(database.read, KEYS.trusted)
    began = time.perf_counter()
    async for _ in verification.run():
        pass
    report = verification.report()
    assert not report.faults
    return report.entries / (time.perf_counter() - began)


_ACTORS: Sequence[str] = ("ann@clinic.example", "importer@clinic.example", "bob@clinic.example")


def _event(number: int) -> Event:
    return Event(
        event_id=uuid7(),
        occurred_at=datetime.now(UTC),
        audit_class=2 + number % 2,
        outcome=1,
        grpc_code=0,
        collection_uid=uuid7(),
        result_count=1,
        rpc="/knowledge.v1.KnowledgeService/CreateDocument",
        action="documents.create",
        payload=Payload(
            _ACTORS[number % 3],
            "",
            "treatment",
            "ipv4:127.0.0.1:40000",
            str(uuid7()),
            (f"collections/leaflets/documents/document-{number}",),
            (f"patient-{number % 1_000}",),
        ),
        salt=new_salt(),
    )
