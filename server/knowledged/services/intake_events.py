"""What the items of a stream that change nothing leave in the audit log: an event for each reason
and batch, not for each item, so that a stream of bad ones cannot flood it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7

from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.call import AuditClass, Call
from knowledged.store import audit_events
from knowledged.store.audit_events import Entry
from knowledged.store.intake_sessions import Outcome, State

_DONE, _REFUSED = 1, 2
# Of one event; more make another, as with readings.
_MOST_NAMES = 250

# How an item ended, as the action tells it, and the code of its error.
_Ending = tuple[str, int]


@dataclass(frozen=True, slots=True)
class IntakeEvents:
    """Makes the events of one stream. `action` is that of the method, `parent` what its start
    names."""

    call: Call
    action: str
    parent: str
    collection_uid: UUID

    def entries(self, outcomes: Sequence[Outcome]) -> list[Entry]:
        """None for items that were written: these have events of their own."""
        groups: dict[_Ending, list[Outcome]] = {}
        for outcome in outcomes:
            if outcome.state not in (State.CREATED, State.UPDATED):
                groups.setdefault(_ending(outcome), []).append(outcome)
        made = [event for each in groups.items() for event in self._events(*each)]
        return [audit_events.entry(event)[0] for event in made]

    def _events(self, ending: _Ending, group: Sequence[Outcome]) -> Iterator[Event]:
        """Of refusals the parent and how many; of what is there already its names, too: an ack
        tells them."""
        names = [outcome.resource for outcome in group]
        if ending[1]:
            yield self._event(ending, (self.parent,), len(group))
            return
        for first in range(0, len(names), _MOST_NAMES):
            some = tuple(names[first : first + _MOST_NAMES])
            yield self._event(ending, tuple(dict.fromkeys(some)), len(some))

    def _event(self, ending: _Ending, resources: tuple[str, ...], count: int) -> Event:
        call, (reason, code) = self.call, ending
        payload = Payload(
            call.principal.subject,
            call.on_behalf_of,
            call.purpose,
            call.peer,
            call.call_id,
            resources,
        )
        return Event(
            event_id=uuid7(),
            occurred_at=datetime.now(UTC),
            audit_class=call.method.audit_class if code else AuditClass.READ,
            outcome=_REFUSED if code else _DONE,
            grpc_code=code,
            collection_uid=self.collection_uid,
            result_count=count,
            rpc=call.method.path,
            action=f"{self.action}:{reason}",
            payload=payload,
            salt=new_salt(),
        )


def _ending(outcome: Outcome) -> _Ending:
    return (outcome.reason, outcome.code) if outcome.code else (outcome.state.name, 0)
