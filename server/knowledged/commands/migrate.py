"""`knowledged migrate`: applies what is pending, or shows what is."""

import argparse
import asyncio

from knowledged import migrate
from knowledged.migrate import State
from knowledged.settings import Settings, SettingsError

HELP = "apply pending migrations as the owner of the database"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--status", action="store_true", help="show every migration and change nothing"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    url = settings.maintenance_database_url or settings.database_url
    if url is None:
        raise SettingsError(
            "KNOWLEDGED_DATABASE_URL is not set; the embedded database migrates by itself"
        )
    dsn = url.get_secret_value()
    return asyncio.run(_show(dsn) if arguments.status else _apply(dsn))


async def _apply(dsn: str) -> int:
    for migration in await migrate.migrate(dsn):
        print(f"applied {migration.label}")
    return 0


async def _show(dsn: str) -> int:
    """1 if the database is not at the state of these files."""
    states = await migrate.status(dsn)
    for each in states:
        print(f"{each.version:04d} {each.name}: {each.state}")
    return 0 if all(each.state is State.APPLIED for each in states) else 1
