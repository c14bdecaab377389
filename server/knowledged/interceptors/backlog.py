"""Stops writes while too many audit events wait to be sequenced: the queue has an end."""

from knowledged.call import Call, Method
from knowledged.interceptors.hall import Handler
from knowledged.ledger.backlog import Backlog


def limit_backlog(backlog: Backlog, method: Method, handler: Handler) -> Handler:
    """Wraps mutating methods; others pass as they are."""
    if not method.mutates:
        return handler

    async def handle(call: Call, request: bytes) -> bytes:
        backlog.check()
        return await handler(call, request)

    return handle
