"""Purges deleted documents once their time is over, as their collections' retention says."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby

import structlog
from uuid_utils.compat import uuid7

from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.call import AuditClass
from knowledged.database import Connection, Database
from knowledged.errors import status_of
from knowledged.store import purges
from knowledged.store.purges import Doomed
from knowledged.store.requests import Mutation, RequestKey

ACTOR = "knowledged"
RPC = "purger"

_INTERVAL_SECONDS = 60.0
_PAGE = 200
_DONE = 1


class Purger:
    """Looks once a minute. Any replica may: each takes what the others have not."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Works for ever; a fault is logged, and the work done next time."""
        scheduled = False
        while True:
            try:
                scheduled = scheduled or await self._schedule()
                while purged := await self.purge_page():
                    structlog.get_logger().info("documents_purged", count=purged)
            except Exception as error:
                reason = status_of(error).reason
                structlog.get_logger().warning("purger_failed", reason=reason)
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def _schedule(self) -> bool:
        """Once for each start is enough: the last to start comes when no old version serves."""
        async with self._database.write() as conn:
            await purges.schedule(conn)
        return True

    async def purge_page(self) -> int:
        """Purges up to 200 documents whose time is over; how many."""
        async with self._database.transaction() as conn:
            due = await purges.due(conn, _PAGE)
            due.sort(key=lambda doomed: doomed.collection_uid)
            for _, group in groupby(due, key=lambda doomed: doomed.collection_uid):
                await _purge(conn, list(group))
        return len(due)


async def _purge(conn: Connection, doomed: Sequence[Doomed]) -> None:
    await purges.purge(conn, doomed, [_mutation(each) for each in doomed], more=False)


def _mutation(doomed: Doomed) -> Mutation:
    payload = Payload(
        actor=ACTOR,
        on_behalf_of="",
        purpose="retention",
        peer="",
        call_id="",
        resources=(doomed.name,),
        subject_ids=doomed.subject_ids,
    )
    event = Event(
        event_id=uuid7(),
        occurred_at=datetime.now(UTC),
        audit_class=AuditClass.WRITE,
        outcome=_DONE,
        grpc_code=0,
        collection_uid=doomed.collection_uid,
        result_count=1,
        rpc=RPC,
        action="documents.purge",
        payload=payload,
        salt=new_salt(),
    )
    return Mutation(event, RequestKey(ACTOR, RPC, None, b""))
