"""What is recorded of a call, and the audit events it becomes."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import TypeVar
from uuid import UUID

from uuid_utils.compat import uuid7

from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.call import Call, Method, Reading, Shown
from knowledged.errors import Code

T = TypeVar("T")

DONE, REFUSED, FAILED = 1, 2, 3

_FAILURES = frozenset(
    {Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE, Code.OK}
)
_WORDS = re.compile("[A-Z][a-z0-9]*")

# Of one event: how many names, uids and subject ids, about, and their bytes. A document has at most
# 100 subject ids of 128 characters, which go together.
_MOST_TEXTS = 250
_MOST_BYTES = 32 * 1024
_UID_CHARACTERS = 36


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A call as it is to be recorded: no request, no answer, no content."""

    rpc: str
    action: str
    audit_class: int
    outcome: int
    code: int
    occurred_at: datetime
    actor: str
    on_behalf_of: str
    purpose: str
    peer: str
    call_id: str
    asked: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    resolved: dict[UUID, str] | None = None
    collection_uid: UUID | None = None
    count: int = 0

    @property
    def weight(self) -> int:
        """About how much room it takes while it waits."""
        return 1 + len(self.asked) + sum(len(reading.shown) for reading in self.readings)


def occurrence(
    call: Call, action: str, code: Code, at: datetime, asked: tuple[str, ...], audit_class: int
) -> Occurrence:
    """Of this call, with what has been read and not recorded yet, which counts as recorded then."""
    readings, call.readings = call.readings, []
    return Occurrence(
        call.method.path,
        action,
        audit_class,
        outcome_number(code),
        code,
        at,
        call.principal.subject,
        _printable(call.on_behalf_of),
        _printable(call.purpose),
        call.peer,
        call.call_id,
        asked,
        _by_collection(readings),
        call.resolved if len(call.resolved) > 1 else None,
        call.collection_uid,
    )


def _by_collection(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """One of each collection: every event names all that was asked, so one for each search of a
    batch would say it over and over."""
    if len(readings) < 2:
        return tuple(readings)
    shown: dict[UUID | None, list[Shown]] = {}
    for reading in readings:
        shown.setdefault(reading.collection_uid, []).extend(reading.shown)
    return tuple(Reading(collection_uid, tuple(each)) for collection_uid, each in shown.items())


def outcome_number(code: Code) -> int:
    """Refused is what another request, caller or moment could have had; failed is our part."""
    if code is Code.OK:
        return DONE
    return FAILED if code in _FAILURES else REFUSED


def action_of(method: Method) -> str:
    """As services name what they do: `documents.create` of CreateDocument, `search` of Search."""
    verb, *rest = _WORDS.findall(method.name)
    if verb == "Batch" and rest:
        verb, rest = f"batch_{rest[0]}", rest[1:]
    noun = "_".join(rest).lower()
    if not noun:
        return verb.lower()
    return f"{noun if noun.endswith('s') else noun + 's'}.{verb.lower()}"


@dataclass(frozen=True, slots=True)
class _Part:
    """What goes into one event of a reading: `count` things were shown of the documents `uids`."""

    names: Sequence[str]
    subject_ids: Sequence[str]
    uids: Sequence[UUID]
    count: int


def events_of(what: Occurrence) -> list[Event]:
    """One event for each collection; of a large reading as many as it takes.

    Their counts add up, and each fits the bounds of a payload.
    """
    readings = what.readings or (Reading(what.collection_uid, ()),)
    return [
        _event(what, reading.collection_uid, part)
        for reading in readings
        for part in _parts(_asked_of(what, reading.collection_uid), reading.shown)
    ]


def _parts(names: Sequence[str], shown: Sequence[Shown]) -> list[_Part]:
    """Nearly always one."""
    uids = tuple(dict.fromkeys([uid for uid, _ in shown]))
    subjects = tuple(dict.fromkeys([each for _, subject_ids in shown for each in subject_ids]))
    if _surely_fit(names) and _surely_fit(subjects, len(uids)):
        return [_Part(names, subjects, uids, len(shown))]
    split = zip_longest(
        _split(names, lambda name: (name,)),
        _split(_grouped(shown), lambda each: (str(each.uid), *each.subject_ids)),
        fillvalue=(),
    )
    return [_part_of(some, groups) for some, groups in split]


def _surely_fit(texts: Sequence[str], uids: int = 0) -> bool:
    """Whether they fit into one event however many bytes a character takes."""
    count, most = len(texts) + uids, 4 * sum(map(len, texts)) + _UID_CHARACTERS * uids
    return count <= _MOST_TEXTS and 4 * count + most <= _MOST_BYTES


@dataclass(slots=True)
class _Group:
    """A document that was shown so many times, once for each of its chunks."""

    uid: UUID
    subject_ids: Sequence[str]
    count: int = 0


def _grouped(shown: Sequence[Shown]) -> list[_Group]:
    groups: dict[UUID, _Group] = {}
    for uid, subject_ids in shown:
        group = groups.get(uid)
        if group is None:
            group = groups[uid] = _Group(uid, subject_ids)
        group.count += 1
    return list(groups.values())


def _part_of(names: Sequence[str], groups: Sequence[_Group]) -> _Part:
    return _Part(
        names,
        tuple(dict.fromkeys(subject for each in groups for subject in each.subject_ids)),
        tuple(each.uid for each in groups),
        sum(each.count for each in groups),
    )


def _event(what: Occurrence, collection_uid: UUID | None, part: _Part) -> Event:
    payload = Payload(
        what.actor,
        what.on_behalf_of,
        what.purpose,
        what.peer,
        what.call_id,
        tuple(part.names),
        tuple(part.subject_ids),
        tuple(part.uids),
    )
    return Event(
        uuid7(),
        what.occurred_at,
        what.audit_class,
        what.outcome,
        what.code,
        collection_uid,
        what.count or part.count,
        what.rpc,
        what.action,
        payload,
        new_salt(),
    )


def _asked_of(what: Occurrence, collection_uid: UUID | None) -> tuple[str, ...]:
    """Where several collections were read, each event names its own alone: who may see the events
    of one may not know of the others."""
    collection_id = (what.resolved or {}).get(collection_uid) if collection_uid else None
    if collection_id is None:
        return what.asked
    kept = f"collections/{collection_id}"
    return tuple(
        name
        for name in what.asked
        if not name.startswith("collections/") or name == kept or name.startswith(f"{kept}/")
    )


def _split(items: Sequence[T], texts: Callable[[T], Iterable[str]]) -> Iterator[Sequence[T]]:
    """Parts whose texts, each counted once, fit into one event; one part at least."""
    first, kept, room = 0, set[str](), _MOST_BYTES
    for place, item in enumerate(items):
        new = {text for text in texts(item) if text not in kept}
        room -= sum(4 + len(text.encode()) for text in new)
        if place > first and (room < 0 or len(kept) >= _MOST_TEXTS):
            yield items[first:place]
            first, kept, new = place, set[str](), set(texts(item))
            room = _MOST_BYTES - sum(4 + len(text.encode()) for text in new)
        kept |= new
    yield items[first:]


def _printable(text: str) -> str:
    """Of a call that was refused before its declarations were checked."""
    return "".join(character for character in text[:256] if character.isprintable())
