"""`knowledged recall`: measures how well a collection's index finds."""

import argparse
import sys

import uvloop
from rich.console import Console

from knowledge.v1.vector_service_pb2 import (
    MeasureRecallRequest,
    MeasureRecallResponse,
    SearchPlan,
)
from knowledged.commands import client
from knowledged.commands.client import RpcError, open_client, status_line
from knowledged.names import collection_name
from knowledged.settings import Settings

HELP = "measure what share of the nearest a collection's index finds"

_PLANS = {
    SearchPlan.SEARCH_PLAN_EXACT: "every vector is compared: there is no index",
    SearchPlan.SEARCH_PLAN_FILTER_FIRST: "all that pass the filter are compared",
    SearchPlan.SEARCH_PLAN_INDEX: "by the index",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--collection", required=True, metavar="ID")
    parser.add_argument("--sample", type=int, default=20, metavar="N", help="queries; default: 20")
    parser.add_argument("--limit", type=int, default=10, metavar="N", help="hits; default: 10")
    parser.add_argument("--ef", type=int, metavar="N", help="default: as searches do")
    parser.add_argument("--filter", default="", help="see docs/filters.md")
    client.add_arguments(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 when it was measured; 1 when it was refused."""
    try:
        uvloop.run(_measure(arguments, settings))
    except RpcError as error:
        print(status_line(error), file=sys.stderr)
        return 1
    return 0


async def _measure(arguments: argparse.Namespace, settings: Settings) -> None:
    request = MeasureRecallRequest(
        collection=collection_name(arguments.collection),
        sample_size=arguments.sample,
        limit=arguments.limit,
        ef=arguments.ef,
        filter=arguments.filter,
    )
    async with open_client(arguments.target, settings, arguments.token_file) as opened:
        answer = await opened.call(opened.vector.MeasureRecall, request)
    _show(Console(), answer, arguments.limit)


def _show(console: Console, answer: MeasureRecallResponse, limit: int) -> None:
    style = "bold green" if answer.recall >= 0.95 else "bold yellow"
    plan = _PLANS.get(answer.plan, "in no known way")
    with_ef = f", ef {answer.ef}" if answer.ef else ""
    console.print(
        f"recall@{limit} [{style}]{answer.recall:.3f}[/], lowest {answer.lowest_recall:.3f}"
    )
    console.print(f"{answer.query_count} queries, {plan}{with_ef}", highlight=False)
    for what, latency in (("search", answer.latency), ("exact", answer.exact_latency)):
        console.print(
            f"{what:>6}: p50 {latency.p50_milliseconds:.2f} ms,"
            f" p95 {latency.p95_milliseconds:.2f} ms in the database",
            highlight=False,
        )
