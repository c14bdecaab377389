"""Small chores of the serving role: request ids and sessions that ran out, the audit log's next
partitions."""

import asyncio
from typing import LiteralString

import structlog

from knowledged.database import Database
from knowledged.errors import status_of
from knowledged.store import intake_sessions, requests

_INTERVAL_SECONDS = 600.0
_FORGET_AT_ONCE = 10_000
# Each with up to 400 outcomes.
_SESSIONS_AT_ONCE = 100
_MONTHS_AHEAD = 3

CREATE_PARTITIONS: LiteralString = "select knowledge.create_audit_partitions($1::int)"


class Housekeeping:
    """Does the chores every ten minutes. Any replica may: they bear being done twice."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Works for ever; a fault is logged, and the chore done next time."""
        while True:
            try:
                await self._chores()
            except Exception as error:
                reason = status_of(error).reason
                structlog.get_logger().warning("housekeeping_failed", reason=reason)
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def _chores(self) -> None:
        async with self._database.write() as conn:
            await conn.fetchval(CREATE_PARTITIONS, _MONTHS_AHEAD)
            while await requests.forget(conn, _FORGET_AT_ONCE) == _FORGET_AT_ONCE:
                structlog.get_logger().debug("requests_forgotten", rows=_FORGET_AT_ONCE)
            while await intake_sessions.forget(conn, _SESSIONS_AT_ONCE) == _SESSIONS_AT_ONCE:
                structlog.get_logger().debug("sessions_forgotten", rows=_SESSIONS_AT_ONCE)
