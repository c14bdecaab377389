"""`knowledged export`: a collection's documents as JSON lines; `knowledged import` reads them."""

import argparse
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import grpc.aio
import orjson
import uvloop

from knowledge.v1.document_pb2 import ORIGIN_CALLER, Document
from knowledge.v1.knowledge_service_pb2 import ExportDocumentsRequest
from knowledged.commands import client
from knowledged.commands.client import RpcError, open_client, status_line
from knowledged.names import collection_name
from knowledged.services.json_struct import to_json
from knowledged.settings import Settings

HELP = "write a collection's documents, as of one moment, as JSON lines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--collection", required=True, metavar="ID")
    parser.add_argument("--filter", default="", help="see docs/filters.md")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: to standard output")
    client.add_arguments(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 when every document is written; 1 when not; 2 when the file is at fault."""
    try:
        return uvloop.run(_export(arguments, settings))
    except RpcError as error:
        print(status_line(error), file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2


async def _export(arguments: argparse.Namespace, settings: Settings) -> int:
    request = ExportDocumentsRequest(
        parent=collection_name(arguments.collection), filter=arguments.filter
    )
    written = left_out = 0
    with _output(arguments.output) as file:
        async with open_client(arguments.target, settings, arguments.token_file) as opened:
            call = opened.begin(opened.knowledge.ExportDocuments, request)
            while (answer := await call.read()) is not grpc.aio.EOF:
                lines = [_line(each) for each in answer.documents if _is_whole(each)]
                file.write(b"".join(lines))
                written += len(lines)
                left_out += len(answer.documents) - len(lines)
    print(f"{written:,} documents", file=sys.stderr)
    if left_out:
        print(f"{left_out:,} left out: their chunks were given by callers", file=sys.stderr)
    return 1 if left_out else 0


@contextmanager
def _output(path: Path | None) -> Generator[BinaryIO]:
    """The file is there when all of it is written, or not at all."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _is_whole(document: Document) -> bool:
    return document.origin != ORIGIN_CALLER


def _line(document: Document) -> bytes:
    """What `reader` takes; empty fields are left out."""
    fields: dict[str, object] = {
        "document_id": document.name.rpartition("/")[2],
        "title": document.title,
        "content": document.content,
        "mime_type": document.mime_type,
        "source_uri": document.source_uri,
        "metadata": to_json(document.metadata),
        "labels": dict(document.labels),
        "subject_ids": list(document.subject_ids),
    }
    kept = {name: value for name, value in fields.items() if value}
    return orjson.dumps(kept, option=orjson.OPT_APPEND_NEWLINE)
