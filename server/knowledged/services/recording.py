"""What a mutation leaves behind: its audit event, and the key by which a repeat is known."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID, uuid5

from google.protobuf.message import Message
from uuid_utils.compat import uuid7

from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.call import Call
from knowledged.store.requests import Mutation, RequestKey

DONE = 1


@dataclass(frozen=True, slots=True)
class Change:
    """What a mutation is about: the action, the collection, the resources, and whose data it is."""

    action: str
    collection_uid: UUID | None
    resources: tuple[str, ...]
    subject_ids: tuple[str, ...] = ()


def request_key(call: Call, request: Message, request_id: UUID | None) -> RequestKey:
    """The body's hash is over its deterministic form, so that map order makes no difference."""
    body = request.SerializeToString(deterministic=True) if request_id else b""
    digest = hashlib.sha256(body).digest()
    return RequestKey(call.principal.subject, call.method.path, request_id, digest)


def item_keys(key: RequestKey, count: int) -> list[RequestKey]:
    """A key for each item of a batch: the first has the batch's own, the others derive from it."""
    if key.request_id is None:
        return [key] * count
    ids = [key.request_id, *(uuid5(key.request_id, str(place)) for place in range(1, count))]
    return [replace(key, request_id=request_id) for request_id in ids[:count]]


def mutation(call: Call, key: RequestKey, change: Change) -> Mutation:
    """A new event of this call, as of now."""
    payload = Payload(
        actor=call.principal.subject,
        on_behalf_of=call.on_behalf_of,
        purpose=call.purpose,
        peer=call.peer,
        call_id=call.call_id,
        resources=change.resources,
        subject_ids=change.subject_ids,
    )
    event = Event(
        event_id=uuid7(),
        occurred_at=datetime.now(UTC),
        audit_class=call.method.audit_class,
        outcome=DONE,
        grpc_code=0,
        collection_uid=change.collection_uid,
        result_count=len(change.resources),
        rpc=call.method.path,
        action=change.action,
        payload=payload,
        salt=new_salt(),
    )
    return Mutation(event, key)
