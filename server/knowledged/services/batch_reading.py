"""What batches of documents read: the documents, and the answers they had before."""

from collections.abc import Sequence
from dataclasses import replace

from knowledged.call import Call, Receipt
from knowledged.errors import TooLarge
from knowledged.services import pack
from knowledged.services.batch_items import AskedBatch
from knowledged.services.supplies import Supplies
from knowledged.store import documents, requests, revisions
from knowledged.store.collections import Space
from knowledged.store.documents import Document

Item = tuple[Document | None, Receipt | None]

# Of the contents that one batch may read to change them.
MOST_CONTENT_BYTES = 64 * 1024 * 1024
# What an answer holds of each document beside the document.
_BYTES_BESIDE = 128


class BatchReader:
    """Reads for batches, within limits: a batch is small, but what it names may be large."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def answered(self, asked: AskedBatch) -> list[Item] | None:
        """The answers of the copy of this batch that was first; None if this one is."""
        async with self._supplies.database.read(asked.call.left) as conn:
            found = await requests.find_many(conn, asked.keys)
            if not found:
                return None
            known = [(each.resource_uid, each.revision) for each in found if each]
            rows = iter(await revisions.at(conn, known))
        receipts = [each.receipt if each else None for each in found]
        asked.call.receipt = next((receipt for receipt in receipts if receipt), None)
        return [(next(rows), receipt) if receipt else (None, None) for receipt in receipts]

    async def read(
        self, call: Call, space: Space, document_ids: Sequence[str], whole: Sequence[str] = ()
    ) -> dict[str, Document]:
        """The documents there are, by id; those of `whole` with their content."""
        uid = space.collection.collection_uid
        async with self._supplies.database.read(call.left) as conn:
            if whole:
                _refuse_long(await documents.content_bytes(conn, uid, whole))
            return await documents.get_many(conn, uid, document_ids, whole)

    def refuse_large(self, rows: Sequence[Document]) -> None:
        """Before anything is written: an answer that cannot be sent helps nobody."""
        sizes = (pack.document(replace(row, content="")).ByteSize() for row in rows)
        if sum(sizes) + _BYTES_BESIDE * len(rows) > self._supplies.limits.max_message_bytes:
            raise TooLarge("the answer would pass the message limit; send fewer items at once")


def _refuse_long(content_bytes: int) -> None:
    if content_bytes > MOST_CONTENT_BYTES:
        message = f"the documents' contents have {content_bytes} bytes; at most "
        message += f"{MOST_CONTENT_BYTES} can be changed at once: send fewer items"
        raise TooLarge(message)
