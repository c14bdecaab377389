"""Documents in bulk: import and export."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.names import collection_of
from knowledged.services import pack
from knowledged.services.document_intake import DocumentIntake
from knowledged.services.exporting import Chosen, Exporting
from knowledged.services.intake import Intake, session_id_of, started_by
from knowledged.services.listing import document_condition, document_filter
from knowledged.services.supplies import Supplies
from knowledged.store.document_exports import FIRST_FILTER_PARAMETER

SHAPE = '"collections/{collection}"'
IF_EXISTS = (pb.IF_EXISTS_UNSPECIFIED, pb.IF_EXISTS_SKIP, pb.IF_EXISTS_UPDATE)


class Exchange:
    """RPCs that stream documents."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._exporting = Exporting(supplies)

    async def ImportDocuments(
        self, messages: AsyncGenerator[pb.ImportDocumentsRequest], call: Call
    ) -> AsyncGenerator[pb.ImportDocumentsResponse]:
        start, checks = await started_by(messages), Checks()
        (collection_id,) = checks.name("start.parent", start.parent, collection_of, SHAPE)
        session_id = session_id_of(checks, start)
        checks.choice("start.if_exists", start.if_exists, IF_EXISTS)
        checks.done()
        collection = (await self._supplies.directory.resolve(call, collection_id)).collection
        uid = collection.collection_uid
        intake = await Intake.open(self._supplies, call, session_id, start, uid)
        yield pb.ImportDocumentsResponse(started=intake.started())
        items = DocumentIntake(self._supplies, call, start, collection_id)
        async with aclosing(intake.acks(messages, start.session.acknowledged, items)) as all_acks:
            async for acks in all_acks:
                yield pb.ImportDocumentsResponse(acks=acks)
        yield pb.ImportDocumentsResponse(finished=await intake.finished())

    async def ExportDocuments(
        self, request: pb.ExportDocumentsRequest, call: Call
    ) -> AsyncGenerator[pb.ExportDocumentsResponse]:
        checks = Checks()
        (collection_id,) = checks.name("parent", request.parent, collection_of, SHAPE)
        asked = document_filter(checks, request)
        checks.done()
        collection = (await self._supplies.directory.resolve(call, collection_id)).collection
        condition = document_condition(asked, collection, FIRST_FILTER_PARAMETER)
        chosen = Chosen(collection.collection_uid, request.show_deleted, condition)
        async with aclosing(self._exporting.batches(chosen)) as batches:
            async for documents in batches:
                call.reads((row.document_uid, row.subject_ids) for row in documents)
                yield pb.ExportDocumentsResponse(documents=map(pack.document, documents))
