"""Keeps up with new keys from the file and the database, and tries each one when it comes."""

import asyncio
import time

import structlog

from knowledged.credentials.key_file import KeyFile
from knowledged.credentials.keys import Held, Keys
from knowledged.credentials.stored_key import StoredKey
from knowledged.database import Database
from knowledged.embedding.key_check import KeyCheck
from knowledged.errors import status_of

# With a second for the look and three for the check every replica uses a new key within five.
_INTERVAL_SECONDS = 1.0
_CHECK_SECONDS = 3.0
_AGAIN_SECONDS = 60.0


class KeyKeeper:
    """Looks every second. A new key is in use at once; if the provider refuses it, not for long."""

    def __init__(
        self,
        database: Database,
        keys: Keys,
        stored: StoredKey,
        check: KeyCheck,
        file: KeyFile | None = None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._stored = stored
        self._check = check
        self._file = file
        self._tried = ""
        self._again_at = 0.0
        self._problem = ""

    async def run(self) -> None:
        """Works for ever. While the database is away the keys stay as they are."""
        while True:
            problem = ""
            try:
                await self._look()
            except Exception as error:
                problem = status_of(error).reason
            if problem != self._problem:
                structlog.get_logger().warning("key_keeper", reason=problem)
            self._problem = problem
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def _look(self) -> None:
        if self._file:
            self._file.take(await asyncio.to_thread(self._file.look))
        try:
            async with self._database.read() as conn:
                await self._stored.refresh(conn)
        finally:
            await self._try_new_key()
            await self._try_refused_key()

    async def _try_new_key(self) -> None:
        """So that a bad key is told when it comes, and not when the first text needs it."""
        held = self._keys.current
        if held is None or held.key.fingerprint == self._tried or not self._check.remote:
            return
        self._tried = held.key.fingerprint
        self._again_at = time.monotonic() + _AGAIN_SECONDS
        if self._keys.outcome is None:
            await self._try(held)

    async def _try_refused_key(self) -> None:
        """A key made a moment ago may be known everywhere only after a while."""
        held = self._keys.refused_candidate
        if held is not None and self._check.remote and time.monotonic() >= self._again_at:
            self._again_at = time.monotonic() + _AGAIN_SECONDS
            await self._try(held)

    async def _try(self, held: Held) -> None:
        checked = await self._check.check(held, _CHECK_SECONDS)
        if checked.of_the_key:
            self._keys.refused(held, checked.of_the_key)
        elif checked.error is None:
            self._keys.accepted(held)
