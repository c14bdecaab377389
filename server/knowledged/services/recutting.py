"""What documents' statements write of their text: cut, and embedded where it is new."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from knowledged.call import Call
from knowledged.declared_fields import DOCUMENT, own_keys, stored_fields
from knowledged.services.drafts import SERVER
from knowledged.services.supplies import Supplies
from knowledged.store import pieces
from knowledged.store.collections import Space
from knowledged.store.content_parts import Kept, kept
from knowledged.store.documents import Document
from knowledged.store.pieces import KnownChunk, NewPieces
from knowledged.text import ACTIVE, NOTHING_KNOWN, PENDING, Text, Vectors, waiting

Known = dict[str, KnownChunk]


@dataclass(frozen=True, slots=True)
class Recut:
    """A document's next revision, its pieces, and what its content keeps of the former one."""

    row: Document
    pieces: NewPieces
    kept: Kept | None


async def cut_new(
    supplies: Supplies, call: Call, space: Space, rows: Sequence[Document], vectors: Vectors
) -> list[tuple[Document, NewPieces]]:
    """New documents with their pieces; all their texts are embedded together."""
    texts = [_text(space, row, NOTHING_KNOWN) for row in rows if row.origin == SERVER]
    cut = iter(await supplies.text.pieces(space, texts, vectors, call.left))
    both = [(row, next(cut) if row.origin == SERVER else NewPieces()) for row in rows]
    return [(_completed(row, made, NOTHING_KNOWN), made) for row, made in both]


async def recut(
    supplies: Supplies,
    call: Call,
    space: Space,
    changes: Sequence[tuple[Document, Document]],
    vectors: Vectors,
) -> list[Recut]:
    """Next revisions, of documents as they are and as they will be, with their pieces.

    Those of an unchanged text stay as they are; of such a one the content need not be there.
    """
    changed = [row for old, row in changes if _is_cut(old, row)]
    known = await _known(supplies, call, changed)
    texts = [_text(space, row, known[row.document_uid]) for row in changed]
    cut = await supplies.text.pieces(space, texts, vectors, call.left)
    by_uid = {row.document_uid: made for row, made in zip(changed, cut, strict=True)}
    return [
        _recut(space, old, row, by_uid.get(row.document_uid), known.get(row.document_uid, {}))
        for old, row in changes
    ]


async def _known(supplies: Supplies, call: Call, rows: Sequence[Document]) -> dict[object, Known]:
    """All texts that the documents hold or held."""
    if not rows:
        return {}
    uids = [row.document_uid for row in rows]
    async with supplies.database.read(call.left) as conn:
        found = await pieces.known(conn, uids)
    return {uid: found.get(uid, {}) for uid in uids}


def _is_cut(old: Document, row: Document) -> bool:
    same = (old.content_sha256, old.mime_type) == (row.content_sha256, row.mime_type)
    return row.origin == SERVER and not same


def _kept(old: Document, row: Document) -> Kept | None:
    same = old.content_sha256 == row.content_sha256
    return None if same else kept(old.content, row.content)


def _recut(
    space: Space, old: Document, row: Document, made: NewPieces | None, known: Known
) -> Recut:
    if made is not None:
        return Recut(_completed(row, made, known), made, _kept(old, row))
    declared = space.collection.filter_fields
    fields = stored_fields(declared, DOCUMENT, row.metadata)
    stays = NewPieces(fields=fields, cut=False, own_keys=own_keys(declared, DOCUMENT))
    return Recut(row, stays, _kept(old, row))


def _text(space: Space, row: Document, known: Known) -> Text:
    declared = space.collection.filter_fields
    fields = stored_fields(declared, DOCUMENT, row.metadata)
    return Text(row.content, row.mime_type, known, fields, own_keys(declared, DOCUMENT))


def _completed(row: Document, cut: NewPieces, known: Known) -> Document:
    if row.origin != SERVER:
        return row
    state = PENDING if waiting(cut, known) else ACTIVE
    return replace(row, state=state, chunk_count=len({span.chunk_uid for span in cut.spans}))
