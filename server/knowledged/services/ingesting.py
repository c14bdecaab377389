"""Chunks in bulk."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from knowledge.v1 import vector_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.names import collection_of, document_of
from knowledged.services.chunk_intake import BATCH_ITEMS, ChunkIntake
from knowledged.services.intake import Intake, session_id_of, started_by
from knowledged.services.supplies import Supplies

SHAPE = '"collections/{collection}" or "collections/{collection}/documents/{document}"'


class Ingesting:
    """The RPC that streams chunks in."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def IngestChunks(
        self, messages: AsyncGenerator[pb.IngestChunksRequest], call: Call
    ) -> AsyncGenerator[pb.IngestChunksResponse]:
        start, checks = await started_by(messages), Checks()
        names = checks.name("start.parent", start.parent, _target, SHAPE)
        session_id = session_id_of(checks, start)
        checks.choice("start.mode", start.mode, pb.WriteMode.values())
        checks.done()
        collection = (await self._supplies.directory.resolve(call, names[0])).collection
        intake = await Intake.open(
            self._supplies, call, session_id, start, collection.collection_uid, BATCH_ITEMS
        )
        yield pb.IngestChunksResponse(started=intake.started())
        items = ChunkIntake(self._supplies, call, start, names)
        async with aclosing(intake.acks(messages, start.session.acknowledged, items)) as all_acks:
            async for acks in all_acks:
                yield pb.IngestChunksResponse(acks=acks)
        yield pb.IngestChunksResponse(finished=await intake.finished())


def _target(name: str) -> tuple[str, str | None] | None:
    """The ids of a collection, and of a document if it names one."""
    if names := document_of(name):
        return names
    return (of[0], None) if (of := collection_of(name)) else None
