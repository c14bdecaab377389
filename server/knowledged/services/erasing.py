"""Erasing subjects: AuditService removes what there is of somebody, if the caller insists."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Self

from knowledge.v1 import erasure_pb2 as pb
from knowledged.call import AuditClass, Call
from knowledged.checks import Checks
from knowledged.database import Connection
from knowledged.errors import AlreadyExists, Denied, WrongState
from knowledged.services import pack
from knowledged.services.recording import Change, mutation, request_key
from knowledged.services.supplies import Supplies
from knowledged.store import erasures, purges, requests
from knowledged.store.erasures import Found
from knowledged.store.purges import Doomed
from knowledged.store.requests import Mutation, RequestKey

LONGEST_SUBJECT = 128


@dataclass(frozen=True, slots=True)
class _Subject:
    """Whom to erase, by id and by keyed name; by the name alone it is recorded."""

    subject_id: str
    name: str


@dataclass(frozen=True, slots=True)
class _Erased:
    """What an erasure answers; kept as text for repeats."""

    documents: int
    revisions: int
    payloads: int
    more: bool

    def __str__(self) -> str:
        return f"{self.documents}/{self.revisions}/{self.payloads}/{int(self.more)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        documents, revisions, payloads, more = map(int, text.split("/"))
        return cls(documents, revisions, payloads, bool(more))


class Erasures:
    """Erases subjects from documents and from the audit log."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def EraseSubject(
        self, request: pb.EraseSubjectRequest, call: Call
    ) -> pb.EraseSubjectResponse:
        checks = Checks()
        checks.text("subject_id", request.subject_id, LONGEST_SUBJECT, required=True)
        subject = _Subject(request.subject_id, self._supplies.subject_name(request.subject_id))
        request_id = checks.request_id(request.request_id)
        checks.done()
        if call.principal.collections is not None:
            raise Denied("an erasure is in all collections; the caller's grant is not")
        if not request.force:
            return await self._counted(call, subject)
        # The hash that is kept of the body must not be one that an id can be guessed from.
        nameless = pb.EraseSubjectRequest(subject_id=subject.name, force=True)
        return await self._erased(call, request_key(call, nameless, request_id), subject)

    async def _counted(self, call: Call, subject: _Subject) -> pb.EraseSubjectResponse:
        call.unaudited = True
        async with self._supplies.database.read(call.left) as conn:
            found = await erasures.count(conn, subject.subject_id)
        return pb.EraseSubjectResponse(
            document_count=found.documents,
            revision_count=found.revisions,
            payload_count=found.payloads,
            held_count=found.held_documents + found.held_payloads,
            more=found.documents > self._supplies.limits.max_batch_items,
        )

    async def _erased(
        self, call: Call, key: RequestKey, subject: _Subject
    ) -> pb.EraseSubjectResponse:
        most = self._supplies.limits.max_batch_items
        async with self._supplies.database.transaction(call.left) as conn:
            await erasures.alone(conn, subject.name)
            if answered := await requests.find(conn, key):
                call.receipt = answered.receipt
                return _answer(call, _Erased.parse(answered.resource))
            erased = await _remove(conn, call, key, subject, most)
            made = _made(call, key, subject, erased)
            if not await erasures.record(conn, made, str(erased)):
                message = "request_id: was used with another body within 24 hours"
                raise AlreadyExists(message, reason="REQUEST_ID_REUSED")
        call.receipt = made.receipt
        return _answer(call, erased)


async def _remove(
    conn: Connection, call: Call, key: RequestKey, subject: _Subject, most: int
) -> _Erased:
    """All there is, but of documents so many at most."""
    found = await erasures.find(conn, subject.subject_id, most + 1)
    doomed = await purges.lock(conn, found[:most])
    _refuse_held(await erasures.count(conn, subject.subject_id))
    revisions = await _purge(conn, call, key, doomed, subject.subject_id)
    payloads = await _forget(conn, subject)
    return _Erased(len(doomed), revisions, payloads, len(found) > len(doomed))


async def _purge(
    conn: Connection, call: Call, key: RequestKey, doomed: Sequence[Doomed], subject_id: str
) -> int:
    """How many revisions went with the locked documents."""
    if any(document.held for document in doomed):
        raise _held()
    revisions = await erasures.revisions(conn, doomed)
    by_collection = sorted(doomed, key=lambda document: document.collection_uid)
    for _, group in groupby(by_collection, key=lambda document: document.collection_uid):
        documents = list(group)
        made = [_purged(call, key, document, subject_id) for document in documents]
        await purges.purge(conn, documents, made, more=False)
    return revisions


async def _forget(conn: Connection, subject: _Subject) -> int:
    """How many payloads of the audit log went."""
    await erasures.forget_holds(conn, subject.subject_id, subject.name)
    return await erasures.erase_payloads(conn, subject.subject_id)


def _purged(call: Call, key: RequestKey, document: Doomed, subject_id: str) -> Mutation:
    """By its name, so that whoever follows the collection's changes removes it too; by its uid
    where the name tells whom it was about."""
    telling = subject_id.lower() in document.name.lower()
    name = f"documents/{document.document_uid}" if telling else document.name
    change = Change("documents.purge", document.collection_uid, (name,))
    made = mutation(call, replace(key, request_id=None), change)
    return replace(made, event=replace(made.event, audit_class=AuditClass.WRITE))


def _made(call: Call, key: RequestKey, subject: _Subject, erased: _Erased) -> Mutation:
    made = mutation(call, key, Change("subjects.erase", None, (subject.name,)))
    return replace(made, event=replace(made.event, result_count=erased.documents))


def _answer(call: Call, erased: _Erased) -> pb.EraseSubjectResponse:
    return pb.EraseSubjectResponse(
        document_count=erased.documents,
        revision_count=erased.revisions,
        payload_count=erased.payloads,
        more=erased.more,
        receipt=pack.receipt(call.receipt),
    )


def _refuse_held(found: Found) -> None:
    if found.held or found.held_documents or found.held_payloads:
        raise _held()


def _held() -> WrongState:
    message = "something of the subject is under legal hold; nothing was erased"
    return WrongState(message, reason="LEGAL_HOLD")
