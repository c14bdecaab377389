"""The names of collections: that no two have the same, and that nobody takes what is not his."""

from knowledged.call import Call
from knowledged.database import Connection
from knowledged.errors import AlreadyExists, Violation
from knowledged.store import aliases
from knowledged.store.aliases import Holder
from knowledged.store.collections import Collection


async def names_kept(conn: Connection, call: Call, row: Collection, *, take: bool) -> list[str]:
    """Keeps the row's names from others until the transaction ends.

    The ids of the collections it takes aliases from. AlreadyExists, naming each, for names that
    others have: unless to take them is asked for, and the caller is granted whom they are taken
    from.
    """
    names = [row.collection_id, *row.aliases]
    await aliases.lock(conn, names)
    holders = await aliases.holders(conn, names, row.collection_uid)
    faults = [
        Violation(f"collection.aliases[{place}]", "is taken")
        for place, alias in enumerate(row.aliases)
        if (holder := holders.get(alias)) and not _may_take(call, holder, take=take)
    ]
    if (own := holders.get(row.collection_id)) and not own.own:
        faults.append(Violation("collection_id", "is an alias of another collection"))
    if faults:
        error = AlreadyExists("; ".join(f"{fault.field}: {fault.description}" for fault in faults))
        error.violations = tuple(faults)
        raise error
    return sorted({holder.collection_id for holder in holders.values()} - {row.collection_id})


def _may_take(call: Call, holder: Holder, *, take: bool) -> bool:
    return take and not holder.own and call.principal.may_see(holder.collection_id)
