"""What a superuser can do to the audit log, act by act."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from events import KEYS, ORIGIN, event, write
from knowledged.audit_leaf import Event, Leaf, Payload, leaf_hash, new_salt
from knowledged.connection import Connection
from knowledged.ledger import tiles
from knowledged.ledger.checkpoint import Checkpoint
from knowledged.ledger.keys import KeyRing
from knowledged.ledger.merkle import CompactRange
from knowledged.store import ledger

SIZE = 900
THIRD = SIZE // 3
OTHER_KEYS = KeyRing((b"the key of somebody else, tests!",))


async def event_at(conn: Connection, index: int) -> UUID:
    found: UUID = await conn.fetchval(
        "select event_id from knowledge.audit_leaf where log_index = $1::bigint", index
    )
    return found


async def rewritten(conn: Connection, index: int) -> Event:
    """The event at an index, by somebody else: every byte and column of it fits."""
    event_id = await event_at(conn, index)
    row: Any = await conn.fetchrow(
        "select leaf from knowledge.audit_event where event_id = $1::uuid", event_id
    )
    leaf = Leaf.decode(row["leaf"])
    forged = replace(
        event(index),
        event_id=event_id,
        occurred_at=leaf.occurred_at,
        audit_class=leaf.audit_class,
        payload=Payload("somebody-else", "", "", "", ""),
        salt=new_salt(),
    )
    for table in ("audit_event", "audit_payload", "audit_pending"):
        await conn.execute(f"delete from knowledge.{table} where event_id = $1::uuid", event_id)  # noqa: S608
    await write(conn, [forged])
    await conn.execute("delete from knowledge.audit_pending where event_id = $1::uuid", event_id)
    return forged


async def with_its_hash(conn: Connection, index: int) -> None:
    forged = await rewritten(conn, index)
    await conn.execute(
        "update knowledge.audit_leaf set leaf_hash = $2::bytea where log_index = $1::bigint",
        index,
        leaf_hash(forged.leaf()),
    )


async def grow_again(conn: Connection) -> None:
    """Tiles and state as they follow from the leaves that are there."""
    rows = await conn.fetch("select leaf_hash from knowledge.audit_leaf order by log_index")
    leaves, compact = [row["leaf_hash"] for row in rows], CompactRange()
    for leaf in leaves:
        compact.append(leaf)
    await conn.execute("delete from knowledge.audit_tile")
    await ledger.put_tiles(conn, tiles.grow(0, {}, leaves))
    await ledger.grow(conn, compact.size, compact.encode())


async def sign_again(conn: Connection, keys: KeyRing, origin: str = ORIGIN) -> None:
    """Every checkpoint that still can be, over the leaves that are there."""
    rows = await conn.fetch("select leaf_hash from knowledge.audit_leaf order by log_index")
    sizes = await conn.fetch("select tree_size from knowledge.audit_checkpoint order by tree_size")
    await conn.execute("delete from knowledge.audit_checkpoint")
    compact, due = CompactRange(), {row["tree_size"] for row in sizes}
    for row in rows:
        compact.append(row["leaf_hash"])
        if compact.size in due:
            await keep(conn, Checkpoint(origin, compact.size, compact.root()), keys)


async def keep(conn: Connection, made: Checkpoint, keys: KeyRing) -> None:
    note = made.signed(keys.signing(made.origin))
    stored = ledger.KeptCheckpoint(made.tree_size, made.root, note, datetime.now(UTC))
    await ledger.keep(conn, stored)


async def leaf_bytes(conn: Connection) -> None:
    await conn.execute(
        """
        update knowledge.audit_event
           set leaf = set_byte(leaf, octet_length(leaf) - 1, 0)
         where event_id = $1::uuid
        """,
        await event_at(conn, 100),
    )


async def whole_event(conn: Connection) -> None:
    await rewritten(conn, 100)


async def event_and_hash(conn: Connection) -> None:
    await with_its_hash(conn, 100)


async def event_hash_and_tree(conn: Connection) -> None:
    await with_its_hash(conn, 350)
    await grow_again(conn)


async def everything_with_another_key(conn: Connection) -> None:
    await with_its_hash(conn, 350)
    await grow_again(conn)
    await sign_again(conn, OTHER_KEYS)


async def everything_with_the_stolen_key(conn: Connection) -> None:
    await with_its_hash(conn, 350)
    await grow_again(conn)
    await sign_again(conn, KEYS)


def of_event(index: int, statement: str) -> Callable[[Connection], Awaitable[None]]:
    """A statement about the event at an index."""

    async def tamper(conn: Connection) -> None:
        assert await conn.execute(statement, await event_at(conn, index)) != "UPDATE 0"

    return tamper


def by(statement: str) -> Callable[[Connection], Awaitable[None]]:
    async def tamper(conn: Connection) -> None:
        await conn.execute(statement)

    return tamper


async def payload_and_its_columns(conn: Connection) -> None:
    event_id = await event_at(conn, 7)
    row: Any = await conn.fetchrow(
        "select payload from knowledge.audit_payload where event_id = $1::uuid", event_id
    )
    forged = replace(Payload.decode(row["payload"]), actor="nobody")
    await conn.execute(
        """
        update knowledge.audit_payload
           set payload = $2::bytea, actor = 'nobody'
         where event_id = $1::uuid
        """,
        event_id,
        forged.encode(),
    )


async def delete_all_of(conn: Connection, index: int) -> None:
    """An event with its payload and its leaf."""
    event_id = await event_at(conn, index)
    for table in ("audit_event", "audit_payload", "audit_leaf"):
        await conn.execute(f"delete from knowledge.{table} where event_id = $1::uuid", event_id)  # noqa: S608


async def first_with_its_leaf(conn: Connection) -> None:
    await delete_all_of(conn, 0)


async def middle_with_its_leaf(conn: Connection) -> None:
    await delete_all_of(conn, 400)


async def last_with_its_leaf(conn: Connection) -> None:
    await delete_all_of(conn, SIZE - 1)


async def cut_off(conn: Connection) -> None:
    """The last events and every trace of them: what an older backup looks like."""
    for index in range(SIZE - 20, SIZE):
        await delete_all_of(conn, index)
    await conn.execute("delete from knowledge.audit_checkpoint where tree_size = $1", SIZE)
    await conn.execute("update knowledge.audit_state set signed_size = $1", 2 * THIRD)
    await grow_again(conn)


async def swap_two(conn: Connection) -> None:
    """Leaves 200 and 210 change places."""
    move = "update knowledge.audit_leaf set log_index = $2 where log_index = $1"
    for one, other in ((200, -1), (210, 200), (-1, 210)):
        await conn.execute(move, one, other)


async def insert_one(conn: Connection) -> None:
    """A made-up event at index 300; all that follow move up."""
    await conn.execute("update knowledge.audit_leaf set log_index = -log_index - 2")
    await conn.execute(
        "update knowledge.audit_leaf set log_index = -log_index - 2 where log_index > -302"
    )
    await conn.execute(
        "update knowledge.audit_leaf set log_index = -log_index - 1 where log_index < 0"
    )
    made = event(1)
    await write(conn, [made])
    await conn.execute("delete from knowledge.audit_pending where event_id = $1", made.event_id)
    await ledger.add_leaves(conn, 300, [(made.event_id, leaf_hash(made.leaf()))])


async def renumber(conn: Connection) -> None:
    """From 500 on every index is one higher; the last leaf falls off."""
    await conn.execute("delete from knowledge.audit_leaf where log_index = $1", SIZE - 1)
    await conn.execute(
        "update knowledge.audit_leaf set log_index = -log_index where log_index >= 500"
    )
    await conn.execute(
        "update knowledge.audit_leaf set log_index = 1 - log_index where log_index < 0"
    )


async def another_event_id(conn: Connection) -> None:
    """The event at 50 is found under another id, of the same month."""
    old, new = await event_at(conn, 50), uuid7()
    for table in ("audit_event", "audit_payload", "audit_leaf"):
        await conn.execute(
            f"update knowledge.{table} set event_id = $2::uuid where event_id = $1::uuid",  # noqa: S608
            old,
            new,
        )


async def one_more_leaf(conn: Connection) -> None:
    made = event(1)
    await write(conn, [made])
    await conn.execute("delete from knowledge.audit_pending where event_id = $1", made.event_id)
    await ledger.add_leaves(conn, SIZE, [(made.event_id, leaf_hash(made.leaf()))])


async def one_event_twice(conn: Connection) -> None:
    """The same id in another class: whoever reads by id may meet either."""
    await conn.execute(
        """
        insert into knowledge.audit_event
        select event_id, 5 - audit_class, leaf, occurred_at, recorded_at, rpc, 'x', outcome,
               grpc_code, collection_uid, result_count, payload_commit
          from knowledge.audit_event
         where event_id = $1 and audit_class in (2, 3)
        """,
        await event_at(conn, 1),
    )


async def event_without_place(conn: Connection) -> None:
    made = event(1)
    await write(conn, [made])
    await conn.execute("delete from knowledge.audit_pending where event_id = $1", made.event_id)


async def gone_before_its_leaf(conn: Connection) -> None:
    """An event that still waits is deleted, and left in the queue."""
    made = event(1)
    await write(conn, [made])
    for table in ("audit_event", "audit_payload"):
        await conn.execute(f"delete from knowledge.{table} where event_id = $1", made.event_id)  # noqa: S608


async def gone_with_its_place(conn: Connection) -> None:
    """The event of a document's making is deleted before it is sequenced, and from the queue."""
    made: UUID = await conn.fetchval(
        "select event_id from knowledge.document where document_id = 'unsequenced'"
    )
    for table in ("audit_event", "audit_payload", "audit_pending"):
        await conn.execute(f"delete from knowledge.{table} where event_id = $1", made)  # noqa: S608


async def gone_with_its_place_but_for_its_receipt(conn: Connection) -> None:
    await gone_with_its_place(conn)
    await conn.execute("delete from knowledge.document where document_id = 'unsequenced'")


async def named_anew(conn: Connection) -> None:
    """The last checkpoint is of another log, signed with the stolen key; no event says why."""
    row: Any = await conn.fetchrow(
        "select root from knowledge.audit_checkpoint where tree_size = $1", SIZE
    )
    await conn.execute("delete from knowledge.audit_checkpoint where tree_size = $1", SIZE)
    await conn.execute("update knowledge.audit_state set origin = 'another.example/log'")
    await keep(conn, Checkpoint("another.example/log", SIZE, row["root"]), KEYS)


def partition(table: str) -> str:
    return f"knowledge.{table}_read_{datetime.now(UTC):%Y%m}"
