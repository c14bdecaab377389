"""One line of the log as a verifier sees it, from the database or from an export."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from knowledged.audit_leaf import Leaf, Payload


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept under one index of the tree.

    `leaf` None: the event is gone, or, where `hidden`, only its hash is shown. `payload` and `salt`
    None: erased. `columns` and `payload_columns` are what the database keeps beside the bytes to
    query them; None in an export, which has `shown` instead: the same for people to read.
    """

    log_index: int
    event_id: UUID
    leaf_hash: bytes
    leaf: bytes | None = None
    salt: bytes | None = None
    payload: bytes | None = None
    columns: Leaf | None = None
    payload_columns: Payload | None = None
    shown: Mapping[str, object] | None = None
    hidden: bool = False


def readable(leaf: Leaf, payload: Payload | None) -> dict[str, object]:
    """An event as an export shows it to people; without the payload's parts once that is erased."""
    uid = leaf.collection_uid
    shown: dict[str, object] = {
        "occurred_at": leaf.occurred_at.isoformat(timespec="microseconds"),
        "rpc": leaf.rpc,
        "action": leaf.action,
        "audit_class": leaf.audit_class,
        "outcome": leaf.outcome,
        "grpc_code": leaf.grpc_code,
        "collection_uid": str(uid) if uid else None,
        "result_count": leaf.result_count,
    }
    return shown | (_readable_payload(payload) if payload else {})


def _readable_payload(payload: Payload) -> dict[str, object]:
    return {
        "actor": payload.actor,
        "on_behalf_of": payload.on_behalf_of,
        "purpose": payload.purpose,
        "peer": payload.peer,
        "call_id": payload.call_id,
        "resources": list(payload.resources),
        "subject_ids": list(payload.subject_ids),
        "returned_uids": [str(uid) for uid in payload.returned_uids],
    }
