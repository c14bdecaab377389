"""The sealed keys of providers, and their changes, each one statement with its audit event."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from knowledged.credentials.vault import Sealed
from knowledged.database import Connection
from knowledged.store.requests import Mutation, recorded


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider by name, and the uid that stands for it among resources."""

    name: str
    uid: UUID


@dataclass(frozen=True, slots=True)
class Credential:
    """A provider's row. `event_id` is that of the SetProviderCredential that wrote it."""

    sealed: Sealed
    revision: int
    event_id: UUID
    set_time: datetime


FIND: LiteralString = """
    select kek_id, nonce, ciphertext, revision, event_id, set_time
      from knowledge.provider_credential
     where provider = $1::text
"""


async def find(conn: Connection, provider: str) -> Credential | None:
    row = await conn.fetchrow(FIND, provider)
    if row is None:
        return None
    sealed = Sealed(row["kek_id"], row["nonce"], row["ciphertext"])
    return Credential(sealed, row["revision"], row["event_id"], row["set_time"])


SET: LiteralString = recorded(
    """
    with old as (
        select revision, event_id
          from knowledge.provider_credential
         where provider = $3::text
           for no key update
    ),
    target as (
        select 'providers/' || $3::text as resource, $4::uuid as resource_uid,
               coalesce((select revision from old), 0) + 1 as revision
         where $5::uuid is null or $5::uuid = (select event_id from old)
    ),
""",
    """
    insert into knowledge.provider_credential as known
           (provider, kek_id, nonce, ciphertext, revision, event_id, set_time)
    select $3::text, $6::text, $7::bytea, $8::bytea, gate.revision,
           ($1::knowledge.audit_record).event_id, $9::timestamptz
      from gate
        on conflict (provider) do update
       set kek_id = excluded.kek_id, nonce = excluded.nonce, ciphertext = excluded.ciphertext,
           revision = known.revision + 1, event_id = excluded.event_id,
           set_time = excluded.set_time
    returning revision
""",
)


async def set_sealed(
    conn: Connection, mutation: Mutation, provider: Provider, sealed: Sealed, expected: UUID | None
) -> Credential | None:
    """Stores a key; None if `expected` is another's event_id, or the request is a repeat."""
    at = mutation.event.occurred_at
    parts = sealed.kek_id, sealed.nonce, sealed.ciphertext, at
    row = await conn.fetchrow(
        SET, *mutation.parameters(), provider.name, provider.uid, expected, *parts
    )
    return Credential(sealed, row["revision"], mutation.event.event_id, at) if row else None


DELETE: LiteralString = recorded(
    """
    with target as (
        select 'providers/' || provider as resource, $4::uuid as resource_uid,
               revision + 1 as revision
          from knowledge.provider_credential
         where provider = $3::text
           and ($5::uuid is null or event_id = $5::uuid)
           for update
    ),
""",
    """
    delete from knowledge.provider_credential c
     using gate
     where c.provider = $3::text
    returning c.provider
""",
)


async def delete(
    conn: Connection, mutation: Mutation, provider: Provider, expected: UUID | None
) -> bool:
    """Removes the key; False if there is none, it is not the expected one, or it is a repeat."""
    parameters = *mutation.parameters(), provider.name, provider.uid, expected
    return await conn.fetchrow(DELETE, *parameters) is not None


# Asking the provider changes nothing here, but it is an act with the key: only its event is kept.
NOTE_CHECK: LiteralString = recorded(
    """
    with target as (
        select 'providers/' || $3::text as resource, $4::uuid as resource_uid,
               0::bigint as revision
    ),
""",
    """
    select resource from gate
""",
)


async def note_check(conn: Connection, mutation: Mutation, provider: Provider) -> bool:
    """Records the check; False if the request is a repeat."""
    parameters = *mutation.parameters(), provider.name, provider.uid
    return await conn.fetchrow(NOTE_CHECK, *parameters) is not None


RESEAL: LiteralString = """
    update knowledge.provider_credential
       set kek_id = $3::text, nonce = $4::bytea, ciphertext = $5::bytea
     where provider = $1::text and event_id = $2::uuid
"""


async def reseal(conn: Connection, provider: str, event_id: UUID, sealed: Sealed) -> None:
    """The same key under another KEK; nothing if it was set anew meanwhile."""
    parts = sealed.kek_id, sealed.nonce, sealed.ciphertext
    await conn.execute(RESEAL, provider, event_id, *parts)
