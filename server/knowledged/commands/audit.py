"""`knowledged audit`: reads a server's audit log, proves events, names a restored log anew.

Exit codes: 0 done, and what was to be proved is proved; 1 refused, or the proof does not hold; 2 it
could not be tried.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable

from knowledged.commands import audit_origin, audit_proving, audit_reading, client
from knowledged.commands.client import Client, RpcError, open_client, status_line
from knowledged.commands.findings import BAD, UNUSABLE
from knowledged.commands.trust import add_checkpoint_argument, add_key_argument
from knowledged.ledger.checkpoint import CheckpointError
from knowledged.ledger.folder import FolderError
from knowledged.ledger.keys import KeyFileError
from knowledged.ledger.merkle import ProofError
from knowledged.ledger.sequencing import LedgerError
from knowledged.settings import Settings

HELP = "read the audit log, prove events, name a restored log anew"

_Ask = Callable[[Client, argparse.Namespace, Settings], Awaitable[int]]

_ASKING: dict[str, tuple[_Ask, str]] = {
    "list": (audit_reading.list_events, "show the latest events"),
    "tail": (audit_reading.tail_events, "show events as they come"),
    "prove": (audit_proving.prove, "prove that an event is in the signed log"),
    "key": (audit_proving.show_keys, "show the public keys that the server tells"),
    "export": (audit_proving.export, "write the log to a file that `knowledged verify` reads"),
    "verify": (audit_proving.verify, "let the server verify its own log"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own commands and their options."""
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    inner = parser.add_subparsers(dest="audit_command", required=True, metavar="COMMAND")
    parsers = {name: inner.add_parser(name, help=text) for name, (_, text) in _ASKING.items()}
    for each in parsers.values():
        client.add_arguments(each)
    audit_reading.add_arguments(parsers)
    audit_proving.add_arguments(parsers)
    origin = inner.add_parser("new-origin", help=audit_origin.HELP)
    audit_origin.add_arguments(origin)
    add_key_argument(parsers["prove"])
    add_checkpoint_argument(parsers["verify"])


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    try:
        if arguments.audit_command == "new-origin":
            return asyncio.run(audit_origin.begin(arguments, settings))
        return asyncio.run(_ask(arguments, settings))
    except RpcError as error:
        print(status_line(error), file=sys.stderr)
        return BAD
    except (ProofError, CheckpointError) as error:
        print(f"knowledged audit: {error}", file=sys.stderr)
        return BAD
    except (FolderError, KeyFileError, LedgerError) as error:
        print(f"knowledged audit: {error}", file=sys.stderr)
        return UNUSABLE


async def _ask(arguments: argparse.Namespace, settings: Settings) -> int:
    ask, _ = _ASKING[arguments.audit_command]
    async with open_client(arguments.target, settings, arguments.token_file) as opened:
        return await ask(opened, arguments, settings)
