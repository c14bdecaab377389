"""The answer to a composed search: hits with what surrounds them, and how they were found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from asyncpg import Record

from knowledge.v1 import vector_service_pb2 as pb
from knowledge.v1.chunk_pb2 import Chunk as ChunkMessage
from knowledged.call import Call
from knowledged.database import Database
from knowledged.names import collection_name
from knowledged.services import pack
from knowledged.services.choosing import Choice, Chosen
from knowledged.services.search_arguments import Around, Asked
from knowledged.services.search_legs import Leg
from knowledged.services.searching import shown
from knowledged.store import surroundings


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Packs one answer."""

    database: Database
    call: Call
    asked: Asked

    async def packed(self, choice: Choice, legs: Sequence[Leg]) -> pb.SearchResponse:
        answer = pb.SearchResponse(
            incomplete_reason=choice.reason, exact=all(leg.exact for leg in legs)
        )
        self._tell_audit(choice, legs)
        for chosen in choice.hits:
            self._fill(answer.hits.add(), chosen)
        if choice.hits and self.asked.around != Around():
            await self._add_neighbours(answer, choice, legs)
        if choice.hits and self.asked.highlight:
            await self._add_highlights(answer, legs)
        if self.asked.explain:
            answer.explanations.extend(_explanation(leg, self.asked.ef) for leg in legs)
        return answer

    def _tell_audit(self, choice: Choice, legs: Sequence[Leg]) -> None:
        for leg in legs:
            collection = leg.space.collection
            mine = (c for c in choice.hits if c.collection_id == collection.collection_id)
            self.call.reads((shown(each.row) for each in mine), collection.collection_uid)

    def _fill(self, hit: pb.Hit, chosen: Chosen) -> None:
        row = chosen.row
        pack.fill_hit(hit, row, collection_name(chosen.collection_id))
        if not self.asked.include_embedding:
            hit.chunk.ClearField("embedding")
        if self.asked.explain:
            _fill_parts(hit.score_parts, chosen, hybrid=self.asked.hybrid is not None)
        if chosen.diversity is not None and self.asked.explain:
            hit.score_parts.diversity_score = chosen.diversity

    async def _add_neighbours(
        self, answer: pb.SearchResponse, choice: Choice, legs: Sequence[Leg]
    ) -> None:
        by_uid = {UUID(hit.chunk.uid): hit for hit in answer.hits}
        around = self.asked.around
        async with self.database.read(self.call.left) as conn:
            rows = await surroundings.neighbours(
                conn, _uids(legs), list(by_uid), around.before, around.after
            )
        for row in rows:
            hit = by_uid[row["hit_uid"]]
            side = hit.before if row["before"] else hit.after
            _fill_neighbour(side.add(), row, hit.document.name)

    async def _add_highlights(self, answer: pb.SearchResponse, legs: Sequence[Leg]) -> None:
        hits = [UUID(hit.chunk.uid) for hit in answer.hits]
        phrases = self.asked.hybrid.phrases if self.asked.hybrid else ()
        marked: dict[UUID, str] = {}
        async with self.database.read(self.call.left) as conn:
            for language in {leg.space.collection.language for leg in legs}:
                uids = _uids(leg for leg in legs if _language(leg) == language)
                words = language, *phrases
                text = self.asked.words or ""
                marked |= await surroundings.marked(conn, (hits, uids), text, words)
        for hit in answer.hits:
            hit.highlights.extend(ranges(hit.chunk.content, marked.get(UUID(hit.chunk.uid), "")))


def ranges(content: str, marked: str) -> Iterator[pb.TextRange]:
    """Where `marked`, the content with marks in it, has them; nothing if it is another text."""
    begin, end = surroundings.BEGIN, surroundings.END
    parts = [part.partition(end) for part in marked.split(begin)]
    if begin in content or end in content or marked.translate(_NO_MARKS) != content:
        return
    place = len(parts[0][0])
    for word, _, after in parts[1:]:
        yield pb.TextRange(start=place, end=place + len(word))
        place += len(word) + len(after)


_NO_MARKS = {ord(surroundings.BEGIN): None, ord(surroundings.END): None}


def _fill_parts(parts: pb.ScoreParts, chosen: Chosen, *, hybrid: bool) -> None:
    row = chosen.row
    vector = row["vector_score"] if hybrid else row["score"]
    if vector is not None:
        parts.vector_score = vector
    if hybrid:
        parts.text_score = row["text_score"]


def _fill_neighbour(chunk: ChunkMessage, row: Record, document_name: str) -> None:
    chunk.name = f"{document_name}/chunks/{row['chunk_id']}"
    chunk.uid = str(row["chunk_uid"])
    chunk.chunk_id = row["chunk_id"]
    chunk.content = row["content"]
    chunk.ordinal = row["ordinal"]
    if row["start_offset"] is not None:
        chunk.start_offset = row["start_offset"]
        chunk.end_offset = row["end_offset"]


def _explanation(leg: Leg, asked_ef: int | None) -> pb.SearchExplanation:
    return pb.SearchExplanation(
        collection=collection_name(leg.space.collection.collection_id),
        plan=leg.plan,
        ef=leg.ef,
        ef_reason=_ef_reason(leg, asked_ef),
        estimated_chunks=leg.space.rows,
        filter_passes=leg.passes,
        vector_candidates=leg.near,
        text_candidates=leg.held,
        widened=leg.widened,
    )


def _ef_reason(leg: Leg, asked_ef: int | None) -> pb.EfReason.ValueType:
    """Reasons of the space are numbered as in the proto."""
    if not leg.ef:
        return pb.EF_REASON_UNSPECIFIED
    if leg.ef != (asked_ef or leg.space.ef):
        return pb.EF_REASON_CANDIDATES
    return pb.EF_REASON_REQUESTED if asked_ef else pb.EfReason.ValueType(leg.space.ef_reason)


def _uids(legs: Iterator[Leg] | Sequence[Leg]) -> list[UUID]:
    return [leg.space.collection.collection_uid for leg in legs]


def _language(leg: Leg) -> str:
    return leg.space.collection.language
