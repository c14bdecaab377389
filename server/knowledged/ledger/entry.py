"""One line of the log as a verifier sees it, from the database or from an export."""

from dataclasses import dataclass
from uuid import UUID

from knowledged.audit_leaf import Leaf, Payload


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept under one index of the tree.

    `leaf` None: the event is gone, or, where `hidden`, only its hash is shown. `payload` and `salt`
    None: erased. `columns` and `payload_columns` are what the database keeps beside the bytes to
    query them; None in an export, which has only bytes.
    """

    log_index: int
    event_id: UUID
    leaf_hash: bytes
    leaf: bytes | None = None
    salt: bytes | None = None
    payload: bytes | None = None
    columns: Leaf | None = None
    payload_columns: Payload | None = None
    hidden: bool = False
