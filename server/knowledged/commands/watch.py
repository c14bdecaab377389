"""`knowledged watch`: the changes of a collection's documents, as JSON lines, as they are made."""

import argparse
import asyncio
import sys
from datetime import UTC

import grpc.aio
import orjson
import uvloop

from knowledge.v1.knowledge_service_pb2 import DocumentChange, WatchDocumentsRequest
from knowledged.commands import client
from knowledged.commands.client import (
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    Client,
    RpcError,
    is_broken,
    open_client,
    status_line,
)
from knowledged.names import collection_name
from knowledged.settings import Settings

HELP = "follow the changes of a collection's documents"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--collection", required=True, metavar="ID")
    parser.add_argument(
        "--start",
        type=int,
        metavar="INDEX",
        help="the first index of the audit log; default: what comes from now on",
    )
    parser.add_argument("--count", type=int, metavar="N", help="end after so many changes")
    client.add_arguments(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 when the count is reached; 1 for a refusal. A server that is away is waited for."""
    try:
        uvloop.run(_watch(arguments, settings))
    except RpcError as error:
        print(status_line(error), file=sys.stderr)
        return 1
    return 0


async def _watch(arguments: argparse.Namespace, settings: Settings) -> None:
    request = WatchDocumentsRequest(
        parent=collection_name(arguments.collection), start_log_index=arguments.start
    )
    left = arguments.count or sys.maxsize
    async with open_client(arguments.target, settings, arguments.token_file) as opened:
        wait = FIRST_WAIT_SECONDS
        while left:
            try:
                left = await _follow(opened, request, left)
                wait = FIRST_WAIT_SECONDS
            except RpcError as error:
                if not is_broken(error):
                    raise
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)


async def _follow(opened: Client, request: WatchDocumentsRequest, left: int) -> int:
    """Prints changes until the stream ends; how many are left of those wanted. The request then
    says where to go on."""
    call = opened.begin(opened.knowledge.WatchDocuments, request)
    while left and (answer := await call.read()) is not grpc.aio.EOF:
        for change in answer.changes[:left]:
            _print(change)
        left -= len(answer.changes[:left])
        request.start_log_index, request.origin = answer.next_log_index, answer.origin
    call.cancel()
    return left


def _print(change: DocumentChange) -> None:
    line = {
        "log_index": change.log_index,
        "action": change.action,
        "name": change.name,
        "revision": change.revision,
        "event_id": change.event_id,
        "occurred_at": change.occurred_at.ToDatetime(UTC),
    }
    print(orjson.dumps(line).decode(), flush=True)
