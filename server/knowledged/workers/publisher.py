"""Signs checkpoints every few seconds and carries them out of the database."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Protocol
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import structlog

from knowledged.database import Database
from knowledged.errors import status_of
from knowledged.ledger.checkpoint import read_unverified
from knowledged.ledger.folder import CheckpointFolder, FolderError
from knowledged.ledger.keys import KeyRing
from knowledged.ledger.ledger_metrics import LedgerMetrics
from knowledged.ledger.sequencing import LedgerError
from knowledged.ledger.signing import Refused, sign
from knowledged.store import ledger
from knowledged.store.ledger import KeptCheckpoint

_HTTP_SECONDS = 5.0


class NotDelivered(Exception):
    """A checkpoint did not get where it should; says why."""


class Destination(Protocol):
    """Where checkpoints go, outside the database."""

    @property
    def where(self) -> str: ...

    def deliver(self, note: str) -> None:
        """Blocks until it is there; raises NotDelivered."""
        ...


@dataclass(frozen=True, slots=True)
class LogStream:
    """The server's log: wherever that is collected, checkpoints are, too."""

    where: str = "log"

    def deliver(self, note: str) -> None:
        structlog.get_logger().info("audit_checkpoint", note=note)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, best on another machine's disk."""

    path: Path
    where: str = "folder"

    def deliver(self, note: str) -> None:
        try:
            CheckpointFolder(self.path).keep(note)
        except FolderError as error:
            raise NotDelivered(str(error)) from error


class _NoRedirect(HTTPRedirectHandler):
    """A POST that is sent elsewhere would arrive as a GET."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class HttpPost:
    """An HTTP server that takes the note as a POST's body and answers with 2xx."""

    url: str
    where: str = "http"

    def deliver(self, note: str) -> None:
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        request = Request(self.url, note.encode(), headers, method="POST")  # noqa: S310 - http or https by the settings
        try:
            with build_opener(_NoRedirect).open(request, timeout=_HTTP_SECONDS):
                return
        except (URLError, HTTPException, OSError) as error:
            code = getattr(error, "code", "")
            raise NotDelivered(f"{type(error).__name__} {code}".strip()) from error


class Publisher:
    """Every replica tries; one signs at a time, and each carries out what it has not yet."""

    def __init__(
        self,
        database: Database,
        metrics: LedgerMetrics,
        keys: KeyRing,
        *,
        origin: str | None,
        folder: Path | None,
        url: str | None,
        interval_seconds: float,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._keys = keys
        self._origin = origin
        self._folder = CheckpointFolder(folder) if folder else None
        self._destinations = _destinations(folder, url)
        self._delivered = dict.fromkeys(self._destinations, 0)
        self._interval_seconds = interval_seconds
        self._signed: str | None = None
        self._origin_seen, self._size_seen = "", 0
        self._problem = ""

    async def run(self) -> None:
        """Works for ever; whatever fails is logged and tried again."""
        while True:
            try:
                await self.round()
                self._tell("")
            except LedgerError as error:
                self._metrics.refused.inc()
                self._tell(str(error))
            except Exception as error:
                self._metrics.failures.labels("publisher").inc()
                reason, kind = status_of(error).reason, type(error).__name__
                log = structlog.get_logger()
                log.warning("audit_publisher_failed", reason=reason, error=kind)
            await asyncio.sleep(self._interval_seconds)

    async def round(self) -> None:
        """Signs if the log has grown, then delivers the latest checkpoint where it is missing."""
        outside = await self._outside()
        async with self._database.transaction() as conn:
            made = await sign(conn, self._keys, self._origin, outside)
        async with self._database.read() as conn:
            latest = made or await ledger.latest_checkpoint(conn)
        if latest is None:
            return
        self._remember(latest)
        self._metrics.signed_at(latest.create_time.timestamp())
        for destination in self._destinations:
            if self._delivered[destination] < latest.tree_size:
                await self._deliver(destination, latest)

    def _remember(self, latest: KeptCheckpoint) -> None:
        """Never a smaller one of the same log: what was signed stays signed."""
        origin = read_unverified(latest.note).origin
        if origin != self._origin_seen or latest.tree_size > self._size_seen:
            self._signed, self._origin_seen = latest.note, origin
            self._size_seen = latest.tree_size

    async def _outside(self) -> list[str]:
        """What others may hold: the folder's latest, and what this process saw signed."""
        try:
            kept = await asyncio.to_thread(self._folder.latest) if self._folder else None
        except FolderError as error:
            raise Refused(f"the folder of checkpoints: {error}") from error
        return [note for note in (kept, self._signed) if note]

    async def _deliver(self, destination: Destination, latest: KeptCheckpoint) -> None:
        log = structlog.get_logger()
        try:
            await asyncio.to_thread(destination.deliver, latest.note)
        except NotDelivered as error:
            self._metrics.unpublished.labels(destination.where).inc()
            log.warning(
                "audit_checkpoint_not_delivered", where=destination.where, problem=str(error)
            )
        else:
            self._delivered[destination] = latest.tree_size

    def _tell(self, problem: str) -> None:
        """Loud when signing stops and when it goes on, not every few seconds between."""
        if problem and problem != self._problem:
            structlog.get_logger().error("audit_checkpoint_refused", problem=problem)
        elif self._problem and not problem:
            structlog.get_logger().info("audit_checkpoint_signed_again")
        self._problem = problem


def _destinations(folder: Path | None, url: str | None) -> Sequence[Destination]:
    found: list[Destination] = [LogStream()]
    if folder:
        found.append(Folder(folder))
    if url:
        found.append(HttpPost(url))
    return found
