"""`knowledged import`: brings files into a collection; run again, it doubles nothing."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from rich.console import Console

from knowledge.v1.collection_pb2 import Collection
from knowledged.commands import client, reader
from knowledged.commands.client import Client, RpcError, open_client, status_line
from knowledged.commands.import_progress import show_report, shown_progress
from knowledged.commands.importer import Importer, count_waiting, open_collection
from knowledged.commands.reader import InputError, Source
from knowledged.settings import Settings

HELP = "bring JSON lines, text and Markdown into a collection; may be run again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help=".jsonl, .txt, .md, or a folder of them"
    )
    parser.add_argument("--collection", required=True, metavar="ID")
    parser.add_argument(
        "--create", action="store_true", help="make the collection if it is missing"
    )
    client.add_arguments(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 when every document is there; 1 when some are not; 2 when a path is at fault."""
    try:
        sources = reader.find_sources(arguments.paths)
        return uvloop.run(_import(arguments, settings, sources))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except RpcError as error:
        print(status_line(error), file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2


async def _import(
    arguments: argparse.Namespace, settings: Settings, sources: Sequence[Source]
) -> int:
    console = Console()
    async with open_client(arguments.target, settings, arguments.token_file) as opened:
        collection = await open_collection(opened, arguments.collection, create=arguments.create)
        started = time.monotonic()
        with shown_progress(console, reader.count(sources)) as tell:
            report = await Importer(opened, collection, tell).run(reader.read(sources))
        show_report(console, report, time.monotonic() - started)
        if report.stopped is None:
            await _show_waiting(console, opened, collection)
    return 0 if report.complete else 1


async def _show_waiting(console: Console, opened: Client, collection: Collection) -> None:
    waiting = await count_waiting(opened, collection)
    if waiting:
        console.print(
            f"{waiting:,} of the collection's documents wait for their vectors;"
            " searches find them when the server has made these",
            highlight=False,
        )
