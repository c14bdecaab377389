"""The audit log's latest events, for people."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from knowledge.v1.audit_event_pb2 import AuditEvent, AuditOutcome
from knowledge.v1.audit_service_pb2 import ListAuditEventsRequest
from knowledged.commands.client import Client
from knowledged.commands.printable import printable

_COLUMNS = ("time (UTC)", "actor", "action", "resource", "outcome")


async def show_trail(console: Console, client: Client, latest: int) -> None:
    """The `latest` events, newest first, and how many there are in all."""
    request = ListAuditEventsRequest(page_size=latest)
    answer = await client.call(client.audit.ListAuditEvents, request)
    console.print(_table(list(answer.events)))
    total = await _count(client)
    console.print(f"{total:,} events in all, each committed with its change", highlight=False)


async def _count(client: Client) -> int:
    request, total = ListAuditEventsRequest(page_size=1_000), 0
    while True:
        page = await client.call(client.audit.ListAuditEvents, request)
        total += len(page.events)
        request.page_token = page.next_page_token
        if not request.page_token:
            return total


def _table(events: list[AuditEvent]) -> Table:
    table = Table(*_COLUMNS, box=box.SIMPLE_HEAD)
    for event in events:
        table.add_row(*(Text(printable(cell)) for cell in _cells(event)))
    return table


def _cells(event: AuditEvent) -> tuple[str, ...]:
    outcome = AuditOutcome.Name(event.outcome).removeprefix("AUDIT_OUTCOME_").lower()
    at = event.occurred_at.ToDatetime().isoformat(" ", "milliseconds")
    return at, event.actor, event.action, ", ".join(event.resources), outcome
