"""`knowledged audit list` and `tail`."""

import argparse
from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from knowledge.v1.audit_event_pb2 import AuditEvent
from knowledge.v1.audit_service_pb2 import ListAuditEventsRequest, TailAuditEventsRequest
from knowledged.commands.audit_trail import event_line
from knowledged.commands.client import Client
from knowledged.commands.findings import GOOD
from knowledged.settings import Settings

_LARGEST_PAGE = 1_000


def add_arguments(parsers: Mapping[str, argparse.ArgumentParser]) -> None:
    parsers["list"].add_argument("--filter", default="", help="see docs/filters.md")
    parsers["list"].add_argument("--limit", type=int, default=50, metavar="N", help="default: 50")
    parsers["tail"].add_argument(
        "--start", type=int, metavar="INDEX", help="the first log index; default: what is new"
    )
    parsers["tail"].add_argument(
        "--origin", default="", help="end if the log is not called so: it was set back"
    )


async def list_events(opened: Client, arguments: argparse.Namespace, settings: Settings) -> int:
    """The latest first."""
    console, left, token = Console(), arguments.limit, ""
    while left > 0:
        request = ListAuditEventsRequest(
            page_size=min(left, _LARGEST_PAGE), filter=arguments.filter, page_token=token
        )
        page = await opened.call(opened.audit.ListAuditEvents, request)
        for event in page.events:
            _show(console, event)
        left, token = left - len(page.events), page.next_page_token
        if not token:
            break
    return GOOD


async def tail_events(opened: Client, arguments: argparse.Namespace, settings: Settings) -> int:
    """Until it is interrupted."""
    console = Console()
    request = TailAuditEventsRequest(start_log_index=arguments.start, origin=arguments.origin)
    async for answer in opened.stream(opened.audit.TailAuditEvents, request):
        if answer.HasField("event"):
            _show(console, answer.event)
    return GOOD


def _show(console: Console, event: AuditEvent) -> None:
    index = f"{event.log_index:>8}  " if event.HasField("log_index") else f"{'-':>8}  "
    console.print(Text.assemble((index, "dim"), event_line(event)), soft_wrap=True)
