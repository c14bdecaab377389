"""Watches what the services need, and tells health. Remote providers are not part of it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from knowledged.database import Database
from knowledged.store import versions

_INTERVAL_SECONDS = 1.0
_PING_SECONDS = 2.0


async def watch(
    database: Database, schema_version: int, set_ready: Callable[[bool], Awaitable[None]]
) -> None:
    """Sets readiness every second, for ever: the database answers, takes writes, has our schema."""
    log, before = structlog.get_logger(), None
    while True:
        problem = await _problem(database, schema_version)
        await set_ready(problem is None)
        if problem != before:
            log.info("readiness_changed", ready=problem is None, problem=problem or "")
        before = problem
        await asyncio.sleep(_INTERVAL_SECONDS)


async def _problem(database: Database, schema_version: int) -> str | None:
    try:
        async with asyncio.timeout(2 * _PING_SECONDS):
            await database.ping(_PING_SECONDS)
            async with database.read(_PING_SECONDS) as conn:
                found = (await versions.read(conn)).schema
    except Exception as error:
        return type(error).__name__
    return None if found >= schema_version else "schema_too_old"
