"""`knowledged models`: the embedding models that a server offers, or that its collections use."""

import argparse
import sys

import uvloop

from knowledge.v1 import config_service_pb2 as pb
from knowledged.commands import client
from knowledged.commands.client import RpcError, open_client, status_line
from knowledged.settings import Settings

HELP = "list the embedding models of a server"

_COLUMNS = ("model", "provider", "dimension", "tokens", "collections", "state")
_STATE = "PROVIDER_STATE_"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Only where the server is and who calls."""
    client.add_arguments(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 when they were listed; 1 when that was refused."""
    try:
        uvloop.run(_list(arguments, settings))
    except RpcError as error:
        print(status_line(error), file=sys.stderr)
        return 1
    return 0


async def _list(arguments: argparse.Namespace, settings: Settings) -> None:
    async with open_client(arguments.target, settings, arguments.token_file) as opened:
        request = pb.ListEmbeddingModelsRequest()
        answer = await opened.call(opened.config.ListEmbeddingModels, request)
    rows = [_COLUMNS, *map(_row, answer.models)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def _row(each: pb.OfferedModel) -> tuple[str, ...]:
    model = each.model
    name = f"{model.model_id} (default)" if each.is_default else model.model_id
    provider = each.provider or "none: vectors only"
    counts = model.dimension or "", model.max_tokens or "", each.collection_count
    return name, provider, *map(str, counts), _state(each.status) if each.remote else ""


def _state(status: pb.ProviderStatus) -> str:
    state = pb.ProviderState.Name(status.state).removeprefix(_STATE).lower()
    return f"{state}: {status.reason}" if status.reason else state
