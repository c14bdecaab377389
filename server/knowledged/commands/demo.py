"""`knowledged demo`: a server of its own, 16,449 medical terms, six questions, the audit trail."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator

import uvloop
from rich.console import Console

from knowledge.v1.collection_pb2 import Collection
from knowledge.v1.document_pb2 import Document
from knowledge.v1.vector_service_pb2 import SearchRequest
from knowledged import logs
from knowledged.commands import hpo
from knowledged.commands.audit_trail import show_trail
from knowledged.commands.client import Client, RpcError, open_client, status_line
from knowledged.commands.hits import show_hits
from knowledged.commands.hpo import Term, TermsMissing
from knowledged.commands.import_progress import show_report, shown_progress
from knowledged.commands.importer import Importer, open_collection
from knowledged.commands.reader import Item
from knowledged.settings import Settings

HELP = "import 16,449 medical terms into a server of its own, search them, show the audit trail"

COLLECTION_ID = "hpo"
QUESTIONS = (
    "high blood pressure",
    "kidney stones",
    "can't sleep at night",
    "nosebleed",
    "trouble swallowing",
    "sees everything double",
)
_OWN: dict[str, object] = {
    "host": "127.0.0.1",
    "port": 0,
    "metrics_port": 0,
    "auth": "none",
    "access_file": None,
    "tls_cert_file": None,
    "tls_key_file": None,
    "tls_client_ca_file": None,
    "secret_key_file": None,
    "database_url": None,
    "token_file": None,
}
HITS = 3
EVENTS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options: its data lies in the folder `demo` of KNOWLEDGED_DATA_DIR."""


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 when every term is there and every question was answered."""
    logs.configure("warning")
    try:
        return uvloop.run(_demo(_own(settings)))
    except RpcError as error:
        print(status_line(error), file=sys.stderr)
        return 1
    except TermsMissing as error:
        print(f"knowledged demo: {error}", file=sys.stderr)
        return 2


def _own(settings: Settings) -> Settings:
    """Embedded defaults, on a free port, with data of its own: in nobody's way."""
    return settings.model_copy(update={**_OWN, "data_dir": settings.data_dir / "demo"})


async def _demo(settings: Settings) -> int:
    # Imported late: `knowledged demo --help` needs no server.
    from knowledged.commands.serve import server

    console, terms = Console(), hpo.read_terms(hpo.locate())
    async with server(settings) as (running, urls):
        target = f"127.0.0.1:{running.port}"
        console.print(
            f"knowledged serves at {target}; its data lies in {urls.data}", soft_wrap=True
        )
        async with open_client(target, settings) as client:
            collection = await open_collection(client, COLLECTION_ID, create=True)
            complete = await _import(console, client, collection, terms)
            await _ask(console, client, collection)
            console.rule("the audit trail")
            await show_trail(console, client, EVENTS)
    return 0 if complete else 1


async def _import(
    console: Console, client: Client, collection: Collection, terms: list[Term]
) -> bool:
    console.rule(f"{len(terms):,} terms of the Human Phenotype Ontology")
    started = time.monotonic()
    with shown_progress(console, len(terms)) as tell:
        report = await Importer(client, collection, tell).run(_items(terms))
    show_report(console, report, time.monotonic() - started)
    return report.complete


async def _ask(console: Console, client: Client, collection: Collection) -> None:
    for question in QUESTIONS:
        request = SearchRequest(collection=collection.name, text=question, limit=HITS)
        started = time.monotonic()
        answer = await client.call(client.vector.Search, request)
        console.rule(f'"{question}", {(time.monotonic() - started) * 1000:.0f} ms')
        show_hits(console, answer)


def _items(terms: Iterable[Term]) -> Iterator[Item]:
    for term in terms:
        document = Document(title=term.name, content=term.article, mime_type="text/plain")
        document.metadata.update({"hpo": term.term_id})
        yield Item(term.term_id, document)
