"""Fails closed: no mutation is answered with OK unless its event is in the audit log."""

from knowledged.call import Call, Method
from knowledged.interceptors.hall import Handler


class MissingReceipt(Exception):
    """A mutation succeeded without an audit event. Our own bug: it leaves as INTERNAL."""


def audit(method: Method, handler: Handler) -> Handler:
    """Wraps mutating methods; others pass as they are, and so do streams.

    A stream changes many things; each answer in it carries the receipt of its own.
    """
    if not method.mutates or method.streams:
        return handler

    async def handle(call: Call, request: bytes) -> bytes:
        answer = await handler(call, request)
        if call.receipt is None and not call.unaudited:
            raise MissingReceipt(method.path)
        return answer

    return handle
