"""Checkpoints leave the database: into the log, a folder, and an HTTP server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from prometheus_client import CollectorRegistry

from cluster import DatabaseUrls
from events import KEYS, ORIGIN, sequence_all, write_events
from knowledged.connection import connect
from knowledged.database import Database
from knowledged.ledger.backlog import Backlog
from knowledged.ledger.checkpoint import Checkpoint, open_checkpoint, read_unverified
from knowledged.ledger.folder import CheckpointFolder, read_notes
from knowledged.ledger.ledger_metrics import LedgerMetrics
from knowledged.ledger.signing import Refused
from knowledged.workers.publisher import Publisher
from knowledged.workers.sequencer import Sequencer


class Receiver:
    """A real HTTP server that keeps what is posted to it; `answer` is its status."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.answer = 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if receiver.answer < 300:
                    receiver.notes.append(body)
                self.send_response(receiver.answer)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/checkpoints"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def publisher(database: Database, registry: CollectorRegistry, **given: Any) -> Publisher:
    defaults: dict[str, Any] = {"origin": ORIGIN, "folder": None, "url": None}
    metrics = LedgerMetrics(registry)
    return Publisher(database, metrics, KEYS, interval_seconds=0.02, **(defaults | given))


async def grow(database: Database, count: int) -> None:
    async with database.read() as conn:
        await write_events(conn, count)
        await sequence_all(conn)


async def test_a_checkpoint_goes_to_log_folder_and_http(
    database: Database, registry: CollectorRegistry, receiver: Receiver, tmp_path: Path
) -> None:
    made = publisher(database, registry, folder=tmp_path, url=receiver.url)
    await grow(database, 3)
    with structlog.testing.capture_logs() as lines:
        await made.round()
        await made.round()
    (note,) = receiver.notes
    assert read_notes(tmp_path) == [note]
    assert [line["note"] for line in lines if line["event"] == "audit_checkpoint"] == [note]
    assert open_checkpoint(note, KEYS.trusted(ORIGIN), ORIGIN).tree_size == 3
    age = registry.get_sample_value("knowledged_audit_checkpoint_age_seconds")
    assert age is not None
    assert 0 <= age < 60


async def test_what_was_not_delivered_is_tried_again(
    database: Database, registry: CollectorRegistry, receiver: Receiver
) -> None:
    made = publisher(database, registry, url=receiver.url)
    await grow(database, 1)
    for answer in (500, 302):
        receiver.answer = answer
        await made.round()
    failures = {"where": "http"}
    name = "knowledged_audit_publish_failures_total"
    assert registry.get_sample_value(name, failures) == 2
    assert receiver.notes == []
    receiver.answer = 200
    await made.round()
    assert len(receiver.notes) == 1


async def test_every_replica_carries_out_what_another_signed(
    database: Database, registry: CollectorRegistry, tmp_path: Path
) -> None:
    await grow(database, 1)
    one = publisher(database, registry, folder=tmp_path / "one")
    other = publisher(database, CollectorRegistry(), folder=tmp_path / "other")
    await one.round()
    await other.round()
    assert (
        CheckpointFolder(tmp_path / "one").latest() == CheckpointFolder(tmp_path / "other").latest()
    )


async def set_back(urls: DatabaseUrls) -> None:
    """What a restore to an earlier point does to the log."""
    admin = await connect(urls.superuser_dsn)
    for table in ("audit_leaf", "audit_tile", "audit_checkpoint", "audit_pending", "audit_event"):
        await admin.execute(f"delete from knowledge.{table}")  # noqa: S608
    await admin.execute(
        "update knowledge.audit_state set tree_size = 0, compact_range = '', signed_size = 0"
    )
    await admin.close()


@asynccontextmanager
async def running(made: Publisher) -> AsyncIterator[None]:
    task = asyncio.create_task(made.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def wait_for(ask: Any) -> None:
    async with asyncio.timeout(10):
        while not ask():  # noqa: ASYNC110 - others' work is looked at from outside
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("known_by", ["folder", "memory"])
async def test_a_log_that_was_set_back_is_not_signed_and_that_is_loud(
    known_by: str,
    database: Database,
    database_urls: DatabaseUrls,
    registry: CollectorRegistry,
    tmp_path: Path,
) -> None:
    folder = tmp_path if known_by == "folder" else None
    made = publisher(database, registry, folder=folder)
    await grow(database, 5)
    await made.round()
    await set_back(database_urls)
    await grow(database, 2)
    if known_by == "folder":
        made = publisher(database, CollectorRegistry(), folder=folder)
    with pytest.raises(Refused, match="5 leaves is known, and the log has only 2"):
        await made.round()
    with structlog.testing.capture_logs() as lines:
        async with running(made):
            await asyncio.sleep(0.3)
    refused = [line for line in lines if line["event"] == "audit_checkpoint_refused"]
    assert [line["log_level"] for line in refused] == ["error"]
    async with database.read() as conn:
        assert await conn.fetchval("select count(*) from knowledge.audit_checkpoint") == 0


async def test_an_outside_checkpoint_that_cannot_be_read_stops_the_signing(
    database: Database, registry: CollectorRegistry, tmp_path: Path
) -> None:
    await grow(database, 1)
    made = publisher(database, registry, folder=tmp_path)
    (tmp_path / "checkpoint").write_bytes(b"\xff")
    with pytest.raises(Refused, match="cannot be read"):
        await made.round()
    (tmp_path / "checkpoint").write_text("nothing")
    with pytest.raises(Refused, match="no signed note"):
        await made.round()
    foreign = Checkpoint(ORIGIN, 1, bytes(32))
    (tmp_path / "checkpoint").write_text(foreign.signed(KEYS.signing(ORIGIN)))
    with pytest.raises(Refused, match="does not begin"):
        await made.round()


async def test_the_metrics_tell_of_refusals_and_recover(
    database: Database, registry: CollectorRegistry, tmp_path: Path
) -> None:
    await grow(database, 1)
    (tmp_path / "checkpoint").write_text("nothing")
    made = publisher(database, registry, folder=tmp_path)

    def refusals() -> float:
        return registry.get_sample_value("knowledged_audit_checkpoints_refused_total") or 0.0

    with structlog.testing.capture_logs() as lines:
        async with running(made):
            await wait_for(lambda: refusals() > 1)
            (tmp_path / "checkpoint").unlink()
            await wait_for((tmp_path / "checkpoint").exists)
            await wait_for(lambda: any(x["event"].endswith("signed_again") for x in lines))
    assert read_unverified(CheckpointFolder(tmp_path).latest() or "").tree_size == 1


async def test_the_sequencer_tells_what_waits_and_what_is_gone(
    database: Database, database_urls: DatabaseUrls, registry: CollectorRegistry
) -> None:
    backlog = Backlog(10)
    made = Sequencer(
        database, LedgerMetrics(registry), backlog, batch_events=5, interval_seconds=0.02
    )
    async with database.read() as conn:
        events = await write_events(conn, 12)
    admin = await connect(database_urls.superuser_dsn)
    await admin.execute("delete from knowledge.audit_event where event_id = $1", events[3].event_id)
    await admin.close()

    def sample(name: str) -> float:
        return registry.get_sample_value(f"knowledged_audit_{name}") or 0.0

    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(made.run())
        await wait_for(lambda: sample("tree_size") == 11)
        await wait_for(lambda: sample("unsequenced_events") == 1)
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert sample("missing_events") == 1
    assert sample("unsequenced_age_seconds") > 0
    assert sample("sequenced_events_total") == 11
    assert sample("unsigned_leaves") == 11
    assert backlog.waiting == 1
    told = [line for line in lines if line["event"] == "audit_event_missing"]
    assert [line["event_ids"] for line in told] == [[str(events[3].event_id)]]
