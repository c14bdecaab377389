"""Streams of the audit log: following it, verifying it, taking it elsewhere."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from asyncpg import Record

from knowledge.v1 import audit_service_pb2 as pb
from knowledged.call import Call, Shown
from knowledged.checks import Checks
from knowledged.connection import Connection
from knowledged.errors import Overloaded, WrongState
from knowledged.ledger import proofs
from knowledged.ledger.checkpoint import origin_of
from knowledged.ledger.database_verification import DatabaseVerification, Progress, entry_of
from knowledged.ledger.export import Header, Writer
from knowledged.ledger.note import LONGEST_NOTE_BYTES
from knowledged.services import pack
from knowledged.services.proofs import LARGEST_SIZE, checkpoint_of
from knowledged.services.supplies import Supplies, granted
from knowledged.store import ledger, ledger_entries
from knowledged.store.audit import event_of_entry

MOST_CHECKPOINTS = 100
LONGEST_ORIGIN = 200

_PAGE = 256
_POLL_SECONDS = 0.5
_TELL_SECONDS = 0.5
_TURN_SECONDS = 2.0


class LogStreams:
    """The streaming RPCs of knowledge.v1.AuditService."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._verifying = asyncio.Lock()

    async def TailAuditEvents(
        self, request: pb.TailAuditEventsRequest, call: Call
    ) -> AsyncGenerator[pb.TailAuditEventsResponse]:
        at = await self._start(request, call)
        while True:
            async with self._supplies.database.read(call.left) as conn:
                rows = await ledger_entries.entries(conn, granted(call), at, at + _PAGE)
                origin = await _origin(conn, request.origin)
            # Not what tails have read: two of them would tell each other of it for ever.
            if told := [_shown(row) for row in rows if row["found"] and row["rpc"] != TAIL]:
                call.reads(told)
            for row in rows:
                at = row["log_index"] + 1
                if row["found"]:
                    event = pack.audit_event(event_of_entry(row))
                    yield pb.TailAuditEventsResponse(event=event, next_log_index=at, origin=origin)
            if rows and not rows[-1]["found"]:
                yield pb.TailAuditEventsResponse(next_log_index=at, origin=origin)
            if len(rows) < _PAGE:
                await asyncio.sleep(_POLL_SECONDS)

    async def _start(self, request: pb.TailAuditEventsRequest, call: Call) -> int:
        checks = Checks()
        checks.text("origin", request.origin, LONGEST_ORIGIN)
        checks.number("start_log_index", request.start_log_index, 0, LARGEST_SIZE)
        checks.done()
        async with self._supplies.database.read(call.left) as conn:
            await _origin(conn, request.origin)
            size = await _size(conn)
        checks.number("start_log_index", request.start_log_index, 0, size)
        checks.done()
        return request.start_log_index if request.HasField("start_log_index") else size

    async def VerifyAuditLog(
        self, request: pb.VerifyAuditLogRequest, call: Call
    ) -> AsyncGenerator[pb.VerifyAuditLogResponse]:
        notes = list(request.checkpoints)
        _check_notes(notes)
        async with _turn(self._verifying):
            supplies = self._supplies
            verification = DatabaseVerification(
                supplies.database.read, supplies.keys.trusted, notes
            )
            told = 0.0
            async for progress in verification.run():
                if time.monotonic() >= told + _TELL_SECONDS:
                    told = time.monotonic()
                    yield _progress(progress)
            yield pack.verification(verification.report())

    async def ExportAuditEvents(
        self, request: pb.ExportAuditEventsRequest, call: Call
    ) -> AsyncGenerator[pb.ExportAuditEventsResponse]:
        header = await self._export_header(request, call)
        writer, grants = Writer(), granted(call)
        yield pb.ExportAuditEventsResponse(lines=writer.header(header))
        for begin in range(header.start_log_index, header.tree_size, _PAGE):
            end = min(begin + _PAGE, header.tree_size)
            async with self._supplies.database.read(call.left) as conn:
                rows = await ledger_entries.entries(conn, grants, begin, end)
            if told := [_shown(row) for row in rows if row["found"]]:
                call.reads(told)
            for lines in await asyncio.to_thread(_pieces, writer, rows):
                yield pb.ExportAuditEventsResponse(lines=lines)
        digest = writer.digest()
        yield pb.ExportAuditEventsResponse(lines=writer.manifest(), manifest_sha256=digest)

    async def _export_header(self, request: pb.ExportAuditEventsRequest, call: Call) -> Header:
        checks, start = Checks(), request.start_log_index
        checks.number("start_log_index", start, 0, LARGEST_SIZE)
        checks.number("tree_size", request.tree_size, 0, LARGEST_SIZE)
        checks.done()
        async with self._supplies.database.read(call.left) as conn:
            kept = await checkpoint_of(conn, request.tree_size)
            checks.number("start_log_index", start, 0, max(0, kept.tree_size - 1))
            checks.done()
            before = await proofs.compact_range(conn, start)
        origin, complete = origin_of(kept.note), granted(call) is None
        return Header(origin, start, kept.tree_size, complete, before.encode(), kept.note)


TAIL = "/knowledge.v1.AuditService/TailAuditEvents"

_PIECE_BYTES = 256 * 1024


def _shown(row: Record) -> Shown:
    """An event and whom it is about, for the event of its reading."""
    return row["event_id"], row["subject_ids"] or ()


def _pieces(writer: Writer, rows: list[Record]) -> list[bytes]:
    """The rows' lines, in pieces that pass the limit by one line at most."""
    pieces, piece = list[bytes](), b""
    for row in rows:
        piece += writer.lines([entry_of(row)])
        if len(piece) >= _PIECE_BYTES:
            pieces.append(piece)
            piece = b""
    return [*pieces, piece] if piece else pieces


@asynccontextmanager
async def _turn(lock: asyncio.Lock) -> AsyncGenerator[None]:
    """Alone; whoever was before and gave up has a moment to be gone."""
    try:
        async with asyncio.timeout(_TURN_SECONDS):
            await lock.acquire()
    except TimeoutError:
        raise Overloaded("this server verifies its audit log already; retry later") from None
    try:
        yield
    finally:
        lock.release()


def _check_notes(notes: Sequence[str]) -> None:
    checks = Checks()
    checks.count("checkpoints", len(notes), MOST_CHECKPOINTS)
    for place, note in enumerate(notes[:MOST_CHECKPOINTS]):
        checks.text(f"checkpoints[{place}]", note, LONGEST_NOTE_BYTES, required=True)
    checks.done()


def _progress(progress: Progress) -> pb.VerifyAuditLogResponse:
    return pb.VerifyAuditLogResponse(
        verified_leaves=progress.entries,
        tree_size=progress.tree_size,
        first_bad_index=progress.first_bad_index,
    )


async def _origin(conn: Connection, expected: str) -> str:
    """The log's name; raises WrongState when it is not the one that the caller knows."""
    state = await ledger.state(conn)
    origin = state.origin if state else ""
    if expected and expected != origin:
        why = "the audit log has another origin now; its indices mean other events"
        raise WrongState(why, reason="ORIGIN_CHANGED")
    return origin


async def _size(conn: Connection) -> int:
    state = await ledger.state(conn)
    return state.tree_size if state else 0
