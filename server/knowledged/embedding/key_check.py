"""Whether a key is good: whose it is, and whether each remote model embeds with it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from knowledged.credentials.keys import Held
from knowledged.embedding.hugging_face import HubAccount
from knowledged.embedding.provider_faults import OF_THE_KEY
from knowledged.embedding.remote import RemoteEmbedder
from knowledged.errors import DomainError

SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found: nothing against the key, or the error that a text would meet now."""

    error: DomainError | None = None
    expire_time: datetime | None = None

    @property
    def of_the_key(self) -> str:
        """The reason if it is the key's, else empty: then another key would do no better."""
        return self.error.reason if self.error and self.error.reason in OF_THE_KEY else ""


class KeyCheck:
    """Asks the provider. The Hub is left out where every model has a server of its own."""

    def __init__(self, account: HubAccount, remote: Sequence[RemoteEmbedder]) -> None:
        self.remote = remote
        self._account = account
        self._asks_hub = not remote or any(each.needs_key for each in remote)

    async def check(self, held: Held, seconds: float = SECONDS) -> Checked:
        """Takes at most about so many seconds."""
        try:
            expires = await self._account.expiry(held.key, seconds) if self._asks_hub else None
            await asyncio.gather(*(each.probe(held, seconds) for each in self.remote))
        except DomainError as error:
            return Checked(error)
        return Checked(None, expires)
