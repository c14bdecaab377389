"""The whole life of documents, against a plain model: hypothesis looks for a difference."""

import asyncio
import uuid
from typing import Any

import pytest
from document_machine import World, machine_of
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test


async def check(
    knowledge: Any, vectors: Any, make_collection: Any, examples: int, steps: int
) -> None:
    alias = f"alias-{uuid.uuid4().hex}"
    both = await make_collection(aliases=[alias]), await make_collection()
    world = World(asyncio.get_running_loop(), knowledge, vectors, both, alias)
    bounds = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        # As hypothesis does where CI is set: all quarters would run the same examples.
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    await asyncio.to_thread(run_state_machine_as_test, machine_of(world), settings=bounds)


@pytest.mark.parametrize("quarter", range(4))
async def test_documents_live_as_a_plain_model_says(
    knowledge: Any, vectors: Any, make_collection: Any, quarter: int
) -> None:
    """200 examples, which several processes share."""
    await check(knowledge, vectors, make_collection, examples=50, steps=10)


@pytest.mark.slow
async def test_documents_live_as_a_plain_model_says_for_long(
    knowledge: Any, vectors: Any, make_collection: Any
) -> None:
    await check(knowledge, vectors, make_collection, examples=500, steps=60)
