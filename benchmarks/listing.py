"""The row about lists: a page far into a collection costs what the first one costs."""

import statistics

from benchmarks.calling import Caller, caller
from benchmarks.load import Load, Measured, run
from benchmarks.report import Row, row
from benchmarks.rounds import Bench, timed
from benchmarks.service_jobs import Target
from knowledge.v1.collection_pb2 import Collection
from knowledge.v1.document_pb2 import Document, Origin
from knowledge.v1.knowledge_service_pb2 import (
    BatchCreateDocumentsRequest,
    CreateCollectionRequest,
    CreateDocumentRequest,
    ListDocumentsRequest,
)

PAGE_SIZE = 100
_BATCH = 1_000
_PARENT = "collections/listed"


def list_row(bench: Bench, documents: int) -> Row:
    """ListDocuments, the first page and the last of so many documents, in turn."""
    first = ListDocumentsRequest(parent=_PARENT, page_size=PAGE_SIZE)
    last, _ = bench.apart.run(filled, bench.target(1), documents)

    def p50(request: ListDocumentsRequest) -> float:
        return timed(bench, list_documents, bench.target(1), request).measured.p50

    rounds = [(p50(last), p50(first)) for _ in range(bench.rounds)]
    ratios = [far / near for far, near in rounds]
    far, near = (1e3 * statistics.median(side) for side in zip(*rounds, strict=True))
    page = documents // PAGE_SIZE
    details = f"{far:.2f} ms, page 1 {near:.2f} ms; {PAGE_SIZE} of {documents} documents a page"
    return row(f"ListDocuments, p50 of page {page} ÷ page 1", ratios, "≤ 1.3", details)


async def filled(target: Target, documents: int) -> ListDocumentsRequest:
    """Fills a collection by batches, and walks to its last page: the request for that one."""
    async with caller(target.address, target.token) as one:
        held = Collection(dimension=3)
        await one.create_collection(
            CreateCollectionRequest(collection_id="listed", collection=held)
        )
        for start in range(0, documents, _BATCH):
            await one.batch_create_documents(_batch(start))
        return await _last_page(one, documents // PAGE_SIZE)


async def list_documents(target: Target, request: ListDocumentsRequest) -> Measured:
    """The same page again and again."""

    async def ask(_: int) -> None:
        answer = await one.list_documents(request)
        assert len(answer.documents) == PAGE_SIZE

    async with caller(target.address, target.token) as one:
        return await run(Load([ask] * target.callers, target.seconds))


def _batch(start: int) -> BatchCreateDocumentsRequest:
    requests = [
        CreateDocumentRequest(
            document_id=f"d{place:06}",
            document=Document(title=f"Document {place}", origin=Origin.ORIGIN_CALLER),
        )
        for place in range(start, start + _BATCH)
    ]
    return BatchCreateDocumentsRequest(parent=_PARENT, requests=requests)


async def _last_page(one: Caller, pages: int) -> ListDocumentsRequest:
    request = ListDocumentsRequest(parent=_PARENT, page_size=PAGE_SIZE)
    for _ in range(pages - 1):
        request.page_token = (await one.list_documents(request)).next_page_token
    return request
