"""What every service works with; made once by `app`."""

from collections.abc import Callable
from dataclasses import dataclass

from knowledged.call import Call
from knowledged.database import Database
from knowledged.directory import Directory
from knowledged.embedding.key_check import KeyCheck
from knowledged.ledger.backlog import Backlog
from knowledged.ledger.keys import KeyRing
from knowledged.services.drafts import Drafts
from knowledged.services.listing import Lists
from knowledged.services.providers import Providers
from knowledged.services.query_vectors import QueryVectors
from knowledged.store import requests
from knowledged.store.requests import Answered, RequestKey
from knowledged.text import TextPipeline


@dataclass(frozen=True, slots=True)
class Limits:
    """What requests may ask; announced by GetServerInfo."""

    max_message_bytes: int
    max_content_characters: int
    max_batch_items: int
    max_page_size: int
    max_search_limit: int
    max_embed_texts: int
    max_inline_chunks: int
    max_export_seconds: int
    max_concurrent_exports: int


@dataclass(frozen=True, slots=True)
class Supplies:
    """The parts of the server that services use. `wake_text_workers` says that text waits;
    `subject_name` names a subject by its keyed hash."""

    database: Database
    directory: Directory
    drafts: Drafts
    lists: Lists
    text: TextPipeline
    providers: Providers
    key_check: KeyCheck
    query_vectors: QueryVectors
    limits: Limits
    version: str
    wake_text_workers: Callable[[], None]
    backlog: Backlog
    keys: KeyRing
    subject_name: Callable[[str], str]

    async def answered(self, call: Call, key: RequestKey) -> Answered | None:
        """The answer this request had before, if it is a repeat; its receipt becomes the call's."""
        if key.request_id is None:
            return None
        async with self.database.read(call.left) as conn:
            found = await requests.find(conn, key)
        call.receipt = found.receipt if found else None
        return found


def granted(call: Call) -> list[str] | None:
    """The ids of collections that the caller is granted; None for all."""
    collections = call.principal.collections
    return None if collections is None else sorted(collections)
