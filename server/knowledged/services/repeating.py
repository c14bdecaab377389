"""Trying again: when others changed something meanwhile, and when a request comes again."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from knowledged.call import Call
from knowledged.errors import DomainError
from knowledged.services.supplies import Supplies
from knowledged.store.collections import Space
from knowledged.store.document_steps import NotWritten

Answer = TypeVar("Answer")


async def repeated(
    supplies: Supplies,
    call: Call,
    collection_id: str,
    answered: Callable[[], Awaitable[Answer | None]],
    attempt: Callable[[Space], Awaitable[Answer]],
) -> Answer:
    """What `attempt` gives for the collection; it raises NotWritten to be tried again.

    `answered` gives the answer that an earlier copy of the request had. It is asked again when an
    attempt fails: a copy may have been first since, and be the very thing that stands in its way.
    """
    async for space in supplies.directory.attempts(call, collection_id):
        if (answer := await answered()) is not None:
            return answer
        try:
            return await attempt(space)
        except NotWritten:
            continue
        except DomainError:
            if (answer := await answered()) is not None:
                return answer
            raise
    raise AssertionError("attempts end by raising")
