"""Searches that ask more than the nearest of one collection to a vector."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from knowledge.v1 import vector_service_pb2 as pb
from knowledge.v1.vector_pb2 import Vector
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.errors import Invalid, NotFound, Violation
from knowledged.services import choosing
from knowledged.services.choosing import Choice
from knowledged.services.given_chunks import vector_bytes
from knowledged.services.query_vectors import QueryVectors
from knowledged.services.search_answer import SearchAnswer
from knowledged.services.search_arguments import Asked, ExampleName
from knowledged.services.search_legs import Leg, Legs, Target
from knowledged.services.supplies import Supplies
from knowledged.store import examples, hybrid
from knowledged.store.collections import Space
from knowledged.vectors import VectorRule

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ComposedSearch:
    """Carries them out. One for the server."""

    supplies: Supplies
    legs: Legs
    vectors: QueryVectors

    async def answer(self, call: Call, asked: Asked) -> pb.SearchResponse:
        """The answer to checked arguments."""
        spaces = [await self.supplies.directory.resolve(call, id) for id in asked.collections]
        _check_alike(spaces)
        target = await self.target(call, asked, spaces)
        choice, legs = await self._chosen(call, asked, spaces, target)
        if not any(asked.hybrid and hit.row["words"] for hit in choice.hits):
            await self._check_words(call, asked, spaces)
        return await SearchAnswer(self.supplies.database, call, asked).packed(choice, legs)

    async def target(self, call: Call, asked: Asked, spaces: Sequence[Space]) -> Target:
        """What the vectors are compared with."""
        if asked.examples:
            return await self._examples(call, asked, spaces)
        if asked.vector is not None:
            return Target(_checked("vector", asked.vector, spaces[0]))
        if asked.hybrid and asked.hybrid.vector_weight == 0:
            return Target(b"")
        if asked.hybrid and asked.hybrid.vector is not None:
            return Target(_checked("hybrid.vector", asked.hybrid.vector, spaces[0]))
        # Each must allow that its model is asked; it is the same for all.
        models = [self.supplies.text.model_of(space) for space in spaces]
        texts = [asked.embedded_text or ""]
        (vector,) = await self.vectors.embed(models[0].embedder, texts, call.left)
        return Target(vector)

    async def _chosen(
        self, call: Call, asked: Asked, spaces: Sequence[Space], target: Target
    ) -> tuple[Choice, list[Leg]]:
        """Hits of all collections; where their grouping leaves too few, of more candidates."""
        while True:
            found = await all_of([self.legs.search(call, asked, space, target) for space in spaces])
            choice = await _choice(asked, found)
            if not choice.short:
                return choice, found
            asked = replace(asked, candidates=choosing.MOST_CANDIDATES)

    async def _examples(self, call: Call, searched: Asked, spaces: Sequence[Space]) -> Target:
        names = searched.examples
        # By the name that the search uses, which may be an alias, or by its own.
        by_id = dict(zip(searched.collections, spaces, strict=True))
        by_id |= {space.collection.collection_id: space for space in spaces}
        if outside := [i for i, name in enumerate(names) if name.collection_id not in by_id]:
            why = "is in no collection that is searched"
            raise Invalid(*(Violation(f"example.names[{i}]", why) for i in outside))
        asked = [_example(name, by_id[name.collection_id]) for name in names]
        async with self.supplies.database.read(call.left) as conn:
            found = await examples.means(conn, asked)
        if gone := [i for i in range(len(names)) if i not in found]:
            places = ", ".join(f"example.names[{i}]" for i in gone)
            raise NotFound(f"{places}: not found, or without vectors")
        mean = np.mean([np.frombuffer(each.vector, "<f4") for each in found.values()], axis=0)
        vector = Vector(f32_le=mean.astype("<f4").tobytes())
        return Target(_checked("example.names", vector, spaces[0]), tuple(found.values()))

    async def _check_words(self, call: Call, asked: Asked, spaces: Sequence[Space]) -> None:
        """Raises Invalid if nothing could be found: what is asked has no words."""
        if asked.hybrid is None:
            return
        async with self.supplies.database.read(call.left) as conn:
            for space in spaces:
                language = space.collection.language
                if await hybrid.count_words(conn, asked.hybrid.text, language):
                    return
        why = "has no word that is no stop word of the collection's language"
        raise Invalid(Violation("hybrid.text", why))


async def all_of(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them give, run at the same time; raises what the first fault was."""
    if len(works) == 1:
        return [await works[0]]
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work) for work in works]
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
    return [task.result() for task in running]


async def _choice(asked: Asked, legs: Sequence[Leg]) -> Choice:
    if asked.strength is None:
        return choosing.choose(asked, legs)
    # Up to 1000 candidates compared with one another: too long for the event loop.
    return await asyncio.to_thread(choosing.choose, asked, legs)


def _check_alike(spaces: Sequence[Space]) -> None:
    if len({space.collection.collection_uid for space in spaces}) < len(spaces):
        raise Invalid(Violation("collections", "two names are of the same collection"))
    kinds = {
        (s.collection.embedding_model, s.collection.dimension, s.collection.distance)
        for s in spaces
    }
    if len(kinds) > 1:
        why = "are not all of one embedding model, dimension and distance"
        raise Invalid(Violation("collections", why))


def _checked(field: str, message: Vector, space: Space) -> bytes:
    vector, checks = vector_bytes(message), Checks()
    rule = VectorRule(space.collection.dimension, space.collection.distance)
    if fault := rule.fault(vector):
        checks.fault(field, fault)
    checks.done()
    return vector


def _example(name: ExampleName, space: Space) -> examples.Example:
    collection = space.collection
    return examples.Example(
        collection.collection_uid, collection.active_space_uid, name.document_id, name.chunk_id
    )
