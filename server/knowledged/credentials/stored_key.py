"""The key in the database: looked at by every replica, opened when it changed."""

import time
from uuid import UUID

from knowledged.credentials.api_key import ApiKey
from knowledged.credentials.keys import Held, Keys, Source
from knowledged.credentials.vault import Unreadable, Vault
from knowledged.database import Connection
from knowledged.store import credentials
from knowledged.store.credentials import Credential

_RESEAL_SECONDS = 30.0
UNREADABLE = "PROVIDER_CREDENTIAL_INVALID"


class StoredKey:
    """Keeps a replica's keys up with the row of one provider."""

    def __init__(self, keys: Keys, vault: Vault) -> None:
        self.vault = vault
        self._keys = keys
        self._seen: UUID | None = None
        self._reseal_at = 0.0

    async def refresh(self, conn: Connection) -> Credential | None:
        """Takes over a changed row, and returns what is there."""
        row = await credentials.find(conn, self._keys.provider)
        if (row.event_id if row else None) != self._seen:
            self._take(row)
        if row and row.sealed.kek_id != self.vault.kek_id and self._may_reseal():
            await self._reseal(conn, row)
        return row

    def _take(self, row: Credential | None) -> None:
        self._seen = row.event_id if row else None
        if row is None:
            self._keys.withdraw(Source.STORED)
            return
        try:
            key = self.vault.open(self._keys.provider, row.sealed)
        except Unreadable:
            self._keys.unusable(Source.STORED, UNREADABLE)
        else:
            self.took(key, row)

    def took(self, key: ApiKey, row: Credential) -> None:
        """This replica stored it itself, or has opened it."""
        self._seen = row.event_id
        self._keys.offer(Held(key, Source.STORED, row.set_time, row.revision))

    def _may_reseal(self) -> bool:
        """Seldom: while replicas with the old and the new secret first run together, each seals
        under its own, and the last to be there wins."""
        due = time.monotonic() >= self._reseal_at
        if due:
            self._reseal_at = time.monotonic() + _RESEAL_SECONDS
        return due

    async def _reseal(self, conn: Connection, row: Credential) -> None:
        """After a new root secret: the key under the new KEK, unless it was set anew meanwhile."""
        try:
            key = self.vault.open(self._keys.provider, row.sealed)
        except Unreadable:
            return
        sealed = self.vault.seal(self._keys.provider, key)
        await credentials.reseal(conn, self._keys.provider, row.event_id, sealed)
