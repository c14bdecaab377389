"""Fails closed: no call is answered with OK unless it is in the audit log.

A mutation's event is in its own statement. What reads, is refused or fails is recorded here, before
the answer leaves.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import cast

from google.protobuf.message import DecodeError, Message

from knowledged.call import NOBODY, AuditClass, Call, Method, Receipt
from knowledged.errors import Code, Denied, Overloaded
from knowledged.interceptors.asked import Asked
from knowledged.interceptors.hall import Handler
from knowledged.interceptors.occurrence import Occurrence, action_of, occurrence
from knowledged.interceptors.outcome import outcome_of
from knowledged.interceptors.recorder import Recorder

# A refusal discloses nothing, so it does not wait for a slow database much longer than for a quick
# one, nor for more than half of the time that its caller has left; its event is written all the
# same.
_REFUSAL_WAITS_SECONDS = 1.0


class MissingReceipt(Exception):
    """A mutation succeeded without an audit event. Our own bug: it leaves as INTERNAL."""


@dataclass(frozen=True, slots=True)
class Auditing:
    """Wraps every method that tells or changes anything."""

    recorder: Recorder
    asked: Asked

    def __call__(self, method: Method, handler: Handler) -> Handler:
        if method.audit_class is AuditClass.NONE:
            return handler
        record = _Record(self, method, action_of(method))
        if method.streams:
            return record.watched(record.streamed(handler))
        return record.answered(record.watched(handler))


@dataclass(frozen=True, slots=True)
class _Record:
    """Records the calls of one method."""

    audit: Auditing
    method: Method
    action: str

    def watched(self, handler: Handler) -> Handler:
        async def handle(call: Call, request: bytes) -> bytes:
            try:
                return await handler(call, request)
            except (Exception, asyncio.CancelledError) as error:
                await self._refused(call, error, request)
                raise

        return handle

    def answered(self, handler: Handler) -> Handler:
        async def handle(call: Call, request: bytes) -> bytes:
            answer = await handler(call, request)
            if call.receipt is None and self.method.mutates:
                await self._unchanged(call)
            elif call.receipt is None:
                call.receipt = await self._recorded(call)
            return answer

        return handle

    def streamed(self, handler: Handler) -> Handler:
        """A stream's changes carry receipts of their own. What it is about to send is recorded
        before it leaves; one that sends nothing leaves an event all the same."""

        async def handle(call: Call, request: bytes) -> bytes:
            recorded = self.method.mutates

            async def record_reading() -> None:
                nonlocal recorded
                if call.readings:
                    recorded, call.receipt = True, await self._recorded(call)

            assert call.stream is not None  # noqa: S101 - gRPC calls streaming methods so
            call.stream.before_sending = record_reading
            answer = await handler(call, request)
            await record_reading()
            if not recorded and call.receipt is None:
                call.receipt = await self._recorded(call)
            return answer

        return handle

    async def _refused(self, call: Call, error: BaseException, request: bytes = b"") -> None:
        """Of a change that was made the event is there. Without the database the call is refused
        all the same."""
        code = outcome_of(call, error).code
        self.audit.recorder.metrics.refused(code)
        if call.receipt is not None and self.method.mutates:
            return
        call.readings.clear()
        if isinstance(error, Denied):
            self._read(call, request)
        what = self._occurrence(call, code)
        if call.principal is NOBODY or isinstance(error, Overloaded):
            self.audit.recorder.count(replace(what, action="calls.refuse"))
        elif isinstance(error, asyncio.CancelledError):
            self.audit.recorder.note(what)
        else:
            with suppress(Exception):
                async with asyncio.timeout(call.seconds_left(2 * _REFUSAL_WAITS_SECONDS) / 2):
                    await self.audit.recorder.record(what)

    def _read(self, call: Call, request: bytes) -> None:
        """Auth denies before the message is read; the log wants to know what was asked for."""
        if call.asking is None and self.method.request_class is not None:
            with suppress(DecodeError):
                call.asking = self.method.request_class.FromString(request)

    async def _unchanged(self, call: Call) -> None:
        """A dry run, or nothing to do: it changed nothing, but may have told something."""
        if not call.unaudited:
            bug = MissingReceipt(self.method.path)
            await self._refused(call, bug)
            raise bug
        what = self._occurrence(call, Code.OK)
        action, read = f"{self.action}.unchanged", AuditClass.READ
        what = replace(what, action=action, audit_class=read)
        await self.audit.recorder.record(what, call.left)

    async def _recorded(self, call: Call) -> Receipt | None:
        return await self.audit.recorder.record(self._occurrence(call, Code.OK), call.left)

    def _occurrence(self, call: Call, code: Code) -> Occurrence:
        asking = cast("Message | None", call.asking)
        asked = self.audit.asked(asking, queries=not self.method.mutates)
        return occurrence(
            call, self.action, code, datetime.now(UTC), asked, self.method.audit_class
        )
