"""Requests to rows: every field of a collection or document checked, and defaults filled in."""

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import datetime

from uuid_utils.compat import uuid7

from knowledge.v1.collection_pb2 import ChunkingPolicy as ChunkingPolicyMessage
from knowledge.v1.collection_pb2 import Collection as CollectionMessage
from knowledge.v1.document_pb2 import Document as DocumentMessage
from knowledged.checks import Checks
from knowledged.declared_fields import CHUNK, DOCUMENT, KINDS, MOST_FIELDS
from knowledged.embedding.catalogue import Catalogue
from knowledged.embedding.chunker import ChunkingPolicy
from knowledged.services.json_struct import to_json
from knowledged.store.collections import Collection, FilterField
from knowledged.store.documents import Document
from knowledged.text import ACTIVE

SERVER, CALLER = 1, 2
LONGEST_TITLE = 512
MOST_ALIASES = 16
LARGEST_METADATA = 64 * 1024
DEFAULT_RETENTION_SECONDS = 30 * 86_400
LONGEST_RETENTION_SECONDS = 36_525 * 86_400
MIME_TYPES = ("text/plain", "text/markdown")

DISTANCES = (1, 2, 3)
EGRESSES = (1, 2)
ORIGINS = (SERVER, CALLER)

# What PostgreSQL ships; "simple" only folds case.
LANGUAGES = frozenset(
    [
        "arabic",
        "armenian",
        "basque",
        "catalan",
        "danish",
        "dutch",
        "english",
        "finnish",
        "french",
        "german",
        "greek",
        "hindi",
        "hungarian",
        "indonesian",
        "irish",
        "italian",
        "lithuanian",
        "nepali",
        "norwegian",
        "portuguese",
        "romanian",
        "russian",
        "serbian",
        "simple",
        "spanish",
        "swedish",
        "tamil",
        "turkish",
        "yiddish",
    ]
)


@dataclass(frozen=True, slots=True)
class Drafts:
    """Makes rows of messages, under the server's limits and its embedding models."""

    catalogue: Catalogue
    most_content_characters: int

    def collection(
        self, checks: Checks, message: CollectionMessage, collection_id: str, at: datetime
    ) -> Collection:
        """A new collection's row; faults go to the checks."""
        dimension = message.dimension or 384
        default = self.catalogue.default.embedder
        own_model = default.model_id if default.dimension == dimension else ""
        row = Collection(
            collection_uid=uuid7(),
            collection_id=collection_id,
            title="",
            description="",
            dimension=dimension,
            distance=message.distance or 1,
            embedding_model=message.embedding_model or own_model,
            language=message.language or "english",
            chunk_max_tokens=0,
            chunk_overlap_tokens=0,
            filter_fields=(),
            egress=1,
            revision=1,
            active_space_uid=uuid7(),
            create_time=at,
            update_time=at,
        )
        self._check_fixed(checks, row)
        return self.changed_collection(checks, row, message, COLLECTION_PATHS)

    def _check_fixed(self, checks: Checks, row: Collection) -> None:
        checks.number("collection.dimension", row.dimension, 1, 1900)
        checks.choice("collection.distance", row.distance, DISTANCES)
        checks.text("collection.embedding_model", row.embedding_model, 128)
        if row.language not in LANGUAGES:
            checks.fault("collection.language", "is no text search configuration of PostgreSQL")
        model = self.catalogue.find(row.embedding_model)
        if model and row.dimension != model.embedder.dimension:
            rule = f"the model's vectors have {model.embedder.dimension} values"
            checks.fault("collection.dimension", rule)

    def changed_collection(
        self, checks: Checks, row: Collection, message: CollectionMessage, paths: frozenset[str]
    ) -> Collection:
        """The row with the message's values at `paths`; faults go to the checks."""
        policy = self._policy(checks, row.embedding_model, message)
        changes: dict[str, dict[str, object]] = {
            "title": {"title": message.title},
            "description": {"description": message.description},
            "chunking": {
                "chunk_max_tokens": policy.max_tokens,
                "chunk_overlap_tokens": policy.overlap_tokens,
            },
            "filter_fields": {"filter_fields": _filter_fields(checks, message)},
            "egress": {"egress": message.egress or 1},
            "aliases": {"aliases": _aliases(checks, message, row.collection_id)},
            "retention": {"retention_seconds": _retention(checks, message)},
        }
        checks.text("collection.title", message.title, 256)
        checks.text("collection.description", message.description, 4096)
        checks.choice("collection.egress", message.egress or 1, EGRESSES)
        for path in paths & changes.keys():
            row = replace(row, **changes[path])  # pyright: ignore[reportArgumentType]
        return row

    def _policy(self, checks: Checks, model_id: str, message: CollectionMessage) -> ChunkingPolicy:
        model = self.catalogue.find(model_id) or self.catalogue.default
        most = model.embedder.max_tokens
        policy = chunking_policy(message.chunking, most)
        checks.violations.extend(policy.violations("collection.chunking", most))
        return policy

    def document(
        self, checks: Checks, message: DocumentMessage, names: tuple[str, str], at: datetime
    ) -> Document:
        """A new document's row, by ids of collection and document; faults go to the checks."""
        row = Document(
            document_uid=uuid7(),
            collection_id=names[0],
            document_id=names[1],
            title="",
            content="",
            content_sha256=b"",
            mime_type="",
            source_uri="",
            metadata={},
            labels={},
            subject_ids=(),
            origin=message.origin or SERVER,
            state=ACTIVE,
            last_error="",
            chunk_count=0,
            revision=1,
            chunk_version=1,
            create_time=at,
            update_time=at,
            delete_time=None,
        )
        checks.choice("document.origin", row.origin, ORIGINS)
        return self.changed_document(checks, row, message, DOCUMENT_PATHS)

    def changed_document(
        self, checks: Checks, row: Document, message: DocumentMessage, paths: frozenset[str]
    ) -> Document:
        """The row with the message's values at `paths`, checked; faults go to the checks."""
        given = to_json(message.metadata)
        values: dict[str, object] = {
            "title": message.title,
            "content": message.content,
            "mime_type": message.mime_type or MIME_TYPES[0],
            "source_uri": message.source_uri,
            "metadata": given,
            "labels": dict(message.labels),
            "subject_ids": tuple(message.subject_ids),
        }
        changes = {path: values[path] for path in paths if path in values}
        row = replace(row, **changes)  # pyright: ignore[reportArgumentType]
        keys = [path.partition(".")[2] for path in paths if path.startswith("metadata.")]
        row = replace(row, metadata=_merged(row.metadata, given, keys)) if keys else row
        self._check_document(checks, row)
        if "content" not in paths:
            return row
        self._check_content(checks, row)
        return replace(row, content_sha256=hashlib.sha256(row.content.encode()).digest())

    def _check_document(self, checks: Checks, row: Document) -> None:
        checks.text("document.title", row.title, LONGEST_TITLE)
        if row.mime_type not in MIME_TYPES:
            checks.fault("document.mime_type", f"must be one of {', '.join(MIME_TYPES)}")
        checks.text("document.source_uri", row.source_uri, 2048)
        checks.json("document.metadata", row.metadata, LARGEST_METADATA)
        checks.labels("document.labels", row.labels)
        checks.subject_ids("document.subject_ids", row.subject_ids)

    def _check_content(self, checks: Checks, row: Document) -> None:
        most, required = self.most_content_characters, row.origin == SERVER
        checks.text("document.content", row.content, most, required=required)


COLLECTION_PATHS = frozenset(
    {"title", "description", "chunking", "filter_fields", "egress", "retention", "aliases"}
)
# Without a mask an update leaves these alone, unless they are set: they came later.
LATER_COLLECTION_PATHS = frozenset({"retention", "aliases"})
DOCUMENT_PATHS = frozenset(
    {"title", "content", "mime_type", "source_uri", "metadata", "labels", "subject_ids"}
)


def chunking_policy(message: ChunkingPolicyMessage, model_max_tokens: int) -> ChunkingPolicy:
    """The message with defaults filled in."""
    most: int = message.max_tokens or model_max_tokens
    given = message.HasField("overlap_tokens")
    overlap = message.overlap_tokens if given else min(32, most // 2)
    return ChunkingPolicy(most, overlap)


def mask_paths(
    checks: Checks, paths: list[str], known: frozenset[str], default: frozenset[str]
) -> frozenset[str]:
    """The paths of an update mask; `*` means all. Unknown ones are faults."""
    if list(paths) == ["*"]:
        return known
    for place, path in enumerate(paths):
        key = re.fullmatch(r"metadata\.[^.]+", path) and "metadata" in known
        if path not in known and not key:
            checks.fault(
                f"update_mask.paths[{place}]", f"must be one of {', '.join(sorted(known))}"
            )
    return frozenset(paths) or default


def _merged(
    metadata: dict[str, object], given: dict[str, object], keys: list[str]
) -> dict[str, object]:
    """The metadata with single keys replaced; a key that is not given is removed."""
    kept = {key: value for key, value in metadata.items() if key not in keys}
    return kept | {key: given[key] for key in keys if key in given}


def _retention(checks: Checks, message: CollectionMessage) -> int:
    """In seconds; parts of one do not count."""
    if not message.HasField("retention"):
        return DEFAULT_RETENTION_SECONDS
    seconds = message.retention.seconds
    if not 0 <= seconds <= LONGEST_RETENTION_SECONDS:
        checks.fault("collection.retention", "must be 0 seconds to 36525 days")
    return seconds


def _aliases(checks: Checks, message: CollectionMessage, collection_id: str) -> tuple[str, ...]:
    checks.count("collection.aliases", len(message.aliases), MOST_ALIASES)
    for place, alias in enumerate(message.aliases):
        checks.id(f"collection.aliases[{place}]", alias)
        if alias == collection_id:
            checks.fault(f"collection.aliases[{place}]", "is the collection's own id")
    if len(set(message.aliases)) < len(message.aliases):
        checks.fault("collection.aliases", "names an alias twice")
    return tuple(sorted(message.aliases))


def _filter_fields(checks: Checks, message: CollectionMessage) -> tuple[FilterField, ...]:
    checks.count("collection.filter_fields", len(message.filter_fields), MOST_FIELDS)
    for place, field in enumerate(message.filter_fields):
        at = f"collection.filter_fields[{place}]"
        checks.text(f"{at}.path", field.path, 128)
        checks.choice(f"{at}.type", field.type, KINDS)
        root, *keys = field.path.split(".")
        if root not in (DOCUMENT, CHUNK) or not keys or not all(keys):
            checks.fault(f"{at}.path", 'must be "metadata." or "chunk_metadata." and keys')
    if len({field.path for field in message.filter_fields}) < len(message.filter_fields):
        checks.fault("collection.filter_fields", "names a path twice")
    return tuple(FilterField(field.path, field.type) for field in message.filter_fields)
