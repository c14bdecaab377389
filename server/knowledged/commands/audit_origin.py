"""`knowledged audit new-origin`: for a database that was restored to an earlier point."""

import argparse
from getpass import getuser
from pathlib import Path

from knowledged.commands.findings import GOOD
from knowledged.commands.opened_database import opened_database
from knowledged.commands.serve import key_ring
from knowledged.ledger import new_origin
from knowledged.ledger.checkpoints import open_trusted
from knowledged.ledger.folder import read_notes
from knowledged.ledger.note import NoteError, check_name
from knowledged.settings import Settings, SettingsError

HELP = "give the log of a restored database a new name; its next leaf commits to the old log"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("origin", metavar="NAME", help="such as audit.clinic.example/2")
    parser.add_argument(
        "--checkpoint",
        action="append",
        required=True,
        type=Path,
        metavar="PATH",
        help="the old log's last checkpoint, a file of them, or the folder of a witness",
    )


async def begin(arguments: argparse.Namespace, settings: Settings) -> int:
    """The keys that sign must be in the settings: the old checkpoints are checked with them."""
    try:
        check_name(arguments.origin)
    except NoteError as error:
        raise SettingsError(f"NAME: {error}") from error
    keys = key_ring(settings)
    notes = [note for path in arguments.checkpoint for note in read_notes(path)]
    known = [open_trusted(note, keys.trusted) for note in notes]
    async with (
        opened_database(settings) as database,
        database.transaction() as conn,
    ):
        event = await new_origin.begin(conn, arguments.origin, known, getuser())
    print(f"the log is {arguments.origin} from event {event.event_id} on; its keys are:")
    for key in keys.trusted(arguments.origin):
        print(key.encode())
    return GOOD
