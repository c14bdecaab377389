"""`knowledged search`: finds what is near to a text, or holds its words, or both."""

import argparse
import sys

import uvloop
from rich.console import Console

from knowledge.v1.vector_service_pb2 import HybridQuery, SearchRequest
from knowledged.commands import client
from knowledged.commands.client import RpcError, open_client, status_line
from knowledged.commands.hits import show_hits
from knowledged.names import collection_name
from knowledged.settings import Settings

HELP = "find what is near to a text, by meaning or by words"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("text", metavar="TEXT")
    parser.add_argument("--collection", required=True, metavar="ID")
    parser.add_argument("--limit", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument("--filter", default="", help="see docs/filters.md")
    parser.add_argument(
        "--exact", action="store_true", help="compare with every chunk instead of using the index"
    )
    parser.add_argument(
        "--by",
        choices=("meaning", "words", "both"),
        default="meaning",
        help='default: meaning; "both" also honours codes and what is in double quotes',
    )
    client.add_arguments(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 when the search was done, also when it found nothing; 1 when it was refused."""
    try:
        uvloop.run(_search(arguments, settings))
    except RpcError as error:
        print(status_line(error), file=sys.stderr)
        return 1
    return 0


async def _search(arguments: argparse.Namespace, settings: Settings) -> None:
    request = SearchRequest(
        collection=collection_name(arguments.collection),
        highlight=True,
        limit=arguments.limit,
        filter=arguments.filter,
        exact=arguments.exact,
    )
    if arguments.by == "meaning":
        request.text = arguments.text
    else:
        request.hybrid.CopyFrom(_hybrid(arguments))
    async with open_client(arguments.target, settings, arguments.token_file) as opened:
        show_hits(Console(), await opened.call(opened.vector.Search, request))


def _hybrid(arguments: argparse.Namespace) -> HybridQuery:
    if arguments.by == "words":
        return HybridQuery(text=arguments.text, vector_weight=0, text_weight=1)
    return HybridQuery(text=arguments.text)
