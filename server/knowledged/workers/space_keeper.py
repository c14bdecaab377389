"""Keeps vector spaces in shape, in the background: builds their indexes when they outgrow exact
search, makes new filter fields ready, counts words, and removes what deleted collections leave."""

import asyncio
import time
from datetime import timedelta
from uuid import UUID

import structlog

from knowledged.codecs import set_codecs
from knowledged.connection import Connection, connect
from knowledged.database import Database
from knowledged.declared_fields import CHUNK, DOCUMENT, KINDS, stored_fields
from knowledged.directory import Directory
from knowledged.errors import status_of
from knowledged.store import lexemes, spaces
from knowledged.store.collections import FilterField
from knowledged.store.spaces import BUILDING, DROPPED, INDEXED, SpaceState

INDEX_FROM_ROWS = 3_000

_INTERVAL_SECONDS = 2.0
_AFTER_FAULT_SECONDS = 10.0
_PAGE = 1_000
# A stream has ended, or pauses, when nothing came for so long; then what it brought is indexed.
_QUIET_SECONDS = 2.0
# Whoever streams for longer gets an index meanwhile: comparing every vector takes too long by then.
_LONGEST_HOLD_SECONDS = 900.0
# Replicas know a collection for a second; writers by old knowledge are done by then.
_SETTLE_SECONDS = 2.0


class SpaceKeeper:
    """One of all replicas does the work: whoever holds the lock."""

    def __init__(self, database: Database, maintenance_dsn: str, directory: Directory) -> None:
        self._database = database
        self._dsn = maintenance_dsn
        self._directory = directory
        # Since when builds are held back, by their spaces.
        self._held: dict[UUID, float] = {}

    async def run(self) -> None:
        """Works for ever; a fault is logged, and the work begun again."""
        while True:
            try:
                await self._session()
            except Exception as error:
                _log_fault(error)
            await asyncio.sleep(_AFTER_FAULT_SECONDS)

    async def _session(self) -> None:
        conn = await connect(self._dsn)
        try:
            await set_codecs(conn)
            while True:
                if await spaces.hold_lock(conn):
                    for space in await spaces.states(conn, timedelta(seconds=_QUIET_SECONDS)):
                        await self._try(conn, space)
                await asyncio.sleep(_INTERVAL_SECONDS)
        finally:
            conn.terminate()

    async def _try(self, conn: Connection, space: SpaceState) -> None:
        """Care whose fault must not keep the other spaces from theirs."""
        try:
            await self._care(conn, space)
        except Exception as error:
            if conn.is_closed():
                raise
            _log_fault(error, space_uid=str(space.space_uid))

    async def _care(self, conn: Connection, space: SpaceState) -> None:
        if space.state == DROPPED:
            await self._remove(conn, space)
            return
        if set(space.filter_fields) != set(space.ready_fields):
            await self._make_ready(conn, space)
        kinds = {field.key: KINDS[field.kind] for field in space.filter_fields}
        await spaces.index_fields(conn, space.space_uid, kinds)
        held = self._holds(space)
        if not held:
            await lexemes.count_if_due(conn, space.collection_uid, space.rows)
        large = space.rows >= INDEX_FROM_ROWS and self._directory.uses_indexes
        if large and not (space.state == INDEXED and space.hnsw_valid):
            await (self._hold if held else self._build)(conn, space)

    def _holds(self, space: SpaceState) -> bool:
        """Whether a stream fills a space without index: the build is for when it has ended, since
        a row costs several times as much by insertion as by the build."""
        if not space.loading or space.hnsw_valid is not None:
            self._held.pop(space.space_uid, None)
            return False
        since = self._held.setdefault(space.space_uid, time.monotonic())
        return time.monotonic() - since < _LONGEST_HOLD_SECONDS

    async def _hold(self, conn: Connection, space: SpaceState) -> None:
        """Searches compare all; whoever asks is told that an index will be built."""
        if space.state != BUILDING:
            await spaces.set_state(conn, space.space_uid, BUILDING)
            about = {"space_uid": str(space.space_uid), "rows": space.rows}
            structlog.get_logger().info("index_build_held_back", **about)

    async def _build(self, conn: Connection, space: SpaceState) -> None:
        log = structlog.get_logger().bind(space_uid=str(space.space_uid), rows=space.rows)
        await spaces.set_state(conn, space.space_uid, BUILDING)
        log.info("index_build_started")
        await spaces.build_hnsw(conn, space)
        await spaces.set_state(conn, space.space_uid, INDEXED)
        self._directory.forget(space.collection_id)
        log.info("index_build_done")

    async def _make_ready(self, conn: Connection, space: SpaceState) -> None:
        """Until it is done searches filter on the fields that were ready before and still are."""
        still = tuple(f for f in space.ready_fields if f in space.filter_fields)
        await spaces.set_ready_fields(conn, space.space_uid, still)
        await asyncio.sleep(_SETTLE_SECONDS)
        after: UUID | None = None
        while page := await spaces.backfill_page(conn, space.space_uid, after, _PAGE):
            rows = {row.chunk_uid: _fields(space.filter_fields, row) for row in page}
            await spaces.backfill_write(conn, space.space_uid, rows)
            after = page[-1].chunk_uid
        await spaces.set_ready_fields(conn, space.space_uid, space.filter_fields)
        self._directory.forget(space.collection_id)

    async def _remove(self, conn: Connection, space: SpaceState) -> None:
        await spaces.drop_partition(conn, space.space_uid)
        while await spaces.purge_documents(conn, space.collection_uid, _PAGE):
            structlog.get_logger().debug("documents_purged", space_uid=str(space.space_uid))
        await lexemes.forget(conn, space.collection_uid)
        await spaces.purge_space(conn, space.space_uid)


def _log_fault(error: Exception, **about: str) -> None:
    reason, kind = status_of(error).reason, type(error).__name__
    structlog.get_logger().warning("space_keeper_failed", reason=reason, error=kind, **about)


def _fields(declared: tuple[FilterField, ...], row: spaces.Unfilled) -> dict[str, object]:
    of_document = stored_fields(declared, DOCUMENT, row.metadata)
    return of_document | stored_fields(declared, CHUNK, row.chunk_metadata)
