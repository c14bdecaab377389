"""Several searches in one call: their texts are embedded together, and those that are alike but for
their vectors go to the database in one statement."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from knowledge.v1 import vector_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.embedding.embedder import Embedder
from knowledged.services import search_arguments
from knowledged.services.composed_search import ComposedSearch, all_of
from knowledged.services.search_arguments import Asked
from knowledged.services.searching import Searching, fill_answer
from knowledged.services.supplies import Supplies
from knowledged.store.collections import Space

MOST_SEARCHES = 100
# Connections that one call takes, at most.
_AT_ONCE = 4
_REFUSED = ("explain", "highlight", "neighbours")


@dataclass(frozen=True, slots=True)
class BatchedSearches:
    """Reads them and carries them out. One for the server."""

    supplies: Supplies
    composed: ComposedSearch
    searching: Searching

    def asked(self, checks: Checks, request: pb.BatchSearchRequest) -> list[Asked]:
        """The arguments of each; faults go to the checks, under `searches[i]`."""
        checks.count("searches", len(request.searches), MOST_SEARCHES, least=1)
        return [self._asked(checks, request, place) for place in range(len(request.searches))]

    async def answer(self, call: Call, asked: Sequence[Asked]) -> pb.BatchSearchResponse:
        """Their answers, in order, each filled in where it stands."""
        spaces = [await self._space(call, each) for each in asked]
        await self._embed(call, asked, spaces)
        kinds: dict[tuple[object, ...], list[int]] = {}
        for place, each in enumerate(asked):
            kinds.setdefault(_kind(each) or (place,), []).append(place)
        free, answer = asyncio.Semaphore(_AT_ONCE), pb.BatchSearchResponse()
        results = [answer.results.add() for _ in asked]

        async def carry_out(places: list[int]) -> None:
            mine = [(asked[place], results[place]) for place in places]
            async with free:
                await self._group(call, mine, spaces[places[0]])

        await all_of([carry_out(places) for places in kinds.values()])
        return answer

    def _asked(self, checks: Checks, request: pb.BatchSearchRequest, place: int) -> Asked:
        one, own = pb.SearchRequest(), Checks()
        one.CopyFrom(request.searches[place])
        if not one.collection and not one.collections:
            one.collection = request.collection
        for name in _REFUSED:
            if (name == "neighbours" and one.HasField("neighbours")) or getattr(one, name) is True:
                own.fault(name, "is not taken in a batch")
        asked = search_arguments.asked(own, one, self.supplies.limits.max_search_limit)
        for fault in own.violations:
            checks.fault(f"searches[{place}].{fault.field}", fault.description)
        return asked

    async def _space(self, call: Call, asked: Asked) -> Space:
        return await self.supplies.directory.resolve(call, asked.collections[0])

    async def _embed(self, call: Call, asked: Sequence[Asked], spaces: Sequence[Space]) -> None:
        """All texts of a model at once; each search then finds its vector among those kept."""
        texts = dict[Embedder, list[str]]()
        for each, space in zip(asked, spaces, strict=True):
            if text := each.embedded_text:
                model = self.supplies.text.model_of(space)
                texts.setdefault(model.embedder, []).append(text)
        for embedder, of_model in texts.items():
            await self.supplies.query_vectors.embed(embedder, of_model, call.left)

    async def _group(
        self, call: Call, searches: Sequence[tuple[Asked, pb.SearchResponse]], space: Space
    ) -> None:
        """Fills in the answers of searches of one kind."""
        first, result = searches[0]
        if not first.plain:
            result.CopyFrom(await self.composed.answer(call, first))
            return
        targets = [await self.composed.target(call, each, [space]) for each, _ in searches]
        vectors = [target.vector for target in targets]
        found = await self.searching.found_many(call, first, space, vectors)
        for (_, result), each in zip(searches, found, strict=True):
            fill_answer(result, call, each, space.collection)


def _kind(asked: Asked) -> tuple[object, ...] | None:
    """What plain searches must have in common to go together; None for others, which go alone."""
    if not asked.plain:
        return None
    how = asked.limit, asked.ef, asked.exact, asked.min_score, asked.include_embedding
    return asked.collections, *how
