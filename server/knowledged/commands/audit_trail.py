"""The audit log's latest events, for people."""

from rich.console import Console
from rich.text import Text

from knowledge.v1.audit_event_pb2 import AuditEvent, AuditOutcome
from knowledge.v1.audit_service_pb2 import ListAuditEventsRequest
from knowledged.commands.client import Client
from knowledged.commands.printable import printable


async def show_trail(console: Console, client: Client, latest: int) -> None:
    """The `latest` events, newest first, and how many there are in all."""
    request = ListAuditEventsRequest(page_size=latest)
    answer = await client.call(client.audit.ListAuditEvents, request)
    for event in answer.events:
        console.print(event_line(event), soft_wrap=True)
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


def event_line(event: AuditEvent) -> Text:
    """Time in UTC, actor, action, outcome, resources."""
    outcome = AuditOutcome.Name(event.outcome).removeprefix("AUDIT_OUTCOME_").lower()
    at = event.occurred_at.ToDatetime().isoformat(" ", "milliseconds")
    return Text.assemble(
        (at, "dim"),
        f"  {printable(event.actor):<9}  {event.action:<18}  ",
        (f"{outcome:<7}", "green" if event.outcome == AuditOutcome.AUDIT_OUTCOME_DONE else "red"),
        (f"  {printable(', '.join(event.resources))}", "cyan"),
    )
