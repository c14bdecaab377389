"""Stops writes while too many audit events wait to be sequenced: the queue has an end."""

from dataclasses import dataclass

from knowledged.call import Call, Method
from knowledged.interceptors.hall import Handler
from knowledged.ledger.backlog import Backlog


@dataclass(frozen=True, slots=True)
class StopWrites:
    """Looks at a number in memory before each mutation; other methods pass as they are."""

    backlog: Backlog

    def __call__(self, method: Method, handler: Handler) -> Handler:
        if not method.mutates:
            return handler

        async def handle(call: Call, request: bytes) -> bytes:
            self.backlog.check()
            return await handler(call, request)

        return handle
