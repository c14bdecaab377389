"""`knowledged verify`: whether an export, or the whole log in its database, is what it says.

Exit codes: 0 it is good; 1 something is wrong, and the first bad index is told; 2 it could not be
verified: a file or key that cannot be used, or no database.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from knowledged.commands.findings import UNUSABLE, show_report
from knowledged.commands.opened_database import opened_database
from knowledged.commands.trust import Trust, add_trust_arguments, read_trust
from knowledged.ledger.database_verification import DatabaseVerification
from knowledged.ledger.export import ExportError
from knowledged.ledger.export_verification import ExportVerification
from knowledged.ledger.folder import FolderError
from knowledged.ledger.keys import KeyFileError
from knowledged.settings import Settings, SettingsError

HELP = "verify the audit log: an export, or where it is stored"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "export", metavar="EXPORT", nargs="?", type=Path, help="a file of JSON lines"
    )
    parser.add_argument(
        "--database",
        action="store_true",
        help="verify what KNOWLEDGED_DATABASE_URL leads to, also what no export can show",
    )
    add_trust_arguments(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    console = Console()
    if arguments.database == (arguments.export is not None):
        raise SettingsError("give either an EXPORT or --database")
    try:
        trust = read_trust(arguments, settings)
        if arguments.database:
            return asyncio.run(_verify_database(console, trust, settings))
        return _verify_export(console, trust, arguments.export)
    except (ExportError, FolderError, KeyFileError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        print(f"knowledged verify: {reason}", file=sys.stderr)
        return UNUSABLE


def _verify_export(console: Console, trust: Trust, export: Path) -> int:
    with export.open("rb") as lines, Progress(console=console, transient=True) as bar:
        task = bar.add_task("verifying", total=None)

        def told(seen: int, due: int) -> None:
            bar.update(task, completed=seen, total=due)

        verification = ExportVerification(trust.keys_of, trust.notes, told=told)
        report = verification.run(lines)
    return show_report(console, report)


async def _verify_database(console: Console, trust: Trust, settings: Settings) -> int:
    async with opened_database(settings) as database:
        verification = DatabaseVerification(database.read, trust.keys_of, trust.notes)
        await _watched(console, verification)
    return show_report(console, verification.report())


async def _watched(console: Console, verification: DatabaseVerification) -> None:
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("verifying", total=None)
        async for progress in verification.run():
            bar.update(task, completed=progress.entries, total=progress.tree_size)
