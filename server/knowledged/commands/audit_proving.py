"""`knowledged audit prove`, `key`, `export` and `verify`: what a server says, checked here."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from knowledge.v1.audit_service_pb2 import (
    ExportAuditEventsRequest,
    GetCheckpointRequest,
    GetInclusionProofRequest,
    VerifyAuditLogRequest,
    VerifyAuditLogResponse,
)
from knowledged.commands.client import Client
from knowledged.commands.findings import GOOD, show_report
from knowledged.commands.trust import Trust, read_keys
from knowledged.ledger import merkle
from knowledged.ledger.checkpoints import open_trusted
from knowledged.ledger.checks import Fault
from knowledged.ledger.folder import read_notes
from knowledged.ledger.keys import parse_known
from knowledged.ledger.merkle import ProofError
from knowledged.ledger.verifier import Report
from knowledged.names import AUDIT_EVENTS
from knowledged.settings import Settings


def add_arguments(parsers: Mapping[str, argparse.ArgumentParser]) -> None:
    parsers["prove"].add_argument("event_id", metavar="EVENT_ID", help="of a receipt")
    parsers["prove"].add_argument(
        "--leaf-hash", metavar="HEX", type=bytes.fromhex, help="that of the receipt, compared"
    )
    parsers["export"].add_argument("file", metavar="FILE", type=Path)
    parsers["export"].add_argument("--start", type=int, default=0, metavar="INDEX")
    parsers["export"].add_argument(
        "--tree-size", type=int, default=0, metavar="N", help="of a checkpoint; default: the latest"
    )


async def prove(opened: Client, arguments: argparse.Namespace, settings: Settings) -> int:
    """Checks the proof here; the server is believed nothing but, without --key, its own keys."""
    request = GetInclusionProofRequest(name=f"{AUDIT_EVENTS}/{arguments.event_id}")
    proof = await opened.call(opened.audit.GetInclusionProof, request)
    trust = await _trust(opened, arguments, settings)
    head = open_trusted(proof.checkpoint.note, trust.keys_of)
    if arguments.leaf_hash not in (None, proof.leaf_hash):
        raise ProofError("the event's leaf hash is not the one of the receipt")
    if head.tree_size != proof.tree_size:
        raise ProofError("the checkpoint is not of the tree that the proof is for")
    index, hashes = proof.log_index, list(proof.hashes)
    merkle.verify_inclusion(index, head.tree_size, proof.leaf_hash, hashes, head.root)
    print(f"event {arguments.event_id} is leaf {index} of the {head.tree_size} that are signed:\n")
    print(proof.checkpoint.note, end="")
    return GOOD


async def _trust(opened: Client, arguments: argparse.Namespace, settings: Settings) -> Trust:
    if arguments.key or settings.audit_known_keys_file:
        return read_keys(arguments.key, settings)
    print("no --key is given: the server's own word is taken for its keys", file=sys.stderr)
    answer = await opened.call(opened.audit.GetCheckpoint, GetCheckpointRequest())
    return Trust(tuple(parse_known(answer.verifier_keys)))


async def show_keys(opened: Client, arguments: argparse.Namespace, settings: Settings) -> int:
    answer = await opened.call(opened.audit.GetCheckpoint, GetCheckpointRequest())
    for key in answer.verifier_keys:
        print(key)
    return GOOD


async def export(opened: Client, arguments: argparse.Namespace, settings: Settings) -> int:
    """Written beside and moved in at the end: a file that is there is whole."""
    request = ExportAuditEventsRequest(
        start_log_index=arguments.start, tree_size=arguments.tree_size
    )
    draft, digest = arguments.file.with_name(f".{arguments.file.name}.part"), b""
    try:
        with draft.open("wb") as file:
            async for answer in opened.stream(opened.audit.ExportAuditEvents, request):
                file.write(answer.lines)
                digest = answer.manifest_sha256
        draft.replace(arguments.file)
    finally:
        draft.unlink(missing_ok=True)
    print(f"{arguments.file}: manifest {digest.hex()}")
    return GOOD


async def verify(opened: Client, arguments: argparse.Namespace, settings: Settings) -> int:
    """The server checks itself, against checkpoints that are kept here."""
    notes = [note for path in arguments.checkpoint for note in read_notes(path)]
    request = VerifyAuditLogRequest(checkpoints=notes[-_MOST_NOTES:])
    console, last = Console(), VerifyAuditLogResponse()
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("verifying", total=None)
        async for last in opened.stream(opened.audit.VerifyAuditLog, request):
            bar.update(task, completed=last.verified_leaves, total=last.tree_size)
    head = await opened.call(opened.audit.GetCheckpoint, GetCheckpointRequest())
    return show_report(console, _report(last, head.checkpoint.origin))


_MOST_NOTES = 100


def _report(result: VerifyAuditLogResponse, origin: str) -> Report:
    faults = [
        Fault(
            each.check,
            each.log_index if each.HasField("log_index") else None,
            each.description,
            each.until_log_index if each.HasField("until_log_index") else None,
        )
        for each in result.faults
    ]
    return Report(
        origin=origin,
        tree_size=result.tree_size,
        root=result.root_hash,
        entries=result.verified_leaves,
        erased=result.erased_events,
        hidden=0,
        checkpoints=result.checkpoints,
        faults=faults,
        first_bad_index=result.first_bad_index if result.HasField("first_bad_index") else None,
    )
