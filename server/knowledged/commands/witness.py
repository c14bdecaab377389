"""`knowledged witness DIR`: keeps a server's checkpoints elsewhere, each proved from the last.

Exit codes: 0 each one did (with --once, or when stopped); 1 one did not, or is of another log: keep
the folder, it is the evidence; 2 it could not be asked.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from knowledge.v1.audit_service_pb2 import GetCheckpointRequest, GetConsistencyProofRequest
from knowledged.commands import client
from knowledged.commands.client import Client, RpcError, open_client, status_line
from knowledged.commands.findings import BAD, GOOD, UNUSABLE
from knowledged.commands.trust import Trust, add_trust_arguments, read_trust
from knowledged.ledger import merkle
from knowledged.ledger.checkpoint import Checkpoint, CheckpointError
from knowledged.ledger.checkpoints import open_trusted
from knowledged.ledger.folder import CheckpointFolder, FolderError
from knowledged.ledger.keys import KeyFileError
from knowledged.ledger.merkle import ProofError
from knowledged.settings import Settings

HELP = "keep a server's checkpoints in a folder and prove each consistent with the last"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--once", action="store_true", help="one look, then end")
    parser.add_argument("--interval-seconds", type=float, default=60.0, metavar="N")
    add_trust_arguments(parser)
    client.add_arguments(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    try:
        trust = read_trust(arguments, settings)
        return asyncio.run(_witness(arguments, settings, trust))
    except (ProofError, CheckpointError) as error:
        print(f"knowledged witness: {error}", file=sys.stderr)
        return BAD
    except (KeyFileError, FolderError) as error:
        print(f"knowledged witness: {error}", file=sys.stderr)
        return UNUSABLE
    except RpcError as error:
        print(status_line(error), file=sys.stderr)
        return UNUSABLE


async def _witness(arguments: argparse.Namespace, settings: Settings, trust: Trust) -> int:
    folder = CheckpointFolder(arguments.folder)
    async with open_client(arguments.target, settings, arguments.token_file) as opened:
        while True:
            try:
                print(await _look(opened, folder, trust), flush=True)
            except RpcError as error:
                if arguments.once:
                    raise
                print(status_line(error), file=sys.stderr, flush=True)
            if arguments.once:
                return GOOD
            await asyncio.sleep(arguments.interval_seconds)


async def _look(opened: Client, folder: CheckpointFolder, trust: Trust) -> str:
    """Keeps the server's latest checkpoint; raises ProofError when it does not go on."""
    answer = await opened.call(opened.audit.GetCheckpoint, GetCheckpointRequest())
    note = answer.checkpoint.note
    new = open_trusted(note, trust.keys_of)
    kept = folder.latest()
    if kept is not None:
        old = open_trusted(kept, trust.keys_of)
        if old == new:
            return f"{new.tree_size} leaves, as before"
        await _prove(opened, old, new)
    folder.keep(note)
    return f"{new.tree_size} leaves, root {new.root.hex()}"


async def _prove(opened: Client, old: Checkpoint, new: Checkpoint) -> None:
    if new.origin != old.origin:
        raise CheckpointError(
            f"the log is {new.origin} now and was {old.origin}: it was set back or replaced"
        )
    if new.tree_size < old.tree_size:
        raise ProofError(f"the log had {old.tree_size} leaves and has {new.tree_size} now")
    if not old.tree_size:
        return
    request = GetConsistencyProofRequest(old_tree_size=old.tree_size, new_tree_size=new.tree_size)
    proof = await opened.call(opened.audit.GetConsistencyProof, request)
    sizes, roots = (old.tree_size, new.tree_size), (old.root, new.root)
    merkle.verify_consistency(*sizes, *roots, list(proof.hashes))
