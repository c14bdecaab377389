"""Puts what happens to keys and providers into the log and the audit log."""

import asyncio
from datetime import UTC, datetime

import structlog
from uuid_utils.compat import uuid7

from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.call import AuditClass
from knowledged.database import Database
from knowledged.errors import Code, status_of
from knowledged.notices import Notice, Notices
from knowledged.store import audit_events

ACTOR = "knowledged"
_DONE, _FAILED = 1, 3
_RETRY_SECONDS = 1.0


class NoticeRecorder:
    """Records each notice once, in order; while the database is away they wait."""

    def __init__(self, database: Database, notices: Notices) -> None:
        self._database = database
        self._notices = notices

    async def run(self) -> None:
        while True:
            notice = await self._notices.next()
            _log(notice)
            await self._record(_event(notice))

    async def _record(self, event: Event) -> None:
        """Tries until it is done; what a lost try has written already is left alone."""
        written, _ = audit_events.entry(event)
        while True:
            try:
                async with self._database.write() as conn:
                    return await audit_events.append(conn, [written])
            except Exception as error:
                reason = status_of(error).reason
                structlog.get_logger().warning("notice_not_recorded", reason=reason)
            await asyncio.sleep(_RETRY_SECONDS)


def _log(notice: Notice) -> None:
    log = structlog.get_logger()
    tell = log.warning if notice.reason else log.info
    tell("provider_notice", action=notice.action, reason=notice.reason, about=notice.resources)


def _event(notice: Notice) -> Event:
    payload = Payload(
        actor=ACTOR,
        on_behalf_of="",
        purpose="",
        peer="",
        call_id="",
        resources=notice.resources,
        subject_ids=(),
    )
    return Event(
        event_id=uuid7(),
        occurred_at=datetime.now(UTC),
        audit_class=AuditClass.ADMIN,
        outcome=_DONE if notice.code is Code.OK else _FAILED,
        grpc_code=notice.code,
        collection_uid=None,
        result_count=len(notice.resources),
        rpc="",
        action=f"{notice.action}:{notice.reason}" if notice.reason else notice.action,
        payload=payload,
        salt=new_salt(),
    )
