"""Resource names: `collections/{collection}/documents/{document}/chunks/{chunk}`.

The parts are ids that callers choose: 1 to 128 printable characters without "/".
"""

from uuid import UUID, uuid4

LONGEST_ID = 128
AUDIT_EVENTS = "auditEvents"

_COLLECTION = ("collections",)
_DOCUMENT = (*_COLLECTION, "documents")
_CHUNK = (*_DOCUMENT, "chunks")


def id_fault(identifier: str) -> str | None:
    """The rule that an id breaks; None for a good one."""
    if not 1 <= len(identifier) <= LONGEST_ID:
        return f"{len(identifier)} characters; 1 to {LONGEST_ID} are allowed"
    if "/" in identifier or not identifier.isprintable():
        return 'must be printable characters without "/"'
    return None


def new_id() -> str:
    """An id for a caller who chose none."""
    return str(uuid4())


def collection_name(collection_id: str) -> str:
    return f"collections/{collection_id}"


def document_name(collection_id: str, document_id: str) -> str:
    return f"{collection_name(collection_id)}/documents/{document_id}"


def collection_of(name: str) -> tuple[str] | None:
    """The parts of a collection's name; None if it is none. So do the others for theirs."""
    parts = _parts(name, _COLLECTION)
    return (parts[0],) if parts else None


def document_of(name: str) -> tuple[str, str] | None:
    parts = _parts(name, _DOCUMENT)
    return (parts[0], parts[1]) if parts else None


def chunk_of(name: str) -> tuple[str, str, str] | None:
    parts = _parts(name, _CHUNK)
    return (parts[0], parts[1], parts[2]) if parts else None


def provider_of(name: str) -> tuple[str] | None:
    return ("huggingface",) if name == "providers/huggingface" else None


def legal_hold_of(name: str) -> str | None:
    """The id in a legal hold's name; None if it is none."""
    parts = _parts(name, ("legalHolds",))
    return parts[0] if parts else None


def audit_event_of(name: str) -> UUID | None:
    kind, _, event_id = name.partition("/")
    try:
        return UUID(event_id) if kind == AUDIT_EVENTS else None
    except ValueError:
        return None


def _parts(name: str, kinds: tuple[str, ...]) -> list[str] | None:
    pieces = name.split("/")
    ids = pieces[1::2]
    fits = tuple(pieces[::2]) == kinds and len(ids) == len(kinds)
    return ids if fits and not any(map(id_fault, ids)) else None
