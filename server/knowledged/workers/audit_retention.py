"""Prunes audit events whose retention is over: whole months of a class, as the settings say.

A pruning is announced by an event first and done when a checkpoint covers that, so that whoever
verifies the log never meets a gap that it does not explain.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog
from uuid_utils.compat import uuid7

from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.call import AuditClass
from knowledged.codecs import set_codecs
from knowledged.connection import Connection, connect
from knowledged.errors import status_of
from knowledged.ledger import pruning
from knowledged.store import audit_events, audit_retention
from knowledged.store.audit_retention import Month

ACTOR = "knowledged"

_INTERVAL_SECONDS = 60.0
_DONE = 1


class AuditRetention:
    """Looks once a minute; one of all replicas does the work. `days` are by audit class, 0 keeps
    for ever."""

    def __init__(self, maintenance_dsn: str, days: Mapping[int, int]) -> None:
        self._dsn = maintenance_dsn
        self._days = {number: kept for number, kept in days.items() if kept}

    async def run(self) -> None:
        """Works for ever; a fault is logged, and the work done next time."""
        while self._days:
            try:
                await self.prune()
            except Exception as error:
                reason = status_of(error).reason
                structlog.get_logger().warning("audit_retention_failed", reason=reason)
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def prune(self) -> None:
        """Takes each month whose time is over a step further."""
        conn = await connect(self._dsn)
        try:
            await set_codecs(conn)
            for month in await audit_retention.months(conn, self._days):
                async with conn.transaction():
                    if not await audit_retention.lock(conn):
                        return
                    await _care(conn, month)
        finally:
            conn.terminate()


async def _care(conn: Connection, month: Month) -> None:
    state = await audit_retention.state(conn, month)
    if state.waits or state.held or state.founds:
        return
    log = structlog.get_logger().bind(audit_class=month.class_name, month=str(month))
    announced = await audit_retention.announced(conn, month)
    explained = {action.rpartition(":")[2] for action in announced} | {pruning.NOTHING}
    if state.before not in explained:
        log.error("audit_retention_refused", effect="events are gone that no pruning explains")
        return
    action = pruning.action_of(month.class_name, str(month), state.after)
    if action not in announced:
        await audit_events.append(conn, [audit_events.entry(_event(action, month))[0]])
    elif announced[action]:
        await audit_retention.drop(conn, month)
        log.info("audit_events_pruned")


def _event(action: str, month: Month) -> Event:
    resources = (f"auditEvents/{month.class_name}/{month}",)
    return Event(
        event_id=uuid7(),
        occurred_at=datetime.now(UTC),
        audit_class=AuditClass.ADMIN,
        outcome=_DONE,
        grpc_code=0,
        collection_uid=None,
        result_count=1,
        rpc=pruning.RPC,
        action=action,
        payload=Payload(ACTOR, "", "retention", "", "", resources),
        salt=new_salt(),
    )
